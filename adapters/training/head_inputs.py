"""Determine which part of a frozen base's output a head reads: the pooled output, the first token, or all tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..evaluation.outputs import largest_difference
from ..features.feed import Feed, rows
from .trunk import Trunk, base_replaced


def level_of(trunk: Trunk, feed: Feed, indices: Sequence[int], output: Any) -> str:
    """Return "pooled", "first" or "all", the smallest part of the base's output that the head's outputs depend on.

    It is determined by running the head on a few features; `output` is the base's output for these, in their order.
    """
    few = rows(feed.features, indices)
    texts = sum(choices for choices, _ in (feed.shapes[i] for i in indices))
    batch = feed.collate(few)
    mask = feed.modality.mask(batch)
    hidden, pooled = output[0][:texts, : mask.shape[1]], output.get("pooler_output")
    others = {} if pooled is None else {"pooler_output": pooled[:texts]}
    expected = _outputs(trunk, type(output)(last_hidden_state=hidden, **others), batch)
    try:
        short = feed.collate([feed.modality.shortened(row) for row in few])
    except ValueError:  # labels token by token
        return "all"
    first = hidden[:, :1]
    levels = {"pooled": (torch.full_like(first, float("nan")), others), "first": (first, {})}
    for level, (tokens, more) in levels.items():
        if _equal(expected, _outputs(trunk, type(output)(last_hidden_state=tokens, **more), short)):
            return level
    return "all"


def _outputs(trunk: Trunk, output: Any, batch: Mapping[str, Any]) -> list[Any] | None:
    """Return the task's outputs for an output of the base, or None where the head raises."""
    with base_replaced(trunk.model, trunk.stub(lambda *args, **kwargs: output)):
        try:
            return trunk.task.outputs(trunk.model, moved_to(batch, trunk.model.device))
        except (RuntimeError, IndexError, ValueError):
            return None


def _equal(expected: Any, actual: Any) -> bool:
    """Return whether two nested sequences of numbers have the same shape and nearly equal values."""
    if expected is None or actual is None or np.shape(actual) != np.shape(expected):
        return False
    return largest_difference(actual, expected) <= 1e-5 * max(1.0, largest(expected))


def largest(value: Any) -> float:
    """Return the largest magnitude in a nested sequence of numbers, 0 for an empty one."""
    if isinstance(value, list | tuple):
        return max(map(largest, value), default=0.0)
    return float(np.abs(np.asarray(value, dtype=float)).max(initial=0.0))


def moved_to(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch on a device."""
    return {key: value.to(device) for key, value in batch.items()}
