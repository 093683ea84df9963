"""Patches that put small modules of their own into a base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .patch import Update, features

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
}


@dataclass(frozen=True, eq=False, slots=True)
class Bottleneck(Update):
    """Add a small two-layer network of a linear map's own output (Houlsby et al. 2019, arXiv:1902.00751)."""

    kind: ClassVar[str] = "bottleneck"
    down: Tensor  # (m, features), or (rows, m, features)
    down_bias: Tensor  # (m,), or (rows, m)
    up: Tensor  # (features, m), or (rows, features, m)
    up_bias: Tensor  # (features,), or (rows, features)
    activation: str

    def tensors(self) -> Mapping[str, Tensor]:
        return {
            "down.weight": self.down,
            "down.bias": self.down_bias,
            "up.weight": self.up,
            "up.bias": self.up_bias,
        }

    def options(self) -> Mapping[str, Any]:
        return {"activation": self.activation}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Bottleneck:
        names = ("down.weight", "down.bias", "up.weight", "up.bias")
        if set(tensors) != set(names) or set(options) != {"activation"} or options["activation"] not in ACTIVATIONS:
            raise AdapterError(f"a bottleneck is {', '.join(names)} and an activation, not {sorted(tensors)}")
        width, size = features(module)[1], len(tensors["down.weight"])
        wanted = ((size, width), (size,), (width, size), (width,))
        found = tuple(tuple(tensors[name].shape) for name in names)
        if found != wanted:
            raise AdapterError(f"a bottleneck of {found} doesn't fit a module of {width} outputs: expected {wanted}")
        dtype = module.get_parameter("weight").dtype
        down, down_bias, up, up_bias = (tensors[name].to(dtype) for name in names)
        return cls(down, down_bias, up, up_bias, options["activation"])

    @classmethod
    def stack(cls, patches: Sequence[Bottleneck]) -> Bottleneck:
        each = zip(*(p.tensors().values() for p in patches), strict=True)
        down, down_bias, up, up_bias = map(torch.stack, each)
        return cls(down, down_bias, up, up_bias, patches[0].activation)

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        act, given = ACTIVATIONS[self.activation], y.to(self.down.dtype)
        if self.down.ndim == 2:
            made = nn.functional.linear(given, self.down, self.down_bias)
            return y + nn.functional.linear(act(made), self.up, self.up_bias).to(y.dtype)
        flat = given.reshape(len(y), -1, y.shape[-1])
        made = torch.baddbmm(self.down_bias[:, None], flat, self.down.mT)
        return y + torch.baddbmm(self.up_bias[:, None], act(made), self.up.mT).view_as(y).to(y.dtype)
