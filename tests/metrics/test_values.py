"""Metrics of numbers equal scipy's."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from adapterkit import metrics
from adapterkit.errors import DataError
from adapterkit.metrics import bootstrap
from tests.helpers.metric_rows import close


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_numbers_are_measured_as_by_scipy(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 60))
    truth = rng.normal(size=n) * scale + rng.integers(0, 3) * scale
    guess = truth * rng.normal() + rng.normal(size=n) * scale
    if seed % 2:  # with ties
        truth, guess = np.round(truth / scale) * scale, np.round(guess / scale) * scale
    truth[0], guess[0] = truth[0] + 2 * scale, guess[0] - 3 * scale  # so that neither is constant
    found = metrics.regression(truth.tolist(), guess.tolist()).values
    assert close(found["pearson"], scipy.stats.pearsonr(truth, guess).statistic)
    assert close(found["spearman"], scipy.stats.spearmanr(truth, guess).statistic)
    assert found["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(truth, guess))


def test_the_resamples_of_correlations_are_those_of_rows_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth = np.round(rng.normal(size=30), 1)
    guess = np.round(truth + rng.normal(size=30), 1)
    kept: dict[str, np.ndarray] = {}
    original = bootstrap.interval_of
    monkeypatch.setattr(
        bootstrap, "interval_of", lambda value, draws: kept.update({str(value): draws}) or original(value, draws)
    )
    found = metrics.regression(truth.tolist(), guess.tolist()).values
    drawn = [np.repeat(np.arange(30), weights.astype(int)) for weights in np.concatenate([*bootstrap._resamples(30)])]
    assert len(drawn) == bootstrap.RESAMPLES
    for name, reference in (("pearson", scipy.stats.pearsonr), ("spearman", scipy.stats.spearmanr)):
        wanted = [reference(truth[rows], guess[rows]).statistic for rows in drawn]
        assert kept[str(found[name])] == pytest.approx(np.array(wanted))


def test_a_correlation_with_a_constant_is_zero() -> None:
    for truth, guess in (([0.1] * 7, [1.0, 2, 3, 4, 5, 6, 7]), ([1.0, 2, 3], [0.3] * 3), ([0.7] * 5, [0.1] * 5)):
        found = metrics.regression(truth, guess)
        for name in ("pearson", "spearman"):
            assert (found.values[name], found.intervals[name]) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_an_error(wrong: float) -> None:
    with pytest.raises(DataError, match=r"prediction 2 of 3 is (nan|inf)"):
        metrics.regression([1.0, 2.0, 3.0], [1.0, wrong, 3.0])
    with pytest.raises(DataError, match=r"likelihood 1 of 1 is (nan|inf)"):
        metrics.perplexity([wrong], [3])


def test_perplexity_is_of_tokens_and_not_of_rows() -> None:
    found = metrics.perplexity([10.0, 2.0, 0.0], [5, 10, 0])
    assert found.values == pytest.approx({"perplexity": math.exp(12 / 15), "loss": 12 / 15})
    assert found.n == 2  # the last has no token
    assert found.intervals["loss"] == pytest.approx((0.2, 2.0))
    assert metrics.perplexity([1e9], [1]).values["perplexity"] == pytest.approx(sys.float_info.max)
