"""Search for a learning rate by a range test: some steps of training, each at a higher rate than the one before.

The loss falls once the rate is high enough to learn and rises once it is too high (Smith 2015, arXiv:1506.01186); a
good rate to train at lies well below the one at which it is lowest, by a factor of ten as fastai has it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from .watch import Watch

SHARE = 0.12
"""What share of a run's steps the test takes at most."""
LOWEST, HIGHEST = 1 / 30, 100.0
"""Where it begins and ends, in shares of the strategy's rate."""
BELOW = 10.0
"""By what factor the rate to train at lies below that of the lowest loss."""
LEAST = 30
"""How many steps the test has at least."""

_SURE = 4.0  # standard errors by which the loss has to fall
_LOST = 0.5  # of what was gained, where the test ends

Losses = Callable[[float, float], Iterable[float]]
"""Train from the start at a rate, times a factor from step to step; yield the losses as far as they are finite."""


def search(default: float, steps: int, losses: Losses, watch: Watch) -> float:
    """Return a good rate for a run of so many steps: `default`, where they are too few to tell, or tell nothing."""
    count = int(SHARE * steps)
    if count < LEAST or not default:
        why = f"{SHARE:.0%} of {steps:,} steps are too few to search" if default else "0 has no rates around it"
        watch.note("rate", f"{default:.3g}, the strategy's own: {why}")
        return default
    first, factor = default * LOWEST, (HIGHEST / LOWEST) ** (1 / (count - 1))
    seen: list[float] = []
    with watch.bar("searching a rate", count) as bar:
        for loss in itertools.islice(losses(first, factor), count):
            seen.append(loss)
            bar.advance(loss=loss, learning_rate=first * factor ** (len(seen) - 1))
            if is_over(seen, width(count)):
                break
    at = lowest(seen, width(count))
    tried = f"{len(seen)} steps at {first:.2g} to {first * factor ** (len(seen) - 1):.2g}"
    if at is None:
        watch.note("rate", f"{default:.3g}, the strategy's own: nothing was learned in {tried}")
        return default
    best = first * factor**at
    watch.note("rate", f"{best / BELOW:.3g}, found in {tried}; the loss was lowest at {best:.2g}")
    return best / BELOW


def width(count: int) -> int:
    """Return how many losses of a test of so many steps are averaged."""
    return max(3, count // 12)


def averages(losses: Sequence[float], width: int) -> list[float]:
    """Return the mean of each `width` losses that follow one another."""
    return [statistics.fmean(losses[i : i + width]) for i in range(len(losses) - width + 1)]


def least_gain(losses: Sequence[float], width: int) -> float:
    """Return by how much a mean of `width` losses has to fall for that to be no accident.

    The spread is taken from one loss to the next, so that a fall over many steps counts for nothing.
    """
    between = [abs(a - b) for a, b in itertools.pairwise(losses)]
    spread = statistics.median(between) / (0.6745 * math.sqrt(2))  # as of a normal distribution
    return _SURE * float(spread) / math.sqrt(width)


def is_over(losses: Sequence[float], width: int) -> bool:
    """Tell whether the rate has become so high that half of what was gained is lost again."""
    if len(losses) <= 2 * width:
        return False
    means = averages(losses, width)
    gain = means[0] - min(means)
    return gain > least_gain(losses, width) and means[-1] - min(means) > _LOST * gain


def lowest(losses: Sequence[float], width: int) -> float | None:
    """Return around which step the loss is lowest, or None where it is hardly lower than at the start."""
    if len(losses) <= 2 * width:
        return None
    means = averages(losses, width)
    if means[0] - min(means) <= least_gain(losses, width):
        return None
    return means.index(min(means)) + (width - 1) / 2
