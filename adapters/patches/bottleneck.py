"""Patches that put small modules of their own into a base."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .patch import Patch, Update, features

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


@dataclass(frozen=True, eq=False, slots=True)
class Prefix(Patch):
    """Add what each position finds in a few learned keys and values to what an attention says.

    Prefix tuning (Li and Liang 2021, arXiv:2101.00190) in the parallel form of He et al. 2022 (arXiv:2110.04366,
    table 1): `attention(x) + softmax(x K') V` by heads, the query's map taken up in K. With V zero, nothing changes.
    """

    kind: ClassVar[str] = "prefix"
    keys: Tensor  # (heads, n, features / heads)
    values: Tensor  # the same

    def tensors(self) -> Mapping[str, Tensor]:
        return {"keys": self.keys, "values": self.values}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Prefix:
        if set(tensors) != {"keys", "values"} or options:
            raise AdapterError(f"a prefix is keys and values, not {sorted(tensors)}")
        keys, values = tensors["keys"], tensors["values"]
        width = width_of(module)
        if keys.ndim != 3 or keys.shape != values.shape or keys.shape[0] * keys.shape[2] != width:
            raise AdapterError(
                f"keys {tuple(keys.shape)} and values {tuple(values.shape)} don't fit an attention of {width} features:"
                " expected (heads, n, features / heads)"
            )
        dtype = next(module.parameters()).dtype
        return cls(keys.to(dtype), values.to(dtype))

    def forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        said = type(module).forward(module, *args, **kwargs)
        x = args[0] if args else next(iter(kwargs.values()))  # (rows, tokens, features)
        heads, _, size = self.keys.shape
        asked = x.to(self.keys.dtype).unflatten(-1, (heads, size)).transpose(-2, -3)  # (rows, heads, tokens, size)
        shares = torch.softmax(asked @ self.keys.mT / math.sqrt(size), dim=-1)
        found = (shares @ self.values).transpose(-2, -3).flatten(-2)
        hidden = said[0] if isinstance(said, tuple) else said
        changed = hidden + found.to(hidden.dtype)
        return (changed, *said[1:]) if isinstance(said, tuple) else changed


def width_of(attention: nn.Module) -> int:
    """Return how many features an attention is given: the inputs of the first linear map in it."""
    for module in attention.modules():
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
            return features(module)[0]
    raise AdapterError(f"{type(attention).__name__} has no linear map")
