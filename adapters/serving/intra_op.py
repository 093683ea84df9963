"""How many threads of torch a batch takes: one, or several for a request that is alone, where they are quicker."""

from __future__ import annotations

import os
import statistics
from collections import deque

_EXPLORED = 32
"""Every so many batches of a size, one takes another number of threads."""
_LAST, _FIRST = 5, 3
"""The batches whose median counts, and how many are timed before one number is preferred."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class IntraOpThreads:
    """The quickest number of threads for batches of like size, by the medians of their last times.

    Several threads are quicker where the other cores are idle, and can take ten times as long beside busy neighbours,
    since each waits for the last; so both are timed again and again. Not thread-safe: each worker has its own.
    """

    def __init__(self, most: int) -> None:
        self._choices = [1] + [n for n in (2, 4, 8, 16) if n < most] + ([most] if most > 1 else [])
        self._seconds: dict[tuple[int, int], deque[float]] = {}  # a token, by the size of a batch and number of threads
        self._batches: dict[int, int] = {}  # by size

    def choose(self, tokens: int) -> int:
        """Return the number of threads for a batch of that many tokens."""
        size = tokens.bit_length()
        times = {n: self._seconds.setdefault((size, n), deque(maxlen=_LAST)) for n in self._choices}
        least = min(self._choices, key=lambda n: len(times[n]))
        if len(times[least]) < _FIRST:
            return least
        batches = self._batches[size] = self._batches.get(size, 0) + 1
        best = min(self._choices, key=lambda n: statistics.median(times[n]))
        others = [n for n in self._choices if n != best]
        if others and batches % _EXPLORED == 0:
            return others[batches // _EXPLORED % len(others)]
        return best

    def record(self, tokens: int, threads: int, seconds: float) -> None:
        """Note how long a batch took."""
        self._seconds[tokens.bit_length(), threads].append(seconds / max(1, tokens))
