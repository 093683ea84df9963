"""Batches of rows of similar length, which minimises padding, in an order that depends on seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_WINDOW = 50
"""How many batches' rows are sorted by length together; with all of them, every epoch would have the same batches."""


class Batches:
    """The batches of an epoch, as lists of row numbers: what `DataLoader` takes as a batch sampler.

    Rows are shuffled, sorted by length within windows of some fifty batches, cut, and the batches shuffled again, as
    transformers' `group_by_length` does. Their order depends on seed and epoch alone. With several processes, each
    batch is dealt out in as many lists that follow one another, one for each; where it has fewer rows than there are
    processes, the last ones have a row again as its `~number`, to make a step that counts for nothing.
    """

    batch_size = None  # they differ, as Accelerate wants to know
    drop_last = False

    def __init__(
        self,
        lengths: Sequence[int],
        rows: int,
        *,
        seed: int,
        by_length: bool = True,
        max_tokens: int | None = None,
        processes: int = 1,
    ) -> None:
        """Make batches of `rows` for each process, fewer where padded they hold more than `max_tokens` tokens."""
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.rows, self.seed, self.by_length = rows, seed, by_length
        self.max_tokens, self.processes = max_tokens, processes
        self.epoch, self.skip = 0, 0

    def go_to(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch, from 0 on, and how many of its batches were learned from already.

        It isn't called `set_epoch`, since Accelerate's loaders would call that with a count of their own.
        """
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return self.count(self.epoch) - self.skip * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches(self.epoch)[self.skip :]:
            for process in range(self.processes):
                yield batch[process :: self.processes].tolist() or [~int(batch[0])]

    def count(self, epoch: int) -> int:
        """Return how many lists of rows an epoch has, those of all processes together."""
        return len(self._batches(epoch)) * self.processes

    def _batches(self, epoch: int) -> list[np.ndarray]:
        order = np.random.default_rng([self.seed, epoch])
        rows = order.permutation(len(self.lengths))
        size = self.rows * self.processes
        if not self.by_length:
            return self._cut(rows, size)
        window = size * _WINDOW
        batches = []
        for start in range(0, len(rows), window):
            some = rows[start : start + window]
            batches += self._cut(some[np.argsort(-self.lengths[some], kind="stable")], size)
        return [batches[i] for i in order.permutation(len(batches))]

    def _cut(self, rows: np.ndarray, size: int) -> list[np.ndarray]:
        """Cut rows, in their order, into batches of `size`, or of fewer within the budget of tokens."""
        if self.max_tokens is None:
            batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        else:
            batches, start, budget = [], 0, self.max_tokens * self.processes
            while start < len(rows):
                longest = np.maximum.accumulate(self.lengths[rows[start : start + size]])
                fit = int(np.searchsorted(longest * np.arange(1, len(longest) + 1), budget, side="right"))
                batches.append(rows[start : start + max(fit, 1)])
                start += len(batches[-1])
        return batches
