"""The confusion matrix as a table of a terminal: whole, or of many labels the largest errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from adapterkit.workflows.evaluate import EvaluationReport


def report(matrix: list[list[int]] | None, labels: list[str]) -> EvaluationReport:
    tables: dict[str, Any] = {} if matrix is None else {"confusion_matrix": matrix, "labels": labels}
    return EvaluationReport("a", "test", "rows.csv", SimpleNamespace(tables=tables), None, "accuracy")  # type: ignore[arg-type]


def test_few_labels_are_a_matrix() -> None:
    columns, rows = report([[5, 1], [0, 7]], ["no", "yes"]).confusion_table() or ([], [])
    assert columns == ["true / predicted", "no", "yes"]
    assert rows == [["no", "5", "1"], ["yes", ".", "7"]]


def test_of_many_labels_the_largest_errors_are_listed() -> None:
    labels = [f"l{i}" for i in range(12)]
    matrix = [[9 if i == j else 0 for j in range(12)] for i in range(12)]
    matrix[3][4], matrix[7][1], matrix[2][9] = 2, 5, 2
    columns, rows = report(matrix, labels).confusion_table() or ([], [])
    assert columns == ["true", "predicted", "rows", "of"]
    assert rows == [["l7", "l1", "5", "14"], ["l2", "l9", "2", "11"], ["l3", "l4", "2", "11"]]


def test_without_errors_or_without_labels_there_is_none() -> None:
    assert report([[5, 0], [0, 7]], ["no", "yes"]).confusion_table() is None
    assert report(None, []).confusion_table() is None
