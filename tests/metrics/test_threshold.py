"""The threshold of SQuAD 2.0 by hand: equal scores are answered together, and the best f1 may be that of no answer."""

from __future__ import annotations

from adapterkit import metrics

ANSWERS = [["yes"], ["yes"], [], []]
"""Two questions that have the answer "yes", and two that have none."""


def test_equal_scores_are_on_one_side_of_the_threshold() -> None:
    # answering the first two would be right for all four rows, but three scores are equal
    threshold, found = metrics.best_threshold([0.0, 1.0, 1.0, 1.0], ["yes"] * 4, ANSWERS)
    assert 0.0 <= threshold < 1.0
    assert found.values["f1"] == 75.0


def test_different_scores_are_separated() -> None:
    threshold, found = metrics.best_threshold([0.0, 1.0, 2.0, 3.0], ["yes"] * 4, ANSWERS)
    assert 1.0 <= threshold < 2.0
    assert found.values["f1"] == 100.0


def test_nothing_is_answered_where_each_answer_is_wrong() -> None:
    threshold, found = metrics.best_threshold([-2.0, -1.0], ["no", "no"], [[], []])
    assert threshold < -2.0
    assert found.values["f1"] == 100.0


def test_all_is_answered_where_each_answer_is_right() -> None:
    threshold, found = metrics.best_threshold([5.0, 3.0], ["yes", "yes"], [["yes"], ["yes"]])
    assert threshold >= 5.0
    assert found.values["f1"] == 100.0
