"""Batches of rows of like length, within a budget of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from adapterkit.features.length_batches import Batches


def test_every_row_is_in_one_batch_and_the_order_is_that_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 333)
    batches = Batches(lengths, 8, seed=3)
    epochs = []
    for epoch in (0, 1, 0):
        batches.go_to(epoch)
        epochs.append(list(batches))
        assert sorted(i for batch in epochs[-1] for i in batch) == list(range(333))
        assert len(epochs[-1]) == len(batches) == batches.count(epoch)
    assert epochs[0] == epochs[2] != epochs[1]
    other = Batches(lengths, 8, seed=4)
    assert list(other) != epochs[0]


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 2000)

    def padded(batches: Batches) -> int:
        return sum(len(b) * int(lengths[b].max()) for b in batches)

    at_random, alike = (padded(Batches(lengths, 16, seed=0, by_length=by)) for by in (False, True))
    assert alike < 1.1 * lengths.sum() < 1.5 * lengths.sum() < at_random


def test_a_batch_holds_no_more_tokens_than_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    batches = list(Batches(lengths, 64, seed=0, max_tokens=256))
    assert sorted(i for b in batches for i in b) == list(range(500))
    assert all(len(b) * lengths[b].max() <= 256 for b in batches)
    assert any(len(b) > 16 for b in batches)
    assert sorted(map(len, Batches([100, 90, 3], 8, seed=0, max_tokens=50))) == [1, 1, 1]  # longer than the budget


@pytest.mark.parametrize("processes", [1, 2])
def test_a_batch_may_fill_the_budget_of_tokens_to_the_last_one(processes: int) -> None:
    full = list(Batches([8] * 16, 16, seed=0, max_tokens=32, processes=processes))
    assert [len(batch) for batch in full] == [4] * 4  # 4 rows of 8 tokens are 32
    over = list(Batches([8] * 16, 16, seed=0, max_tokens=31, processes=processes))
    assert len(over) > 4


@pytest.mark.parametrize("count", [1, 7, 64, 65, 66])
def test_processes_share_each_batch_evenly(count: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, max(count, 2))
    batches = list(Batches(lengths, 4, seed=1, processes=2))
    assert len(batches) % 2 == 0
    one = list(Batches(lengths, 8, seed=1))
    assert all(batches)
    dealt = [sorted(i for i in a + b if i >= 0) for a, b in zip(batches[::2], batches[1::2], strict=True)]
    assert dealt == [sorted(b) for b in one]
    assert [b for b in batches if b[0] < 0] == [
        [~b[0]] for b in one if len(b) == 1
    ]  # a row again, which counts nothing
