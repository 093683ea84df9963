"""Metrics of numbers: predicted scores, and the likelihood of a text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import DataError
from .bootstrap import Metrics, check_pairs, measure, ratio

if TYPE_CHECKING:
    import numpy as np


def regression(truth: Sequence[float], guess: Sequence[float]) -> Metrics:
    """Measure one number per row: pearson, spearman and mse.

    A correlation with a constant is 0, where scipy gives nan. Raises `DataError` for a number that is not finite.
    """
    check_pairs(truth, guess)
    true, guessed = _finite("truth", truth), _finite("prediction", guess)
    squares = (true - guessed) ** 2
    correlations = _correlations(true, guessed)

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {**correlations(weights), "mse": weights @ squares / len(true)}

    return measure(len(true), scores)


def correlation(truth: Sequence[float], guess: Sequence[float]) -> Metrics:
    """Measure numbers on scales of their own, such as similarities: pearson and spearman, as `regression` does."""
    check_pairs(truth, guess)
    true, guessed = _finite("truth", truth), _finite("prediction", guess)
    return measure(len(true), _correlations(true, guessed))


def _correlations(true: np.ndarray, guessed: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    ranked = [_rank_table(values) for values in (true, guessed)]

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "pearson": _correlation(weights, true, guessed),
            "spearman": _correlation(weights, *(_ranks(weights, *table) for table in ranked)),
        }

    return scores


def perplexity(nll_sums: Sequence[float], token_counts: Sequence[int]) -> Metrics:
    """Measure texts by the negative log-likelihood of their tokens, in nats: perplexity and loss.

    A row is a text: a sum and the number of tokens summed over; rows without a token are ignored. A
    perplexity too large for a float is the largest float.
    """
    import numpy as np

    check_pairs(token_counts, nll_sums)
    sums, counts = _finite("likelihood", nll_sums), np.asarray(token_counts, dtype=float)
    sums, counts = sums[counts > 0], counts[counts > 0]
    most = float(np.log(sys.float_info.max))

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        loss = (weights @ sums) / (weights @ counts)
        return {"perplexity": np.exp(np.minimum(loss, most)), "loss": loss}

    return measure(len(sums), scores)


def _finite(what: str, values: Sequence[float]) -> np.ndarray:
    import numpy as np

    array = np.asarray(values, dtype=float).reshape(-1)
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise DataError(f"{what} {wrong[0] + 1} of {len(array)} is {array[wrong[0]]}, not a number to measure with")
    return array


def _correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of x and y, each (n,) or (draws, n), under weights (draws, n)."""
    import numpy as np

    x, y = _centred(weights, x), _centred(weights, y)
    spread = np.sqrt((weights * x**2).sum(-1)) * np.sqrt((weights * y**2).sum(-1))
    return ratio((weights * x * y).sum(-1), spread).clip(-1.0, 1.0)  # rounding makes it 1 + 2e-16


def _centred(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return x less its mean in each draw, scaled to at most 1; exactly 0 in a draw where x is constant."""
    import numpy as np

    drawn = weights > 0
    low = np.where(drawn, x, np.inf).min(-1, keepdims=True)
    span = np.where(drawn, x, -np.inf).max(-1, keepdims=True) - low
    x = ratio(x - low, span)
    centred: np.ndarray = x - (weights * x).sum(-1, keepdims=True) / weights.sum(-1, keepdims=True)
    return centred


def _rank_table(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order that sorts values, and for each row the index of its value among the distinct ones."""
    import numpy as np

    _, group = np.unique(values, return_inverse=True)
    return np.argsort(group, kind="stable"), group


def _ranks(weights: np.ndarray, order: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the rank, less 1/2, of each row in each draw, (draws, n); equal values share the mean of theirs."""
    import numpy as np

    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    drawn = np.add.reduceat(weights[:, order], starts, axis=-1)  # (draws, distinct values)
    return (drawn.cumsum(-1) - drawn / 2)[:, group]
