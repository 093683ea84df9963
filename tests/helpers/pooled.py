"""Adapters of every strategy, and answers of a pool compared with those of single adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adapterkit import Adapter, Base, Registry
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import classes

STRATEGIES: list[tuple[str, dict[str, Any]]] = [
    ("lora", {}),
    ("lora", {"r": 4}),
    ("head-only", {}),
    ("full", {}),
    ("layerwise", {"top": 1}),
    ("layerwise", {"layers": "0,2"}),
    ("lora", {}),
]


def near(logits: Any, expected: Any, base: Base, name: str = "") -> None:
    """Check logits of one computation against those of another, which adds up in another order."""
    tolerance.assert_near(logits, expected, tolerance.of_base(base), name)


def mix(base: Base) -> dict[str, Adapter]:
    return {
        f"{name}-{i}": made.adapter(base, classes(2 + i % 3), name, seed=i, **options)
        for i, (name, options) in enumerate(STRATEGIES)
    }


# ---- tasks of every kind


def same(a: Any, b: Any, within: float = tolerance.TINY_PAIR) -> None:
    """Check that two nests of answers are alike, numbers and arrays nearly."""
    if isinstance(a, Mapping):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key], within)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y, within)
    elif isinstance(a, float | np.ndarray):
        np.testing.assert_allclose(a, b, rtol=within, atol=within)
    else:
        assert a == b


# ---- adapters that come and go


def add(registry: Registry, name: str, adapter: Adapter) -> str:
    own = adapter.manifest["base"]
    entry = {"task": adapter.task.name, "strategy": "lora", "bytes": 1, "metrics": {}}
    return registry.add(name, adapter.files(), {**entry, "base": {k: own[k] for k in ("name", "fingerprint")}})
