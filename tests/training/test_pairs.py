"""Training on pairs of texts: its loss, its batches, and what falls back to the task's loss."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapterkit import Base, Plan, Pool, Registry, Report, predict, run
from adapterkit.data.splits import demo_files
from adapterkit.strategy import PairTraining
from adapterkit.training.pairs import pair_batches, pair_loss
from tests.helpers.adapters import TEXTS
from tests.helpers.pooled import same
from tests.helpers.watches import Notes


def few_shot(file: Path, registry: Registry, base: Base, notes: Notes | None = None, **options: Any) -> Report:
    values = {"train_file": str(file), "name": "few", "strategy": "few-shot", "passes": 4, "lr": 1e-2}
    return run(Plan.resolve(values | options), registry, base=base, watch=notes)


def test_the_loss_is_that_of_all_pairs_one_by_one() -> None:
    vectors, labels = torch.randn(7, 5, generator=torch.manual_seed(0)), torch.tensor([0, 0, 1, 1, 1, 2, 0])
    errors: dict[bool, list[float]] = {True: [], False: []}
    for i in range(7):
        for j in range(i):
            same = bool(labels[i] == labels[j])
            errors[same].append(float((torch.cosine_similarity(vectors[i], vectors[j], dim=0) - float(same)) ** 2))
    expected = (np.mean(errors[True]) + np.mean(errors[False])) / 2
    assert float(pair_loss(vectors, labels)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_one_label_or_of_no_pair_is_finite() -> None:
    vectors = torch.randn(3, 5)
    assert float(pair_loss(vectors, torch.zeros(3))) > 0
    assert float(pair_loss(vectors[:1], torch.zeros(1))) == 0


@pytest.mark.parametrize(("labels", "rows"), [(2, 16), (7, 8), (77, 8), (3, 1)])
def test_texts_of_a_batch_share_labels_and_all_texts_have_their_turn(labels: int, rows: int) -> None:
    of_each = [i % labels for i in range(labels * rows)]
    batches = list(pair_batches(of_each, PairTraining(passes=4, batch_texts=32), seed=1))
    assert len(batches) == 4 * -(-len(of_each) // 32)
    turns = Counter(i for batch in batches for i in batch)
    assert set(turns) == set(range(len(of_each)))
    for batch in batches:
        assert len(batch) == len(set(batch))
        if rows > 1:
            assert min(Counter(of_each[i] for i in batch).values()) > 1
    assert batches == list(pair_batches(of_each, PairTraining(passes=4, batch_texts=32), seed=1))


def test_vectors_of_a_label_become_alike_and_the_head_is_solved(
    small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    notes = Notes()
    report = few_shot(small_csv, registry, tiny_base, notes, passes=16)
    assert notes.heard["head"] == "mean of layer 3: a linear probe of all training rows"
    shorter = few_shot(small_csv, registry, tiny_base, passes=1)
    assert report.history[0]["train_loss"] < shorter.history[0]["train_loss"]
    assert "probe" in report.adapter.manifest
    assert report.metrics["train"]["accuracy"] > 0.9


def test_the_same_run_is_the_same_adapter(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    versions = {few_shot(small_csv, registry, tiny_base).version for _ in range(2)}
    assert len(versions) == 1


def test_a_pool_answers_as_the_adapter_does_alone(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    few_shot(small_csv, registry, tiny_base)
    other = {"train_file": str(small_csv), "name": "other", "strategy": "lora", "num_train_epochs": 2}
    run(Plan.resolve(other), registry, base=tiny_base)
    names = ("few", "other")
    with Pool(tiny_base, {name: registry.load(name) for name in names}) as pool:
        answers = pool.predict([t for t in TEXTS for _ in names], adapter_of_each=list(names) * len(TEXTS))
    alone = predict(tiny_base, registry.load("few"), [{"text": text} for text in TEXTS])
    same(list(answers[::2]), list(alone))


@pytest.mark.parametrize("options", [{"head": "model"}, {"label_separator": "|"}])
def test_elsewhere_the_tasks_loss_is_trained(
    options: dict[str, Any], small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    notes = Notes()
    report = few_shot(small_csv, registry, tiny_base, notes, num_train_epochs=2, **options)
    assert "the task's loss is trained" in notes.heard["pairs"]
    assert len(report.history) == 2


@pytest.mark.parametrize(
    ("strategy", "rows", "more", "expected"),
    [
        ("layerwise", 24, {}, True),
        ("layerwise", 6, {}, False),
        ("layerwise", 24, {"head": "model", "num_train_epochs": 1}, False),
        ("few-shot", 24, {"passes": 1}, False),
        ("head-only", 24, {}, False),  # which does as well on some data
    ],
)
def test_a_run_on_few_rows_of_a_label_suggests_it(
    strategy: str, rows: int, more: dict[str, Any], expected: bool, minilm: Base, registry: Registry, tmp_path: Path
) -> None:
    header, *lines = Path(demo_files("sentiment")["train"]).read_text().splitlines()
    file = tmp_path / "rows.csv"
    file.write_text("\n".join([header, *lines[:rows]]))
    values = {"train_file": str(file), "name": "few", "strategy": strategy}
    report = run(Plan.resolve(values | more), registry, base=minilm)
    advice = f"{rows} rows of 2 labels: of so few, few-shot often learns more; try adapt run --strategy few-shot "
    assert any(remark.startswith(advice) for remark in report.remarks) == expected, report.remarks
