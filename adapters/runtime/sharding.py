"""Parameters that lie in pieces on several devices (FSDP2, DeepSpeed's ZeRO-3), taken and set as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(parameters: Iterable[nn.Parameter]) -> bool:
    """Tell whether one of these lies in pieces."""
    return any(_pieces(p) or hasattr(p, "ds_id") for p in parameters)


def _pieces(tensor: Any) -> bool:
    return hasattr(tensor, "full_tensor")  # torch.distributed.tensor.DTensor


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; every process has to ask for it. One that is whole is returned itself."""
    if _pieces(tensor):
        full: Tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]
        return full
    if hasattr(tensor, "ds_id"):
        import deepspeed  # type: ignore[import-not-found, import-untyped, unused-ignore]

        with deepspeed.zero.GatheredParameters([tensor]):
            return tensor.detach().clone()
    return tensor.detach()


@torch.no_grad()
def put(tensor: Tensor, values: Tensor) -> None:
    """Give a tensor, whole or in pieces, the values of a whole one."""
    if _pieces(tensor):
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
        tensor.copy_(distribute_tensor(values.to(tensor.device), mesh, placements))
    elif hasattr(tensor, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([tensor], modifier_rank=0):
            tensor.copy_(values)
    else:
        tensor.copy_(values)


def like(tensor: Tensor, values: Tensor) -> Tensor:
    """Return whole values in pieces as those of `tensor`, or as they are where it is whole."""
    if not _pieces(tensor) or values.shape != tensor.shape:
        return values.to(tensor.device)
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    return distribute_tensor(values.to(tensor.device), mesh, placements)
