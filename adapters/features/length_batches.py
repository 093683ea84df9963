"""Batches of rows of similar length, which minimises padding, in an order that depends on seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_WINDOW = 50
"""How many batches' rows are sorted by length together; with all of them, every epoch would have the same batches."""


class Batches:
    """The batches of an epoch, as lists of row numbers: what `DataLoader` takes as a batch sampler.

    Rows are shuffled, sorted by length within windows of some fifty batches, cut, and the batches shuffled again, as
    transformers' `group_by_length` does. Their order depends on seed and epoch only. With several processes, each
    batch is split into consecutive lists, one per process. A process without a row of its own gets the batch's first
    row number as `~number`, a padding row that has no effect on the update.
    """

    batch_size = None  # Accelerate reads None as batches of varying size
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
        """Create batches of `rows` per process, or of fewer if they exceed `max_tokens` tokens, padding included."""
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.rows, self.seed, self.by_length = rows, seed, by_length
        self.max_tokens, self.processes = max_tokens, processes
        self.epoch, self.skip = 0, 0

    def go_to(self, epoch: int, skip: int = 0) -> None:
        """Set the epoch, counted from 0, and the number of its batches to skip on resuming.

        It isn't called `set_epoch`, because Accelerate's loaders would call that with their own count.
        """
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return self.count(self.epoch) - self.skip * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches(self.epoch)[self.skip :]:
            for process in range(self.processes):
                yield batch[process :: self.processes].tolist() or [~int(batch[0])]

    def count(self, epoch: int) -> int:
        """Return the number of lists in an epoch, over all processes."""
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
        """Cut rows, in their order, into batches of `size`, or of fewer within `max_tokens`."""
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
