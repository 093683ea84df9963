"""Search for a learning rate by a range test: some steps of training, each at a higher rate than the one before.

The loss falls once the rate is high enough to learn and rises once it is too high (Smith 2015, arXiv:1506.01186); a
good rate for training is well below the one at which it is lowest, by a factor of ten as fastai has it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from ..watch import Watch

SHARE = 0.12
"""The fraction of a run's steps that the test takes."""
LEAST = 30
"""The least number of steps of a test."""
LOWEST, HIGHEST = 1 / 30, 100.0
"""The first and last rate, as multiples of the strategy's."""
BELOW = 10.0
"""The factor between the rate of the lowest loss and the rate to train at."""

_SURE = 4.0  # standard errors by which the loss has to fall

Losses = Callable[[float, float], Iterable[float]]
"""Train at a rate that grows by a factor from step to step; yield the losses as long as they are finite."""


def search(default: float, steps: int, losses: Losses, watch: Watch) -> float:
    """Return a good rate for a run of `steps` steps, `default` where they are too few or the loss doesn't fall."""
    count = int(SHARE * steps)
    if count < LEAST or not default:
        why = (
            f"{SHARE:.0%} of {steps:,} steps are too few for a search"
            if default
            else "a rate of 0 can't be searched around"
        )
        watch.note("rate", f"{default:.3g}, the strategy's: {why}")
        return default
    first, factor = default * LOWEST, math.pow(HIGHEST / LOWEST, 1 / (count - 1))
    losses_so_far: list[float] = []
    with watch.bar("searching a learning rate", count) as bar:
        for loss in itertools.islice(losses(first, factor), count):
            bar.advance(loss=loss, learning_rate=first * math.pow(factor, len(losses_so_far)))
            losses_so_far.append(loss)
    tried = f"{len(losses_so_far)} steps at {first:.2g} to {first * math.pow(factor, len(losses_so_far) - 1):.2g}"
    step = lowest(losses_so_far, max(3, count // 12))
    if step is None:
        watch.note("rate", f"{default:.3g}, the strategy's: the loss didn't fall in {tried}")
        return default
    best = first * math.pow(factor, step)
    watch.note("rate", f"{best / BELOW:.3g}, searched in {tried}; the loss was lowest at {best:.2g}")
    return best / BELOW


def lowest(losses: Sequence[float], width: int) -> float | None:
    """Return the step around which the mean of `width` losses is lowest, or None where it hardly falls.

    The spread is estimated from differences of successive losses, so that a fall over many steps doesn't add to it.

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
