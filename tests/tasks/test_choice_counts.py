"""Rows whose numbers of choices differ: filled up in training, scored among their own choices in prediction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import adapterkit as ak
from adapterkit import Base, Registry
from adapterkit.errors import DataError
from adapterkit.options import build
from adapterkit.probe.examples import Examples
from adapterkit.probe.model import Form, ProbeHead
from adapterkit.probe.solver import ScoredModel, loss_of
from adapterkit.tasks import MultipleChoice
from adapterkit.tasks.inputs import inputs_of
from adapterkit.testing import tiny
from tests.helpers.multiple_choice import KEYED, Pairs, fitted, jsonl

Adapt = Callable[..., Result]
FEW = {"question": "Hot?", "choices": {"text": ["ice", "fire"], "label": ["A", "B"]}, "answerKey": "B"}
FULL = {"question": "Cold?", "choices": KEYED, "answerKey": "C"}


def test_rows_may_have_different_numbers_of_choices(tmp_path: Path) -> None:
    task, data = fitted(jsonl(tmp_path / "a.jsonl", FEW, *[FULL] * 9, FEW))
    assert (task.num_choices, task.summary()) == (4, "rows have up to 4 endings")
    (remark,) = task.remarks(data, "a.jsonl", None)
    assert "rows have different numbers of endings (2 of 2, 9 of 4)" in remark
    features = task.tokenize(data[:], tiny.tokenizer(), labelled=True)
    assert [len(ids) for ids in features["input_ids"]] == [4] * 11
    assert [len(ids) for ids in features["input_ids"][0]][2:] == [1, 1]
    assert [len(ids) for ids in task.tokenize(data[:], tiny.tokenizer(), labelled=False)["input_ids"]][:2] == [2, 4]
    assert build(MultipleChoice, task.recorded()) == task


def test_labels_that_are_numbers_and_texts_are_counted(tmp_path: Path) -> None:
    sums = {"question": "One and one?", "choices": ["1", "3", "2"], "label": "1"}
    same = {"question": "One and none?", "choices": ["0", "1", "2"], "label": "1"}
    task, data = fitted(jsonl(tmp_path / "a.jsonl", sums, same, {**sums, "label": "0"}))
    (remark,) = task.remarks(data, "a.jsonl", None)
    assert "a.jsonl: 1 of 3 labels number an ending and are the text of another: they are read as numbers" in remark
    assert task.tokenize(data[:], tiny.tokenizer(), labelled=True)["labels"] == [1, 1, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_over_the_choices_of_each_row(smoothing: float, tiny_base: Base, tmp_path: Path) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    task, data = fitted(jsonl(tmp_path / "a.jsonl", FEW, FULL))
    model = tiny_base.task_model(task.auto_class).eval()
    features = task.tokenize(data[:], tiny_base.tokenizer, labelled=True)
    rows = [{key: features[key][i] for key in features} for i in range(2)]
    both = task.loss(model, task.collate(tiny_base.tokenizer, model)(rows), label_smoothing=smoothing)
    losses = []
    for row, count in zip(rows, (2, 4), strict=True):
        alone = task.collate(tiny_base.tokenizer, model)(
            [{k: v if k == "labels" else v[:count] for k, v in row.items()}]
        )
        logits = model(**{key: value for key, value in alone.items() if key != "labels"}).logits
        losses.append(cross_entropy(logits, alone["labels"], label_smoothing=smoothing))
    assert both.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
    both.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_predictions_are_among_the_choices_that_a_row_has(tmp_path: Path) -> None:
    import numpy as np

    task, data = fitted(jsonl(tmp_path / "a.jsonl", FEW, FULL))
    logits = [np.array([0.0, 1.0, 9.0, 9.0]), np.array([0.0, 0.0, 1.0, 0.0])]  # as of rows that are filled up
    first, second = task.answers(logits, data, None)
    assert (first["key"], first["ending"], second["key"]) == ("B", "fire", "C")
    assert first["score"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert task.metrics(logits, data).values["accuracy"] == 1.0


def test_columns_of_choices_may_be_empty_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,A,B,C,D,answer\nCold?,ice,fire,mud,sky,D\nHot?,ice,fire,,,B\n")
    task, data = fitted(path)
    assert [len(ids) for ids in task.tokenize(data[:], Pairs(), labelled=False)["input_ids"]] == [4, 2]
    inputs = inputs_of(task, {"question": "Hot?", "A": "ice", "B": "fire", "C": None})
    assert [
        len(ids) for ids in task.prompts({key: [value] for key, value in inputs.items()}, Pairs())["input_ids"]
    ] == [2]
    path.write_text("question,A,B,C,D,answer\nCold?,ice,fire,,sky,D\n")
    with pytest.raises(DataError, match=r"a\.csv:2: an ending is empty"):
        fitted(path)


def test_a_run_on_choices_skips_reports_and_predicts(
    tiny_base: Base, registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    full = [{"question": f"Cold {i}?", "choices": KEYED, "answerKey": "ABCD"[i % 4]} for i in range(12)]
    few, bad = FEW, {**FEW, "answerKey": "C"}
    path = jsonl(tmp_path / "a.jsonl", *full, few, bad)
    options = {"strategy": "head-only", "epochs": 1, "train_file": str(path), "name": "a", "skip_bad_rows": True}
    report = ak.run(base=tiny_base, registry=registry, **options)
    assert any("1 bad row skipped" in remark and "at line 14" in remark for remark in report.remarks)
    assert any("rows have different numbers of endings" in remark for remark in report.remarks)
    out = adapt("predict", "a", "--file", jsonl(tmp_path / "p.jsonl", few, full[0]), "--registry", registry.path)
    assert out.exit_code == 0, out.output
    answers = [json.loads(line) for line in out.stdout.splitlines()]
    assert [answer["key"] in row["choices"]["label"] for answer, row in zip(answers, (few, full[0]), strict=True)] == [
        True
    ] * 2


def test_a_probe_sees_no_fillings() -> None:
    import numpy as np
    import torch
    from torch.nn.functional import cross_entropy

    task = MultipleChoice(context_column_name="c", endings_column_name=("e",), label_column_name="l", num_choices=3)
    real = torch.tensor([[True, True, False], [True, True, True]])
    labels = {"labels": torch.tensor([1, 2])}
    examples = Examples(torch.arange(5.0)[:, None], np.ones(5, dtype=int), 3, labels, real)
    head = ProbeHead(task, Form((0,), "mean"), None, width=1)
    scores = torch.tensor([[0.5], [1.0], [2.0], [0.0], [1.0]])
    loss = loss_of(task, head, examples, scores, 0.0)
    expected = [
        cross_entropy(scores[:2].T, torch.tensor([1])),
        cross_entropy(scores[2:].T, torch.tensor([2])),
    ]
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-6)
    assert not (task.outputs(ScoredModel(head, examples, scores), {})[0][2] > -100)


def test_validation_rows_may_have_more_choices_than_training_rows(
    tiny_base: Base, registry: Registry, tmp_path: Path
) -> None:
    full = [{"question": f"Cold {i}?", "choices": KEYED, "answerKey": "ABCD"[i % 4]} for i in range(12)]
    options = {"strategy": "head-only", "head": "probe", "registry": registry, "name": "a"}
    train, validation = jsonl(tmp_path / "a.jsonl", *[FEW] * 12), jsonl(tmp_path / "v.jsonl", *full, FEW)
    report = ak.run(base=tiny_base, train_file=str(train), validation_file=str(validation), **options)
    answers = ak.predict(tiny_base, registry.load("a"), [*full, FEW])
    right = sum(answer["key"] == row["answerKey"] for answer, row in zip(answers, [*full, FEW], strict=True))
    assert report.metrics["validation"]["accuracy"] == pytest.approx(right / 13)
