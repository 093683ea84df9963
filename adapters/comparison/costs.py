"""Rows a second of an adapter in a pool: alone, and in batches beside 31 others like it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..errors import TruncationWarning
from ..pool.pool import Pool

if TYPE_CHECKING:
    from datasets import Dataset

OTHERS = 31
_ROWS, _REPEATS = 32, 2


def pool_rates(base: Base, adapter: Adapter, data: Dataset) -> tuple[float, float]:
    """Return the rows a second of an adapter in batches of its own, and of 32 that share batches; the best of two.

    Both are of one pool: adapters that no row names cost nothing.
    """
    columns = adapter.task.input_columns
    few = data.select(range(min(_ROWS, len(data))))
    rows = [{name: row[name] for name in columns if name in row} for row in few]
    names = [f"a{i}" for i in range(OTHERS + 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # which the evaluation reported
        with Pool(base, dict.fromkeys(names, adapter)) as pool:
            alone = _rate(pool, rows, ["a0"] * len(rows))
            beside = _rate(pool, rows, [names[i % len(names)] for i in range(len(rows))])
    return alone, beside


def _rate(pool: Pool, rows: Sequence[dict[str, Any]], adapters: Sequence[str]) -> float:
    pool.predict(rows[:1], adapter_of_each=adapters[:1])
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        pool.predict(rows, adapter_of_each=adapters)
        best = min(best, time.perf_counter() - began)
    return len(rows) / best
