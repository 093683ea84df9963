"""Metrics and their bootstrap intervals: rows are resampled by weights, not by copies.

A family of metrics reduces each row to a few numbers once. A resample is then a vector of weights, how often each row
was drawn, and all resamples are one product of matrices.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    import numpy as np

    # weights of the rows, (draws, n), to the value of each metric under them, (draws,)
    Scores = Callable[[np.ndarray], Mapping[str, np.ndarray]]

RESAMPLES = 1000
SEED = 0
BLOCK = 1 << 20  # weights held in memory at once, 8 MB


@dataclass(frozen=True, repr=False)
class Metrics:
    """Metrics by name, the 95 % interval of each, and the number of rows they were measured on.

    The same rows give the same numbers. `dataclasses.asdict` makes JSON of it. `notes` are remarks on how texts were
    split into words, and which metrics were left out because they would see nothing.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    n: int
    notes: tuple[str, ...] = ()

    @property
    def draws(self) -> Mapping[str, np.ndarray]:
        """Each metric in each resample, (resamples,); the same rows are drawn for the same number of rows.

        Empty for metrics that weren't measured in one go.
        """
        draws: Mapping[str, np.ndarray] = self.__dict__.get("_draws", {})
        return draws

    def describe(self, split: str = "") -> str:
        """Return the metrics in one line.

        >>> Metrics({"accuracy": 0.933}, {"accuracy": (0.883, 0.975)}, 120).describe("test")
        'accuracy 0.933 [0.883, 0.975] (test, 120 rows)'
        """
        parts = [
            f"{name} {value:.3f}{self._interval(name, ' [{:.3f}, {:.3f}]')}" for name, value in self.values.items()
        ]
        return f"{', '.join(parts)} ({f'{split}, ' if split else ''}{self.n:,} rows)"

    def html(self, title: str = "") -> str:
        """Return the metrics as an HTML table with a row for each."""
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{value:.4f}</td>"
            f"<td>{self._interval(name, '{:.4f} to {:.4f}')}</td></tr>"
            for name, value in self.values.items()
        )
        head = f"<tr><th>{html.escape(title or 'metric')}</th><th>value</th><th>95 % interval</th></tr>"
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table><p>{self.n:,} rows</p>{notes}"

    def _interval(self, name: str, form: str) -> str:
        return form.format(*self.intervals[name]) if name in self.intervals else ""

    def __repr__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        return self.html()


def measure(n: int, scores: Scores, *, notes: Sequence[str] = ()) -> Metrics:
    """Return what `scores` returns for `n` rows, with bootstrap intervals.

    Raises `DataError` where there are no rows.
    """
    import numpy as np

    if not n:
        raise DataError("there are no rows to measure on")
    values = {name: float(value[0]) for name, value in scores(np.ones((1, n))).items()}
    blocks = [scores(weights) for weights in _resamples(n)]
    draws = {name: np.concatenate([block[name] for block in blocks]) for name in values}
    intervals = {name: interval_of(values[name], draws[name]) for name in values}
    return with_draws(Metrics(values, intervals, n, tuple(notes)), draws)


def with_draws(metrics: Metrics, draws: Mapping[str, np.ndarray]) -> Metrics:
    """Set the resamples of metrics, which are no field: `dataclasses.asdict` makes JSON of the others."""
    metrics.__dict__["_draws"] = dict(draws)
    return metrics


def merged(a: Metrics, b: Metrics) -> Metrics:
    """Return the metrics of both, measured on the same rows."""
    both = Metrics(a.values | b.values, a.intervals | b.intervals, b.n, a.notes + b.notes)
    return with_draws(both, {**a.draws, **b.draws})


def mean_of(several: Sequence[Metrics]) -> Metrics:
    """Return the mean of metrics of the same rows, and of the ends of their intervals."""
    first, count = several[0], len(several)
    values = {name: sum(m.values[name] for m in several) / count for name in first.values}
    intervals = {
        name: (sum(m.intervals[name][0] for m in several) / count, sum(m.intervals[name][1] for m in several) / count)
        for name in first.intervals
    }
    return Metrics(values, intervals, first.n, tuple(dict.fromkeys(note for m in several for note in m.notes)))


def _resamples(n: int) -> Iterator[np.ndarray]:
    """Yield blocks of weights, (draws, n), `RESAMPLES` draws in all."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    size = max(1, BLOCK // n)
    for start in range(0, RESAMPLES, size):
        draws = min(size, RESAMPLES - start)
        rows = rng.integers(0, n, size=(draws, n)) + n * np.arange(draws)[:, None]
        yield np.bincount(rows.ravel(), minlength=draws * n).reshape(draws, n).astype(float)


def interval_of(value: float, draws: np.ndarray) -> tuple[float, float]:
    """Return the bias-corrected percentile interval (Efron 1981), widened where it would leave out the value.

    A resample lacks some of the rare labels, so its macro F1 is too low on average. With 77 labels on 3,000 rows plain
    percentiles held the true macro F1 in 85 of 100 trials, these in 98.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    below = (draws < value).mean() + (draws == value).mean() / 2
    shift = 2 * ndtri(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
    low, high = np.quantile(draws, ndtr(shift + np.array([-1.96, 1.96])))
    return min(float(low), value), max(float(high), value)


def ratio(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Divide, and return 0 where there is nothing to divide by."""
    import numpy as np

    part, total = np.broadcast_arrays(part, total)
    quotient: np.ndarray = np.divide(part, total, out=np.zeros(part.shape), where=total != 0)
    return quotient


def check_pairs(truth: Sized, guess: Sized) -> None:
    """Raise `DataError` unless there is one prediction for each row."""
    if len(truth) != len(guess):
        raise DataError(f"{len(guess)} predictions for {len(truth)} rows")
