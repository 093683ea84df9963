"""The part of a large split on which probes are compared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adapterkit.probe import search


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
