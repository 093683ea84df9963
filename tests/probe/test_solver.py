"""The solver of linear probes equals scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression, Ridge

from adapterkit import Base, Pool, Registry, predict, run
from adapterkit.probe import few_texts, search, solver
from adapterkit.probe.examples import Examples
from adapterkit.probe.model import Form, ProbeHead
from adapterkit.tasks import Task
from tests.helpers import tolerance
from tests.helpers.probes import task_of
from tests.helpers.rows import ASK, ROWS
from tests.helpers.task_plans import plan
from tests.helpers.watches import Notes


def test_scores_of_standardised_features_are_those_of_a_standardised_copy() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=generator) * torch.arange(1, 7) + 5
    weights = torch.randn(3, 7, generator=generator)
    mean, scale = x.mean(0), x.std(0)
    lazy = Examples(x, np.ones(50, dtype=int), None, {}).standardised(mean, scale)
    wanted = (x - mean) / scale @ weights[:, :-1].T + weights[:, -1]
    torch.testing.assert_close(lazy.scores(weights), wanted, atol=1e-5, rtol=1e-5)
    weight, bias = lazy.unscaled(weights)
    torch.testing.assert_close(x @ weight.T + bias, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "scores", "tried", "best"),
    [
        (20, [1.0] * 11, 4, 1.0),  # the nearest to 0.1 with what is beside it; of equals the highest
        (20, list(range(11)), 11, 1e-6),  # further down while each is better
        (2000, [5, 4, 3, 2, 6, 7, 1], 7, 0.1),  # from 0.01, and further up
        (2000, [1, 2, 3, 4, 4], 5, 3e-4),
        (2000, [1, 5, 3, 2], 4, 3e-3),  # the best is between others
    ],
)
def test_penalties_are_tried_in_the_direction_in_which_they_are_better(
    rows: int, scores: list[float], tried: int, best: float
) -> None:
    task = task_of(labels=("a", "b"))
    head = ProbeHead(task, Form((0,), "mean"), made_config(2, task), width=3)
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0))
    examples = Examples(x, np.ones(rows, dtype=int), None, {"labels": (x[:, 0] > 0).long()})
    count = 0

    def judge(*_: object) -> float:
        nonlocal count
        count += 1
        return float(scores[count - 1])

    found = solver.fit(task, head, examples, examples, judge)
    assert count == tried
    assert found.penalty == best


def test_a_fit_from_weights_ends_where_one_from_zeros_does() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(loc=3, scale=2, size=(300, 12)).astype("float32")
    y = (x @ generator.normal(size=(12, 3)) + 8 * generator.normal(size=(300, 3))).argmax(-1)
    task = task_of(labels=("a", "b", "c"))
    head = ProbeHead(task, Form((0,), "mean"), made_config(3, task), width=12)
    examples = Examples(torch.from_numpy(x), np.ones(300, dtype=int), None, {"labels": torch.from_numpy(y)})
    first = solver.fit(task, head, examples, examples, lambda *_: 0.0, penalties=[1e-2])
    again = solver.fit(task, head, examples, examples, lambda *_: 0.0, penalties=[1e-2], start=first)
    other = solver.fit(task, head, examples, examples, lambda *_: 0.0, penalties=[1.0], start=first)
    torch.testing.assert_close(again.weight, first.weight, atol=1e-2, rtol=1e-2)
    assert again.loss <= first.loss + 1e-6
    assert other.loss > first.loss + 1e-2


def test_layers_side_by_side_are_one_linear_map_of_all(
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where two layers say more than each of them, they are taken together; saved and loaded, and in a pool."""
    base = base_for("bert", "text-classification")
    values = iter([0.5, 0.5, 0.5, 1.0, 1.0])
    real = solver.fit

    def better(*args: Any, **kwargs: Any) -> solver.Solved:
        return replace(real(*args, **kwargs), value=next(values))

    monkeypatch.setattr(search, "fit", better)
    monkeypatch.setattr(search, "POOLINGS", ("mean",))
    monkeypatch.setattr(few_texts, "MOST_TEXTS", 0)
    rows = rows_of("text-classification", 24)
    report = run(plan("text-classification", rows, "head-only"), registry, base=base)
    assert len(report.adapter.manifest["probe"]["layers"]) == 3
    adapter = registry.load("tiny")
    (weight,) = (t for name, t in adapter.tensors.items() if name.endswith("weight"))
    assert weight.shape == (2, 3 * base.model.config.hidden_size)
    asked = [ASK["text-classification"]]
    with Pool(base, {"tiny": adapter}) as pool:
        expected = predict(base, adapter, asked)
        assert pool.predict(asked, adapter="tiny") == tolerance.near(expected, tolerance.of_base(base))


