"""Search for a learning rate: short trainings from one start, compared on batches that none of them learns from.

A range test in the spirit of Smith (2015, arXiv:1506.01186), with a training for each rate instead of one with all.
Shorter trainings want higher rates: the best one falls with the number of steps to the power of 0.32 (Bjorck et al.
2024, arXiv:2409.19913). So each rate is tried as one that is higher by that, and held for all its steps, which shows
what doesn't stay stable.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .watch import Watch

SHARE = 0.12
"""What share of a run's steps the search takes at most."""
FACTORS = (0.1, 10**-0.5, 1.0, 10**0.5, 10.0)
"""What is tried first, in shares of the strategy's rate."""
HELD_OUT = 8
"""How many batches rates are compared on."""

_MORE = 2  # rates that are tried beyond the last of them, where that is the best
_POWER = 0.32
_FORWARD = 1 / 3  # of a step, what a batch costs that isn't learned from
_LEAST = 4  # steps that tell anything

Trial = Callable[[float, int], Sequence[float] | None]
"""Train at a rate for so many steps from the start; return the loss of each batch held out, None if it isn't finite."""


@dataclass(frozen=True)
class Tried:
    """A rate, and the loss of each batch held out after a short training at a higher one that stands for it."""

    rate: float
    losses: Sequence[float] | None

    @property
    def loss(self) -> float:
        """The mean loss; infinite where it wasn't finite."""
        return math.inf if self.losses is None else statistics.fmean(self.losses)

    def worse(self, than: Tried) -> bool:
        """Tell whether this is worse beyond doubt: by two standard errors of the difference, batch by batch."""
        if self.losses is None or than.losses is None:
            return than.losses is not None
        by = [a - b for a, b in zip(self.losses, than.losses, strict=True)]
        error = statistics.stdev(by) / math.sqrt(len(by)) if len(by) > 1 else 0.0
        return statistics.fmean(by) > 2 * error


def search(default: float, steps: int, trial: Trial, watch: Watch) -> float:
    """Return a good rate for a run of so many steps: of those that are as good as the best, that nearest `default`.

    Where so short a run leaves too few steps to try rates with, that is `default`.
    """
    each = int(SHARE * steps / (len(FACTORS) + _MORE) - HELD_OUT * _FORWARD)
    if each < _LEAST or not default:
        why = f"of {steps:,} steps, {SHARE:.0%} are too few to try others" if default else "0 has none around it"
        watch.note("rate", f"{default:.3g}, the strategy's own: {why}")
        return default
    higher = (steps / each) ** _POWER

    def tried(rate: float) -> Tried:
        found = Tried(rate, trial(rate * higher, each))
        bar.advance(rate=rate, loss=found.loss)
        return found

    with watch.bar("trying rates", len(FACTORS) + _MORE) as bar:
        found = [tried(default * factor) for factor in FACTORS]
        for _ in range(_MORE):
            best = min(found, key=lambda t: t.loss)
            if best not in (found[0], found[-1]) or math.isinf(best.loss):
                break
            step = FACTORS[0] / FACTORS[1] if best is found[0] else FACTORS[1] / FACTORS[0]
            found.insert(0 if best is found[0] else len(found), tried(best.rate * step))
    best = min(found, key=lambda t: t.loss)
    good = [t for t in found if not t.worse(best)]
    chosen = min(good, key=lambda t: abs(math.log(t.rate / default)))
    losses = ", ".join(f"{t.rate:.2g} {t.loss:.4f}" for t in found)
    watch.note("rate", f"{chosen.rate:.3g}; loss held out after {each} steps at {higher:.2g} times each: {losses}")
    return chosen.rate
