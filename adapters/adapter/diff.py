"""What differs between two adapters: options, data, metrics and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .adapter import Adapter

_PARTS = ("base", "task", "strategy", "training", "data", "metrics", "parameters")


def differences(first: Adapter, second: Adapter) -> dict[str, Any]:
    """Return what differs, as JSON values.

    `manifest`: values by their place, `strategy.options.r`, each [first's, second's], None where one has none.
    `tensors`: by name, `max_abs` and `relative`, the norm of the difference over that of the first; or `shapes`, where
    those differ or one adapter lacks the tensor. `bytes`: those of the tensors.
    """
    ours, theirs = (_flat({part: a.manifest[part] for part in _PARTS if part in a.manifest}) for a in (first, second))
    places = sorted(place for place in {*ours, *theirs} if ours.get(place) != theirs.get(place))
    names = sorted({*first.tensors, *second.tensors})
    pairs = {name: (first.tensors.get(name), second.tensors.get(name)) for name in names}
    return {
        "manifest": {place: [ours.get(place), theirs.get(place)] for place in places},
        "tensors": {name: found for name, (a, b) in pairs.items() if (found := _difference(a, b)) is not None},
        "tensors_compared": len(names),
        "bytes": [sum(t.numel() * t.element_size() for t in adapter.tensors.values()) for adapter in (first, second)],
    }


def _flat(value: Any, place: str = "") -> dict[str, Any]:
    """Return the leaves of nested objects by place; lists are leaves."""
    if not isinstance(value, Mapping):
        return {place: value}
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= _flat(part, f"{place}.{key}" if place else str(key))
    return flat


def _difference(a: torch.Tensor | None, b: torch.Tensor | None) -> dict[str, Any] | None:
    """Return how much two tensors differ, None where they are equal to the bit."""
    if a is None or b is None or a.shape != b.shape:
        return {"shapes": [None if t is None else list(t.shape) for t in (a, b)]}
    if a.dtype == b.dtype and torch.equal(a, b):
        return None
    apart, norm = b.double() - a.double(), float(a.double().norm())
    largest = float(apart.abs().max()) if apart.numel() else 0.0
    relative = float(apart.norm()) / norm if norm else None
    dtypes = {"dtypes": [str(t.dtype).removeprefix("torch.") for t in (a, b)]} if a.dtype != b.dtype else {}
    return {"max_abs": largest, "relative": relative, **dtypes}
