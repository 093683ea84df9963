"""Initialise a low-rank update from the weight that it updates: PiSSA and OLoRA."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ..errors import StrategyError


class _Beside(nn.Module):
    """Parametrise a factor of an update as its values beside constant ones."""

    def __init__(self, start: Tensor, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("start", start, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.get_buffer("start")], self.dim)


def initialise_from_weight(kind: str, base_layer: nn.Module, a: Any, b: Any, scaling: float) -> None:
    """Set the factors `a` and `b` of an update to parts of the weight, and subtract their start values beside them.

    So an adapter starts as the base, whose weights PEFT changes instead; as PEFT's own adapters after conversion, it
    has twice the rank. `kind` is a key of `INITIALISATIONS`. Raises `StrategyError` where the rank is too high.
    """
    weight = base_layer.get_parameter("weight").detach().float()
    weight = weight if isinstance(base_layer, nn.Linear) else weight.mT
    rank = len(a.weight)
    if rank > min(weight.shape):
        raise StrategyError(f"r={rank} exceeds the rank of a weight of shape {tuple(weight.shape)}")
    factors = INITIALISATIONS[kind](weight, rank, scaling)
    for module, start, dim, sign in zip((a, b), factors, (0, 1), (1, -1), strict=True):
        module.weight.data = start.to(module.weight.dtype).contiguous()
        register_parametrization(module, "weight", _Beside(module.weight.detach().clone() * sign, dim), unsafe=True)


def pissa(weight: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """Return factors of the part of a weight with its largest singular values (Meng et al. 2024, arXiv:2404.02948)."""
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    root = (s[:rank] / scaling).sqrt()
    return root[:, None] * vh[:rank], u[:, :rank] * root


def olora(weight: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """Return the first rows and columns of a weight's QR decomposition (Büyükakyüz 2024, arXiv:2406.01775)."""
    q, r = torch.linalg.qr(weight)
    return r[:rank], q[:, :rank]


INITIALISATIONS = {"pissa": pissa, "olora": olora}
