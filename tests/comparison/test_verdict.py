"""Paired differences equal scipy's bootstrap; ranks, and what is recommended."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterkit.comparison.verdict import difference, ranked, recommended, sentences
from adapterkit.metrics import classification
from adapterkit.report.results import Candidate, Costs, Measured


def guesses(truth: np.ndarray, accuracy: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.where(draw.random(len(truth)) < accuracy, truth, 1 - truth)


def test_the_interval_of_a_difference_equals_scipys_paired_bootstrap() -> None:
    truth = np.random.default_rng(0).integers(0, 2, 400)
    one, two = guesses(truth, 0.9, 1), guesses(truth, 0.8, 2)
    a, b = classification(truth, one, 2), classification(truth, two, 2)
    gap = difference(b.values["accuracy"], list(b.draws["accuracy"]), a.values["accuracy"], list(a.draws["accuracy"]))
    expected = stats.bootstrap(
        (two == truth, one == truth),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(3),
    ).confidence_interval
    noise = 0.02 / np.sqrt(1000) * 4  # of the ends of 1,000 resamples with a standard error of 0.02
    assert gap.low == pytest.approx(expected.low, abs=4 * noise)
    assert gap.high == pytest.approx(expected.high, abs=4 * noise)
    assert not gap.same


def test_resamples_are_of_the_same_rows() -> None:
    """So the difference to a model that errs on one row more has a small interval, not that of two samples."""
    truth = np.random.default_rng(0).integers(0, 2, 300)
    one = guesses(truth, 0.7, 1)
    two = one.copy()
    two[np.flatnonzero(one == truth)[0]] ^= 1
    a, b = classification(truth, one, 2), classification(truth, two, 2)
    gap = difference(b.values["accuracy"], list(b.draws["accuracy"]), a.values["accuracy"], list(a.draws["accuracy"]))
    assert gap.value == pytest.approx(-1 / 300)
    assert gap.high == pytest.approx(0.0, abs=1e-9)
    assert gap.low > -0.02
    assert gap.same
    low, high = a.intervals["accuracy"]
    assert high - low > 0.08


def test_the_same_answers_cannot_be_distinguished() -> None:
    gap = difference(0.5, [0.4, 0.6], 0.5, [0.4, 0.6])
    assert (gap.low, gap.high, gap.same) == (0.0, 0.0, True)
    assert not difference(0.5, [float("nan")], 0.5, [0.4]).same


def candidate(
    name: str, value: float, nbytes: float, gap: tuple[float, float] | None, kind: str = "strategy"
) -> Candidate:
    made = Candidate(name, kind, metrics={"validation": Measured({"f": value}, {"f": (0.0, 1.0)}, 9)})  # type: ignore[arg-type]
    made.costs = Costs(bytes=nbytes)
    if gap is not None:
        draws = list(np.linspace(*gap, 1000))
        made.differences["validation"] = difference(value, draws, 0.9, [0.0] * 1000)
    return made


def test_the_smallest_that_cannot_be_distinguished_from_the_best_is_recommended() -> None:
    best = candidate("best", 0.9, 1000, None)
    some = [
        candidate("alike", 0.89, 10, (-0.05, 0.03)),
        candidate("worse", 0.7, 1, (-0.3, -0.1)),
        best,
        candidate("words", 0.95, 0, (0.0, 0.1), "baseline"),
        candidate("setfit", 0.94, 0, (0.0, 0.1), "baseline"),
        Candidate("broken", "strategy", error="it failed"),
    ]
    order = ranked(some, "f", lower=False)
    assert [c.name for c in order] == ["words", "setfit", "best", "alike", "worse", "broken"]
    assert recommended(order) == ("best", "alike")
    lines = sentences(order, "f", "validation", "best", "alike", 12.0, lower=False)
    assert lines[0].startswith("Use alike (10 B): on the validation rows it can't be distinguished from the best, best")
    rows = "on the validation rows, no worse than best by more than chance"
    assert any(line.startswith(f"No transformer may be needed: {rows}: words (+0.050 [+") for line in lines)
    assert any(line.startswith(f"Of the other baselines, {rows}: setfit (+0.040 [+") for line in lines)
    assert "broken failed: it failed" in lines
    assert any("saved 12.0 s" in line for line in lines)


def test_of_a_metric_that_is_better_lower_the_lowest_is_the_best() -> None:
    order = ranked([candidate("a", 0.9, 1, None), candidate("b", 0.2, 1, None)], "f", lower=True)
    assert [c.name for c in order] == ["b", "a"]
