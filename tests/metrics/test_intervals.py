"""Confidence intervals of every metric contain what they claim."""

from __future__ import annotations

import dataclasses
import json
import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics

from adapterkit import metrics
from adapterkit.metrics import bootstrap
from tests.helpers.metric_rows import tag_soup


def classified(n: int) -> metrics.Metrics:
    rng = np.random.default_rng(n)
    truth = rng.integers(0, 5, n)
    return metrics.classification(truth.tolist(), np.where(rng.random(n) < 0.8, truth, 0).tolist(), 5)


def multiply_labelled(n: int) -> metrics.Metrics:
    rng = np.random.default_rng(n)
    truth = rng.random((n, 4)) < 0.3
    return metrics.multilabel(truth, truth ^ (rng.random((n, 4)) < 0.1))


def numbered(n: int) -> metrics.Metrics:
    rng = np.random.default_rng(n)
    truth = rng.normal(size=n)
    return metrics.regression(truth.tolist(), (truth + rng.normal(size=n)).tolist())


def tagged(n: int) -> metrics.Metrics:
    rng = random.Random(n)
    truth = tag_soup(rng, "OOBII", n)
    return metrics.entities(truth, [row if rng.random() < 0.6 else rng.sample(row, len(row)) for row in truth])


def answered(n: int) -> metrics.Metrics:
    rng = random.Random(n)
    answers = [rng.choice([[], ["a grey cat"], ["the dog", "a small dog"]]) for _ in range(n)]
    return metrics.squad([rng.choice(["", "cat", "small dog"]) for _ in range(n)], answers)


WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "dog"]


def written(n: int) -> metrics.Metrics:
    rng = random.Random(n)
    references = [" ".join(rng.choices(WORDS, k=8)) for _ in range(n)]
    return metrics.text([text.replace(rng.choice("aot"), "e", rng.randint(0, 2)) for text in references], references)


def likely(n: int) -> metrics.Metrics:
    rng = np.random.default_rng(n)
    counts = rng.integers(1, 30, n)
    return metrics.perplexity((counts * rng.gamma(3, size=n)).tolist(), counts.tolist())


FAMILIES = [classified, multiply_labelled, numbered, tagged, answered, written, likely]


families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


@families
@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_an_interval_holds_its_value_and_all_is_finite_json(family: Callable[[int], metrics.Metrics], n: int) -> None:
    with warnings.catch_warnings(action="error"):
        found = family(n)
    assert found.n == n
    assert list(found.values) == list(found.intervals)
    for name, value in found.values.items():
        low, high = found.intervals[name]
        assert low <= value <= high
        assert n > 1 or (low, high) == pytest.approx((value, value))
    again = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert again["values"] == found.values


@families
def test_intervals_shrink_as_rows_grow(family: Callable[[int], metrics.Metrics]) -> None:
    few, many = family(60), family(960)
    for name, (low, high) in many.intervals.items():
        assert 0 < high - low < 0.6 * (few.intervals[name][1] - few.intervals[name][0]), name  # a quarter is expected


@families
def test_the_same_rows_give_the_same_intervals(
    family: Callable[[int], metrics.Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = family(50)
    assert family(50) == first
    monkeypatch.setattr(bootstrap, "BLOCK", 120)  # two draws at a time
    for name, interval in family(50).intervals.items():
        assert interval == pytest.approx(first.intervals[name], rel=1e-12), name


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_about_95_of_100_intervals_hold_the_true_accuracy(accuracy: float) -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        right = rng.random(200) < accuracy
        low, high = metrics.classification([1] * 200, right.astype(int).tolist(), 2).intervals["accuracy"]
        held += low <= accuracy <= high
    assert 180 <= held <= 198


@pytest.mark.slow
def test_most_intervals_hold_a_macro_f1_of_rare_labels_which_resamples_underrate() -> None:
    rng = np.random.default_rng(6)
    share = 1 / np.arange(1, 78)
    share /= share.sum()

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.choice(77, n, p=share)
        return truth, np.where(rng.random(n) < 0.85, truth, rng.integers(0, 77, n))

    true = sklearn.metrics.f1_score(*draw(1_000_000), average="macro")
    intervals = [metrics.classification(*draw(1000), 77).intervals["f1_macro"] for _ in range(60)]
    assert sum(low <= true <= high for low, high in intervals) >= 42  # about 49; of plain percentiles about 32


def test_an_interval_holds_its_value_where_no_draw_reaches_it() -> None:
    assert bootstrap.interval_of(1.0, np.linspace(0.0, 0.5, 1000)) == pytest.approx((0.5, 1.0), abs=1e-3)
    assert bootstrap.interval_of(0.0, np.linspace(0.5, 1.0, 1000)) == pytest.approx((0.0, 0.5), abs=1e-3)


def test_a_rare_label_that_a_draw_lacks_is_no_mistake() -> None:
    assert metrics.multilabel(np.eye(50), np.eye(50)).intervals["f1_macro"] == pytest.approx((1.0, 1.0))
