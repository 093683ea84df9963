"""A patch: one change to one module of the base. What an adapter is made of."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .errors import AdapterError


class Patch(ABC):
    """Change what one module of the base computes, leaving its tensors and its name alone."""

    kind: ClassVar[str]
    """What the manifest calls this patch; unique among the installed ones."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Return the patch's tensors by the names they have in the adapter's file."""

    def options(self) -> Mapping[str, Any]:
        """Return what else `load` needs, as JSON values."""
        return {}

    @classmethod
    @abstractmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Patch:
        """Make the patch again for `module` from what `tensors` and `options` gave.

        Raises `AdapterError` where a tensor is missing, too many, or of a shape that doesn't fit `module`.
        """

    @abstractmethod
    def forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return what the patched `module` computes: the reference for every faster path."""

    def attach(self, module: nn.Module) -> Callable[[], None]:
        """Make `module` compute `forward` until the returned function is called."""
        if "forward" in vars(module):
            raise AdapterError(f"{type(module).__name__} is patched already; detach the other adapter first")
        module.forward = functools.partial(self.forward, module)
        return lambda: vars(module).pop("forward", None)


@dataclass(frozen=True, eq=False)
class Replace(Patch):
    """Put other tensors in the place of some of the module's own."""

    kind: ClassVar[str] = "replace"
    replaced: Mapping[str, Tensor]

    def tensors(self) -> Mapping[str, Tensor]:
        return self.replaced

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Replace:
        own = dict(module.named_parameters(recurse=False))
        for name, tensor in tensors.items():
            if name not in own:
                raise AdapterError(f"'{name}' is no parameter of {type(module).__name__}; it has {', '.join(own)}")
            if tensor.shape != own[name].shape:
                raise AdapterError(f"'{name}' is {tuple(tensor.shape)}, but the base's is {tuple(own[name].shape)}")
        return cls(dict(tensors))

    def forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(module, dict(self.replaced), args, kwargs)

    def attach(self, module: nn.Module) -> Callable[[], None]:
        # by exchanging the parameters' storage, so that weights tied to them, or read past forward(), follow
        own = {name: module.get_parameter(name) for name in self.replaced}
        before = {name: parameter.data for name, parameter in own.items()}
        for name, parameter in own.items():
            parameter.data = self.replaced[name].to(device=parameter.device, dtype=parameter.dtype)

        def detach() -> None:
            for name, parameter in own.items():
                parameter.data = before[name]

        return detach


@dataclass(frozen=True, eq=False)
class LowRank(Patch):
    """Add a low-rank update, `x -> module(x) + scale * B(A(x))` (LoRA, Hu et al. 2021, arXiv:2106.09685)."""

    kind: ClassVar[str] = "low-rank"
    A: Tensor  # (r, in_features)
    B: Tensor  # (out_features, r)
    scale: float

    def tensors(self) -> Mapping[str, Tensor]:
        return {"lora_A.weight": self.A, "lora_B.weight": self.B}

    def options(self) -> Mapping[str, Any]:
        return {"scale": self.scale}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> LowRank:
        if set(tensors) != {"lora_A.weight", "lora_B.weight"} or set(options) != {"scale"}:
            raise AdapterError(f"a low-rank patch is lora_A.weight, lora_B.weight and scale, not {sorted(tensors)}")
        a, b = tensors["lora_A.weight"], tensors["lora_B.weight"]
        inner, outer = features(module)
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != inner or b.shape[0] != outer or a.shape[0] != b.shape[1]:
            raise AdapterError(
                f"lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)} don't fit a module of {inner} inputs and {outer} "
                "outputs: expected (r, inputs) and (outputs, r)"
            )
        scale = options["scale"]
        if not isinstance(scale, int | float) or not math.isfinite(scale):
            raise AdapterError(f"the scale of a low-rank patch is {scale!r}, and a finite number was expected")
        dtype = module.get_parameter("weight").dtype
        return cls(a.to(dtype), b.to(dtype), float(scale))

    def forward(self, module: nn.Module, x: Tensor) -> Tensor:
        base: Tensor = type(module).forward(module, x)
        # in the order in which PEFT computes it, so that what was trained is what runs, to the bit
        update: Tensor = nn.functional.linear(nn.functional.linear(x.to(self.A.dtype), self.A), self.B) * self.scale
        return (base + update).to(base.dtype)


def features(module: nn.Module) -> tuple[int, int]:
    """Return (inputs, outputs) of a linear map, `nn.Linear` or GPT-2's Conv1D.

    Raises `AdapterError` for any other module.
    """
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":  # transformers' own, whose weight is (inputs, outputs)
        inner, outer = module.get_parameter("weight").shape
        return inner, outer
    raise AdapterError(f"a low-rank patch needs a linear module, not {type(module).__name__}")
