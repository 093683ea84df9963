"""Texts for people: curves of a training in a line."""

from __future__ import annotations

import math

import pytest

from adapterkit.display import curve, learning_curves


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0, 2.0, 7.0], "0.000 ▁▂▃█ 7.000"),
        ([2.0, 1.0], "2.000 █▁ 1.000"),
        ([0.5, 0.5, 0.5], "0.500 ▁▁▁ 0.500"),
        ([1.0, math.nan, 2.0], "1.000 ▁!█ 2.000"),
        ([math.inf, math.inf], "inf !! inf"),
    ],
)
def test_a_curve_is_a_line_from_the_first_to_the_last(values: list[float], expected: str) -> None:
    assert curve(values) == expected


def test_curves_are_of_the_loss_and_of_the_metric_that_chose_the_epoch() -> None:
    history = [{"train_loss": 0.7, "accuracy": 0.5, "f1": 0.4}, {"train_loss": 0.1, "accuracy": 0.9, "f1": 0.8}]
    assert learning_curves(history, "accuracy") == [("train_loss", "0.700 █▁ 0.100"), ("accuracy", "0.500 ▁█ 0.900")]
    assert learning_curves(history[:1], "accuracy") == []
