"""Degenerate rows, and rows that can not be measured."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from adapterkit import metrics
from adapterkit.errors import DataError

DEGENERATE: dict[str, Callable[[], metrics.Metrics]] = {
    "one label": lambda: metrics.classification([0, 0, 0], [0, 0, 0], 1),
    "one class": lambda: metrics.classification([1, 1, 1], [0, 0, 0], 3),
    "no label at all": lambda: metrics.multilabel(np.zeros((4, 3)), np.zeros((4, 3))),
    "constants": lambda: metrics.regression([2.0, 2.0], [3.0, 3.0]),
    "no entity": lambda: metrics.entities([["O", "O"], ["O"]], [["O", "O"], ["O"]]),
    "no token": lambda: metrics.entities([[], []], [[], []]),
    "all unanswerable": lambda: metrics.squad(["", "x"], [[], []]),
    "empty texts": lambda: metrics.text(["", ""], ["", ""]),
    "empty predictions": lambda: metrics.text(["", ""], ["a b", "c"]),
    "empty references": lambda: metrics.text(["a b", "c"], ["", ""]),
    "likely beyond floats": lambda: metrics.perplexity([1e6, 1e7], [1, 1]),
}


@pytest.mark.parametrize("measured", DEGENERATE.values(), ids=DEGENERATE)
def test_what_is_degenerate_is_defined_and_warns_of_nothing(measured: Callable[[], metrics.Metrics]) -> None:
    with warnings.catch_warnings(action="error"):
        found = measured()
    for name, value in found.values.items():
        assert math.isfinite(value)
        assert all(math.isfinite(end) for end in found.intervals[name])


def test_degenerate_values() -> None:
    assert set(DEGENERATE["one label"]().values.items()) == {
        *(("accuracy", 1.0), ("f1_macro", 1.0), ("f1_micro", 1.0), ("matthews", 0.0))
    }
    assert set(DEGENERATE["one class"]().values.values()) == {0.0}
    assert DEGENERATE["no entity"]().values == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 1.0}
    assert DEGENERATE["all unanswerable"]().values == {"exact_match": 50.0, "f1": 50.0}
    assert DEGENERATE["empty texts"]().values["exact_match"] == 100.0


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (lambda: metrics.classification([], [], 2), "there are no rows to measure on"),
        (lambda: metrics.perplexity([0.0], [0]), "there are no rows to measure on"),
        (lambda: metrics.text([], []), "there are no rows"),
        (lambda: metrics.squad([], []), "there are no rows"),
        (lambda: metrics.entities([], []), "there are no rows"),
        (lambda: metrics.best_threshold([], [], []), "there are no rows"),
        (lambda: metrics.classification([0, 1], [0], 2), "1 predictions for 2 rows"),
        (lambda: metrics.classification([0, 2], [0, 1], 2), "labels from 0 to 2, but there are 2"),
        (lambda: metrics.classification([0, -100], [0, 1], 2), "labels from -100 to 1"),
        (
            lambda: metrics.multilabel(np.zeros((2, 3)), np.zeros((2, 4))),
            r"shape \(2, 4\) for labels of shape \(2, 3\)",
        ),
        (lambda: metrics.entities([["O"], ["O", "O"]], [["O"], ["O"]]), "row 2: 1 predicted tags for 2"),
        (lambda: metrics.text(["a"], ["a", "b"]), "1 predictions for 2 rows"),
    ],
)
def test_what_cant_be_measured_is_an_error(measured: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        measured()


def test_importing_metrics_is_cheap() -> None:
    heavy = "{'numpy', 'scipy', 'sklearn', 'torch', 'transformers', 'sacrebleu'}"
    code = f"import adapterkit.metrics, sys; heavy = {heavy} & set(sys.modules); assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_are_printed_in_one_line_and_as_a_small_table() -> None:
    found = metrics.Metrics({"accuracy": 0.93333, "<b>": 1.0}, {"accuracy": (0.8833, 0.975)}, 1200)
    assert repr(found) == "accuracy 0.933 [0.883, 0.975], <b> 1.000 (1,200 rows)"
    assert found.describe("test").endswith("(test, 1,200 rows)")
    table = found._repr_html_()
    assert "<td>0.8833 to 0.9750</td>" in table
    assert "<b>" not in table
