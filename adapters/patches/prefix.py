"""Prefix tuning: learned keys and values beside those of an attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .patch import Patch, features


@dataclass(frozen=True, eq=False, slots=True)
class Prefix(Patch):
    """Add the attention of each position to a few learned keys and values to the output of an attention.

    Prefix tuning (Li and Liang 2021, arXiv:2101.00190) in the parallel form of He et al. 2022 (arXiv:2110.04366,
    table 1): `attention(x) + softmax(x K') V` by heads, the query's map folded into K. With V zero, nothing changes.
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
        output = type(module).forward(module, *args, **kwargs)
        x = args[0] if args else next(iter(kwargs.values()))  # (rows, tokens, features)
        heads, _, size = self.keys.shape
        queries = x.to(self.keys.dtype).unflatten(-1, (heads, size)).transpose(-2, -3)  # (rows, heads, tokens, size)
        shares = torch.softmax(queries @ self.keys.mT / math.sqrt(size), dim=-1)
        added = (shares @ self.values).transpose(-2, -3).flatten(-2)
        hidden = output[0] if isinstance(output, tuple) else output
        changed = hidden + added.to(hidden.dtype)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def width_of(attention: nn.Module) -> int:
    """Return the number of input features of an attention: those of its first linear map."""
    for module in attention.modules():
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
            return features(module)[0]
    raise AdapterError(f"{type(attention).__name__} has no linear map")
