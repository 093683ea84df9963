"""Bottleneck adapters: a small two-layer network after a linear map."""

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
    by_token: ClassVar[bool] = True
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
        shapes = tuple(tuple(tensors[name].shape) for name in names)
        if shapes != wanted:
            raise AdapterError(f"a bottleneck of {shapes} doesn't fit a module of {width} outputs: expected {wanted}")
        dtype = module.get_parameter("weight").dtype
        down, down_bias, up, up_bias = (tensors[name].to(dtype) for name in names)
        return cls(down, down_bias, up, up_bias, options["activation"])

    @classmethod
    def stack(cls, patches: Sequence[Bottleneck]) -> Bottleneck:
        each = zip(*(p.tensors().values() for p in patches), strict=True)
        down, down_bias, up, up_bias = map(torch.stack, each)
        return cls(down, down_bias, up, up_bias, patches[0].activation)

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        act, hidden = ACTIVATIONS[self.activation], y.to(self.down.dtype)
        if self.down.ndim == 2:
            inner = nn.functional.linear(hidden, self.down, self.down_bias)
            return y + nn.functional.linear(act(inner), self.up, self.up_bias).to(y.dtype)
        flat = hidden.reshape(len(y), -1, y.shape[-1])
        inner = torch.baddbmm(self.down_bias[:, None], flat, self.down.mT)
        return y + torch.baddbmm(self.up_bias[:, None], act(inner), self.up.mT).view_as(y).to(y.dtype)
