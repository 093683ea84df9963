"""Search for a learning rate by a range test: some steps of training, each at a higher rate than the one before.

The loss falls once the rate is high enough to learn and rises once it is too high (Smith 2015, arXiv:1506.01186); a
good rate to train at lies well below the one at which it is lowest, by a factor of ten as fastai has it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from ..watch import Watch

SHARE = 0.12
"""What share of a run's steps the test takes."""
LEAST = 30
"""How many steps it has at least."""
LOWEST, HIGHEST = 1 / 30, 100.0
"""Where it begins and ends, in shares of the strategy's rate."""
BELOW = 10.0
"""By what factor the rate to train at lies below that of the lowest loss."""

_SURE = 4.0  # standard errors by which the loss has to fall

Losses = Callable[[float, float], Iterable[float]]
"""Train from the start at a rate, times a factor from step to step; yield the losses as far as they are finite."""


def search(default: float, steps: int, losses: Losses, watch: Watch) -> float:
    """Return a good rate for a run of so many steps: `default`, where they are too few to tell, or tell nothing."""
    count = int(SHARE * steps)
    if count < LEAST or not default:
        why = f"{SHARE:.0%} of {steps:,} steps are too few to search" if default else "0 has no rates around it"
        watch.note("rate", f"{default:.3g}, the strategy's own: {why}")
        return default
    first, factor = default * LOWEST, math.pow(HIGHEST / LOWEST, 1 / (count - 1))
    seen: list[float] = []
    with watch.bar("searching a rate", count) as bar:
        for loss in itertools.islice(losses(first, factor), count):
            bar.advance(loss=loss, learning_rate=first * math.pow(factor, len(seen)))
            seen.append(loss)
    tried = f"{len(seen)} steps at {first:.2g} to {first * math.pow(factor, len(seen) - 1):.2g}"
    at = lowest(seen, max(3, count // 12))
    if at is None:
        watch.note("rate", f"{default:.3g}, the strategy's own: nothing was learned in {tried}")
        return default
    best = first * math.pow(factor, at)
    watch.note("rate", f"{best / BELOW:.3g}, found in {tried}; the loss was lowest at {best:.2g}")
    return best / BELOW


def lowest(losses: Sequence[float], width: int) -> float | None:
    """Return around which step the mean of `width` losses is lowest, or None where it is hardly lower than at first.

    How far losses spread is told from one to the next, so that a fall over many steps counts for nothing.

    >>> lowest([5, 5.1, 5, 4, 3, 2, 1, 1.1, 1, 4, 9], 3)
    7.0
    """
    if len(losses) <= 2 * width:
        return None
    means = [statistics.fmean(losses[i : i + width]) for i in range(len(losses) - width + 1)]
    between = [abs(a - b) for a, b in itertools.pairwise(losses)]
    spread = statistics.median(between) / (0.6745 * math.sqrt(2))  # as of a normal distribution
    if means[0] - min(means) <= _SURE * spread / math.sqrt(width):
        return None
    return means.index(min(means)) + (width - 1) / 2
