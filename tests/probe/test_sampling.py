"""The part of a large split on which probes are compared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from adapterkit.probe import search
from tests.helpers.probes import task_of


def feed_of(shapes: list[tuple[int, int]]) -> Any:
    """Return what `_some` reads of a feed: its features' shapes, (texts, tokens)."""

    class Shapes(SimpleNamespace):
        def __len__(self) -> int:
            return len(shapes)

    return Shapes(shapes=shapes)


@pytest.mark.parametrize("by_token", [False, True])
@pytest.mark.parametrize("most", [1, 40, 41, 1000])
def test_it_is_drawn_by_a_seed_until_it_has_enough_vectors(by_token: bool, most: int) -> None:
    shapes = [(1 + i % 3, 2 + i % 7) for i in range(60)]
    expected, total = [], 0
    for i in np.random.default_rng(0).permutation(60).tolist():  # the same sample in each run and version
        if total < most:
            expected.append(i)
            total += shapes[i][0] * (shapes[i][1] if by_token else 1)
    assert search._some(feed_of(shapes), by_token, most) == sorted(expected)


def test_a_small_split_is_all_of_it() -> None:
    assert search._some(feed_of([(1, 9)] * 5), True, 45) == [0, 1, 2, 3, 4]
    assert search._some(feed_of([(1, 9)] * 5), True, 10_000) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("memory", "on_disk"), [(None, False), (17 * 8 * 4, False), (17 * 8 * 4 - 1, True)])
def test_vectors_are_in_memory_unless_they_exceed_what_is_allowed(memory: float | None, on_disk: bool) -> None:
    """Two splits of 10 and 7 texts, 8 numbers of 4 bytes for each; by default there is no limit."""
    feeds = {"train": feed_of([(1, 5)] * 10), "validation": feed_of([(1, 3)] * 7)}
    options = search.SolverOptions() if memory is None else search.SolverOptions(memory=memory)
    base: Any = SimpleNamespace(model=SimpleNamespace(device=torch.device("cpu")))
    readers = search._readers(base, feeds, 8, task_of(labels=("a", "b")), options)
    assert [reader.folder is not None for reader in readers.values()] == [on_disk, on_disk]
    assert [reader.counts.tolist() for reader in readers.values()] == [[1] * 10, [1] * 7]
    assert [reader.mixed for reader in readers.values()] == ["no", "no"]
