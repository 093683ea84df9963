"""Scaled outputs and added biases: IA3 and BitFit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .patch import Update, _beside, _check_vector, features


@dataclass(frozen=True, eq=False, slots=True)
class Scale(Update):
    """Multiply what goes into a module, or what comes out, by a number a feature (IA3, arXiv:2205.05638).

    `load` raises `AdapterError` where the tensor's shape doesn't fit the module.

    >>> layer, x = torch.nn.Linear(4, 2), torch.randn(3, 4)
    >>> patch = ak.Scale(by=torch.tensor([1.0, 10.0]), of="outputs")
    >>> torch.equal(patch.forward(layer, x), layer(x) * torch.tensor([1.0, 10.0]))
    True
    """

    kind: ClassVar[str] = "scale"
    by_token: ClassVar[bool] = True
    by: Tensor  # (features,), or (rows, features)
    of: Literal["inputs", "outputs"]

    def tensors(self) -> Mapping[str, Tensor]:
        # shaped as PEFT's: beside a weight of (outputs, inputs)
        return {"ia3_l": self.by[None] if self.of == "inputs" else self.by[:, None]}

    def parameters(self) -> Mapping[str, Tensor]:
        return {"scale": self.by}

    def options(self) -> Mapping[str, Any]:
        return {"of": self.of}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Scale:
        if set(tensors) != {"ia3_l"} or options.get("of") not in ("inputs", "outputs") or len(options) != 1:
            raise AdapterError(f"a scale patch is ia3_l, of inputs or outputs, not {sorted(tensors)} {dict(options)}")
        inner, outer = features(module)
        by, shape = tensors["ia3_l"], (1, inner) if options["of"] == "inputs" else (outer, 1)
        if by.shape != shape:
            raise AdapterError(f"'ia3_l' of {options['of']} is {tuple(by.shape)}, but {shape} was expected")
        return cls(by.flatten().to(module.get_parameter("weight").dtype), options["of"])

    @classmethod
    def stack(cls, patches: Sequence[Scale]) -> Scale:
        return cls(torch.stack([p.by for p in patches]), patches[0].of)

    def inputs(self, x: Tensor) -> Tensor:
        return x * _beside(self.by, x) if self.of == "inputs" else x

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        return y * _beside(self.by, y) if self.of == "outputs" else y

    def fold(self, module: nn.Module) -> Mapping[str, Tensor]:
        weight = module.get_parameter("weight").detach()
        outward = self.of == "outputs"
        rows_first = isinstance(module, nn.Linear)  # a Linear's weight is (outputs, inputs), a Conv1D's the reverse
        by = self.by.to(weight.dtype)
        folded = {"weight": weight * (by[:, None] if outward == rows_first else by[None])}
        if outward and module.bias is not None:
            folded["bias"] = module.get_parameter("bias").detach() * by
        return folded


@dataclass(frozen=True, eq=False, slots=True)
class Bias(Update):
    """Add a number a feature to what comes out of a module.

    `load` raises `AdapterError` where the tensor's shape doesn't fit the module.

    >>> layer, x = torch.nn.Linear(4, 2), torch.randn(3, 4)
    >>> patch = ak.Bias(add=torch.ones(2))
    >>> torch.equal(patch.forward(layer, x), layer(x) + 1)
    True
    """

    kind: ClassVar[str] = "bias"
    by_token: ClassVar[bool] = True
    add: Tensor  # (features,), or (rows, features)

    def tensors(self) -> Mapping[str, Tensor]:
        return {"bias": self.add}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Bias:
        if set(tensors) != {"bias"} or options:
            raise AdapterError(f"a bias patch is bias, not {sorted(tensors)} {dict(options)}")
        _check_vector("bias", tensors["bias"], features(module)[1])
        return cls(tensors["bias"].to(module.get_parameter("weight").dtype))

    @classmethod
    def stack(cls, patches: Sequence[Bias]) -> Bias:
        return cls(torch.stack([p.add for p in patches]))

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        return y + _beside(self.add, y)

    def fold(self, module: nn.Module) -> Mapping[str, Tensor] | None:
        if module.bias is None:
            return None
        return {"bias": module.get_parameter("bias").detach() + self.add}