@pytest.mark.parametrize("labels", ["ab", "abc", ["a", "bc"]], ids=["two", "three", "several"])
def test_a_head_of_labels_starts_solved(
    labels: Any,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    registry: Registry,
) -> None:
    several = isinstance(labels, list)
    of = (lambda i: list(labels[i % 2])) if several else (lambda i: labels[i % len(labels)])
    row = ROWS["text-classification"]
    file = rows_of("text-classification", 24, lambda i: {**row(i), "label": of(i)})
    notes = Notes()
    run(plan("text-classification", file, "lora"), registry, base=base_for("bert", "text-classification"), watch=notes)
    assert "head" in notes.heard


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_weights_are_scikit_learns(penalty: float) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 12)).astype("float32")
    y = (x @ generator.normal(size=(12, 3)) + generator.normal(size=(300, 3))).argmax(-1)
    task = task_of(labels=("a", "b", "c"))
    head = ProbeHead(task, Form((0,), "mean"), made_config(3, task), width=12)
    examples = Examples(torch.from_numpy(x), np.ones(300, dtype=int), None, {"labels": torch.from_numpy(y)})
    flat = solver.minimise_loss(task, head, examples, np.zeros(39), penalty, 0.0).x.reshape(3, 13)
    reference = LogisticRegression(C=1 / (penalty * 300), tol=1e-8, max_iter=10_000).fit(x, y)
    shares = np.exp(x @ flat[:, :-1].T + flat[:, -1])
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(shares, reference.predict_proba(x), atol=2e-3)
    np.testing.assert_allclose(flat[:, :-1], reference.coef_, atol=2e-2)


def test_a_number_is_ridge_regression() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 5)).astype("float32")
    y = (x @ generator.normal(size=5) + 3 + 0.1 * generator.normal(size=200)).astype("float32")
    task = task_of(problem_type="regression")
    head = ProbeHead(task, Form((0,), "mean"), made_config(1, task), width=5)
    examples = Examples(torch.from_numpy(x), np.ones(200, dtype=int), None, {"labels": torch.from_numpy(y)})
    flat = solver.minimise_loss(task, head, examples, np.zeros(6), 1e-2, 0.0).x
    reference = Ridge(alpha=1e-2 / 2 * 200).fit(x, y)
    np.testing.assert_allclose(flat[:-1], reference.coef_, atol=1e-3)
    assert flat[-1] == pytest.approx(reference.intercept_, abs=1e-3)


def made_config(labels: int, task: Task) -> Any:
    import transformers

    return transformers.BertConfig(num_labels=labels, problem_type=getattr(task, "problem_type", None))


def test_the_optimism_of_a_choice_is_reported() -> None:
    """The best of forty random answers is above chance on the rows that chose it, and at chance on others."""
    draw, count = np.random.default_rng(0), 100
    data = Dataset.from_dict({"text": ["t"] * count, "label": ["a", "b"] * (count // 2)})
    judge = solver.Judge(task_of(labels=("a", "b")), data, data)
    judge.candidates = [list(draw.normal(size=(count, 2))) for _ in range(40)]
    best = max(judge.task.metrics(c, data).values["accuracy"] for c in judge.candidates)
    remark = judge.optimism()
    assert "layers, pooling and penalty are the best of 40 on the validation rows" in remark
    nested = float(remark.split("accuracy is ")[1].split()[0])
    assert best > 0.58
    assert nested < best - 0.05
    few = data.select(range(12))
    judge = solver.Judge(judge.task, few, few)
    assert judge.optimism().endswith("and their metrics are too high for new rows")
