"""Analyses of predictions: equal to torchmetrics' or to arithmetic."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from adapterkit.report.answers import answers_of
from adapterkit.report.results import Answer, json_schema
from adapterkit.report.tables import (
    calibration,
    errors_by_kind,
    groups_of,
    number_slices,
    sample_rows,
    several_labels,
    slices,
    span_slices,
    tables_of,
)
from adapterkit.tasks import task_class

ROOT = Path(__file__).parents[2]
LABELS = ("a", "b", "c")
Task = task_class("text-classification")


def rows(count: int, **columns: Any) -> datasets.Dataset:
    labels = [LABELS[i % 3] for i in range(count)]
    return datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(count)], "label": labels, **columns})


def single(**options: Any) -> Any:
    return Task(text_column_name=("text",), label_column_name="label", labels=LABELS, **options)


def test_the_calibration_error_equals_torchmetrics() -> None:
    draw = np.random.default_rng(1)
    logits, truth = draw.normal(size=(500, 3)) * 2, draw.integers(0, 3, 500)
    shares = torch.tensor(logits).softmax(-1)
    expected = multiclass_calibration_error(shares, torch.tensor(truth), num_classes=3, n_bins=15)
    sure, guess = (value.numpy() for value in shares.max(-1))
    table = calibration(sure, guess == truth)
    assert table["ece"] == pytest.approx(float(expected), abs=1e-6)
    assert sum(row["rows"] for row in table["calibration"]) == 500


def test_a_classifier_has_its_matrix_its_labels_and_its_calibration() -> None:
    task, data = single(problem_type="single_label_classification"), rows(6)
    logits = [np.eye(3)[i % 3] * 4 for i in range(5)] + [np.array([4.0, 0, 0])]  # the last one should be c
    tables = tables_of(task, task.tables(logits, data), logits, data)
    assert tables["confusion"] == [[0, 0, 2], [1, 1, 2], [2, 0, 1], [2, 2, 1]]
    assert [row["support"] for row in tables["per_label"]] == [2, 2, 2]
    answers = answers_of(task, task.answers(logits, data, None), logits, data)
    assert [answer.right for answer in answers] == [True] * 5 + [False]
    assert answers[0].others["a"] == pytest.approx(np.exp(4) / (np.exp(4) + 2), abs=1e-4)


def test_thresholds_of_several_labels_are_counted() -> None:
    task = single(problem_type="multi_label_classification")
    data = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [["a"], ["a", "b"]]})
    odds = [np.log(np.array(p) / (1 - np.array(p))) for p in ([0.9, 0.4, 0.01], [0.6, 0.2, 0.01])]
    tables = several_labels(task, odds, data)
    assert tables["per_label"][1] == {"label": "b", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert tables["ece"] == pytest.approx((0.1 + 0.4 + 0.01 + 0.4 + 0.8 + 0.01) / 6)  # of 0.8, the answer is wrong
    table = {round(row["threshold"], 2): row for row in tables["thresholds"]}
    assert table[0.5]["precision"] == 1.0
    assert table[0.5]["recall"] == pytest.approx(2 / 3)
    assert table[0.15]["precision"] == pytest.approx(3 / 4)
    assert table[0.15]["exact"] == 0.5
    assert table[0.95]["f1"] == 0.0


def test_errors_of_entities_are_of_four_kinds() -> None:
    labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    truth = ["B-PER", "I-PER", "O", "B-LOC", "O", "B-LOC", "O", "O", "B-PER"]
    guess = ["B-PER", "O", "O", "B-PER", "O", "O", "B-LOC", "O", "B-PER"]
    task = SimpleNamespace(labels=labels, labels_by_row=lambda data: iter([truth]))
    logits = [np.eye(5)[[labels.index(tag) for tag in guess]]]
    table = {row["kind"]: row["count"] for row in errors_by_kind(task, logits, None)}  # type: ignore[arg-type]
    assert table == {"right": 1, "boundary": 1, "type": 1, "missed": 1, "invented": 1}


def test_rows_are_sliced_by_length_by_label_frequency_and_by_other_columns() -> None:
    data = datasets.Dataset.from_dict(
        {
            "text": ["one", "one two", "one two three", "one two three four"],
            "label": ["a", "a", "b", "b"],
            "source": ["web", "web", "mail", None],
            "id": [1, 2, 3, 4],
        }
    )
    train = datasets.Dataset.from_dict({"text": ["x"] * 5, "label": ["a", "a", "a", "a", "b"]})
    groups = groups_of(single(problem_type="single_label_classification"), data, train)
    assert [group["length"] for group in groups] == ["1 words", "2 words", "3 words", "4 words"]
    assert groups[0]["label frequency"] != groups[2]["label frequency"]
    assert [group["source"] for group in groups] == ["web", "web", "mail", "None"]
    table = slices(groups, [Answer("a", right=i < 3) for i in range(4)])
    assert {"slice": "source", "value": "web", "rows": 2, "right": 1.0} in table
    assert {"slice": "source", "value": "None", "rows": 1, "right": 0.0} in table


def test_answers_to_questions_are_measured_by_question_word() -> None:
    groups = [{"question word": "who"}] * 5 + [{"question word": "when"}] * 5 + [{"question word": "why"}]
    texts = ["Ada Lovelace"] * 4 + ["Ada"] + [""] * 5 + ["so"]
    expected = [["Ada Lovelace"]] * 5 + [["1843"]] * 3 + [[""]] * 2 + [["so"]]
    table = span_slices(groups, [Answer(text) for text in texts], expected)
    assert [(row["value"], row["rows"]) for row in table] == [("when", 5), ("who", 5)]
    assert table[0]["exact_match"] == pytest.approx(40.0)  # the two questions without an answer
    assert table[1]["exact_match"] == pytest.approx(80.0)
    assert table[1]["f1"] == pytest.approx(80 + 20 * 2 / 3)


def test_numbers_have_their_errors_by_slice() -> None:
    groups = [{"source": "web"}, {"source": "web"}, {"source": "mail"}]
    table = number_slices(groups, [1.0, -2.0, 0.5])
    assert [(row["value"], row["rows"], row["mean error"]) for row in table] == [("web", 2, -0.5), ("mail", 1, 0.5)]
    assert table[0]["mean absolute error"] == 1.5


def test_a_sample_has_the_most_confident_errors_and_the_rows_of_disagreement() -> None:
    data = rows(2000)
    one = [Answer("a", 0.9, True) for _ in range(2000)]
    two = [Answer("a", 0.9, True) for _ in range(2000)]
    for i in (1500, 1700):
        two[i] = Answer("b", 0.99, False)
    one[10] = Answer("c", 0.5, False)
    sample = sample_rows(single(problem_type="single_label_classification"), data, [one, None, two], [{}] * 2000)
    assert len(sample) == 400
    assert {11, 1501, 1701} <= {row.line for row in sample}
    assert sample[0].answers[1] is None


def test_the_published_schema_is_that_of_the_code() -> None:
    path = ROOT / "docs" / "results.schema.json"
    assert path.read_text() == json_schema(), "python -m adapterkit.report.results > docs/results.schema.json"
