"""Copies of a base's tensors, to see that it is unchanged."""

from __future__ import annotations

import torch
from torch import Tensor

from adapterkit import Base


def state(base: Base) -> dict[str, Tensor]:
    """Copy the base's tensors, without modules that the checkpoint doesn't hold, which are random at each load."""
    tensors = base.model.state_dict().items()
    return {name: t.detach().clone() for name, t in tensors if name.partition(".")[0] not in base.newly_initialized}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
