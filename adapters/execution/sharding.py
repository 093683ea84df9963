"""Read and write parameters that are sharded over several devices (FSDP2, DeepSpeed's ZeRO-3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(parameters: Iterable[nn.Parameter]) -> bool:
    """Return whether one of these is sharded."""
    return any(_is_dtensor(p) or hasattr(p, "ds_id") for p in parameters)


def _is_dtensor(tensor: Any) -> bool:
    return hasattr(tensor, "full_tensor")  # torch.distributed.tensor.DTensor


@torch.no_grad()
def full_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor's full values, gathered where it is sharded; every process has to call it."""
    if _is_dtensor(tensor):
        full: Tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]
        return full
    if hasattr(tensor, "ds_id"):
        import deepspeed  # type: ignore[import-not-found, import-untyped, unused-ignore]

        with deepspeed.zero.GatheredParameters([tensor]):
            return tensor.detach().clone()
    return tensor.detach()


@torch.no_grad()
def copy_full(tensor: Tensor, values: Tensor) -> None:
    """Copy full values into a tensor, sharded or not."""
    if _is_dtensor(tensor):
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
        tensor.copy_(distribute_tensor(values.to(tensor.device), mesh, placements))
    elif hasattr(tensor, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([tensor], modifier_rank=0):
            tensor.copy_(values)
    else:
        tensor.copy_(values)


def sharded_like(tensor: Tensor, values: Tensor) -> Tensor:
    """Return full values sharded as `tensor` is, or unchanged where it isn't sharded."""
    if not _is_dtensor(tensor) or values.shape != tensor.shape:
        return values.to(tensor.device)
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    return distribute_tensor(values.to(tensor.device), mesh, placements)
