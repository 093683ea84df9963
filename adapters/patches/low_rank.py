"""Low-rank updates: LoRA and DoRA."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .patch import Update, _beside, _check_vector, features


@dataclass(frozen=True, eq=False, slots=True)
class LowRank(Update):
    """Add a low-rank update, `x -> module(x) + scale * B(A(x))` (LoRA, Hu et al. 2021, arXiv:2106.09685).

    B may have a bias, as PEFT's `lora_bias` gives it.

    `load` raises `AdapterError` where the tensors' shapes don't fit the module.

    >>> layer, x = torch.nn.Linear(4, 2), torch.randn(3, 4)
    >>> patch = ak.LowRank(A=torch.randn(1, 4), B=torch.zeros(2, 1), scale=2.0)
    >>> torch.equal(patch.forward(layer, x), layer(x))  # B is zero, as at the start of training
    True
    """

    kind: ClassVar[str] = "low-rank"
    by_token: ClassVar[bool] = True
    A: Tensor  # (r, in_features), or (rows, r, in_features)
    B: Tensor  # (out_features, r), or (rows, out_features, r)
    scale: float
    bias: Tensor | None = None  # (out_features,), or (rows, out_features)

    def tensors(self) -> Mapping[str, Tensor]:
        factors = {"lora_A.weight": self.A, "lora_B.weight": self.B}
        return factors if self.bias is None else {**factors, "lora_B.bias": self.bias}

    def options(self) -> Mapping[str, Any]:
        return {"scale": self.scale}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> LowRank:
        names = {"lora_A.weight", "lora_B.weight", "lora_B.bias"}
        if not names - {"lora_B.bias"} <= set(tensors) <= names or set(options) != {"scale"}:
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
        dtype, bias = module.get_parameter("weight").dtype, tensors.get("lora_B.bias")
        if bias is not None:
            _check_vector("lora_B.bias", bias, outer)
        return cls(a.to(dtype), b.to(dtype), float(scale), None if bias is None else bias.to(dtype))

    @classmethod
    def stack(cls, patches: Sequence[LowRank]) -> LowRank:
        biases = [p.bias for p in patches if p.bias is not None]
        bias = torch.stack(biases) if biases else None
        return cls(torch.stack([p.A for p in patches]), torch.stack([p.B for p in patches]), patches[0].scale, bias)

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        x = x.to(self.A.dtype)
        if self.A.ndim == 2:
            # in the order in which PEFT computes it, so that what was trained is what runs, to the bit
            update: Tensor = nn.functional.linear(nn.functional.linear(x, self.A), self.B, self.bias)
            if torch.is_grad_enabled() or update.dtype != y.dtype:
                return (y + update * self.scale).to(y.dtype)
            return y.add_(update.mul_(self.scale))  # the same numbers, without memory for two more tensors
        rows = x.shape[0]
        inner = torch.bmm(x.reshape(rows, -1, x.shape[-1]), self.A.mT)
        flat = y.reshape(rows, -1, y.shape[-1])
        if self.bias is not None:
            flat = flat + (self.bias * self.scale).to(flat.dtype)[:, None]
        inner, b = inner.to(flat.dtype), self.B.mT.to(flat.dtype)
        if torch.is_grad_enabled() or flat.data_ptr() != y.data_ptr():
            return torch.baddbmm(flat, inner, b, alpha=self.scale).view_as(y)
        flat.baddbmm_(inner, b, alpha=self.scale)  # the same numbers, without memory for another tensor
        return y

    def fold(self, module: nn.Module) -> Mapping[str, Tensor] | None:
        if self.bias is not None and module.bias is None:
            return None
        weight = module.get_parameter("weight").detach()
        # in float64, so that merging adds no error of its own beyond the one of rounding the sum
        delta = (self.B.double() @ self.A.double()) * self.scale
        delta = delta if isinstance(module, nn.Linear) else delta.mT
        folded = {"weight": (weight.double() + delta).to(weight.dtype)}
        if self.bias is not None:
            bias = module.get_parameter("bias").detach()
            folded["bias"] = (bias.double() + self.bias.double() * self.scale).to(bias.dtype)
        return folded


@dataclass(frozen=True, eq=False, slots=True)
class Dora(Update):
    """Scale each row of weight plus low-rank update to a learned length (DoRA, Liu et al. 2024, arXiv:2402.09353)."""

    kind: ClassVar[str] = "dora"
    by_token: ClassVar[bool] = True
    A: Tensor  # (r, in_features), or (rows, r, in_features)
    B: Tensor  # (out_features, r), or (rows, out_features, r)
    magnitude: Tensor  # (out_features,), or (rows, out_features)
    scale: float
    factor: Tensor  # magnitude by the lengths that the sum's rows have, of magnitude's shape
    bias: Tensor | None  # of the module, which is no part of what is scaled

    def tensors(self) -> Mapping[str, Tensor]:
        return {"lora_A.weight": self.A, "lora_B.weight": self.B, "lora_magnitude_vector": self.magnitude}

    def options(self) -> Mapping[str, Any]:
        return {"scale": self.scale}

    @classmethod
    def of(cls, low: LowRank, magnitude: Tensor, module: nn.Module) -> Dora:
        """Return the patch of an update of `module` and its rows' lengths."""
        _check_vector("lora_magnitude_vector", magnitude, features(module)[1])
        if low.bias is not None:
            raise AdapterError("a dora patch is an update and its rows' lengths, without a bias of its own")
        weight = module.get_parameter("weight").detach()
        weight = weight if isinstance(module, nn.Linear) else weight.mT
        a, b = low.A.detach(), low.B.detach()
        eye = torch.eye(a.shape[1], device=a.device, dtype=a.dtype)
        update = nn.functional.linear(nn.functional.linear(eye, a), b).mT  # as PEFT computes it, to the bit
        bias = None if module.bias is None else module.get_parameter("bias")
        length = torch.linalg.norm(weight + low.scale * update, dim=1).to(weight.dtype)
        return cls(low.A, low.B, magnitude, low.scale, magnitude.detach().to(weight.dtype) / length, bias)

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Dora:
        rest = dict(tensors)
        magnitude = rest.pop("lora_magnitude_vector", torch.empty(0))
        return cls.of(LowRank.load(rest, options, module), magnitude, module)

    @classmethod
    def stack(cls, patches: Sequence[Dora]) -> Dora:
        low, first = LowRank.stack([p.low for p in patches]), patches[0]
        magnitude, factor = (torch.stack([getattr(p, name) for p in patches]) for name in ("magnitude", "factor"))
        return cls(low.A, low.B, magnitude, first.scale, factor, first.bias)

    @property
    def low(self) -> LowRank:
        """The update."""
        return LowRank(self.A, self.B, self.scale)

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        x, factor = x.to(self.A.dtype), _beside(self.factor, y)
        if self.A.ndim == 2:
            update = nn.functional.linear(nn.functional.linear(x, self.A), self.B)
        else:
            update = torch.bmm(torch.bmm(x.reshape(len(x), -1, x.shape[-1]), self.A.mT), self.B.mT).view_as(y)
        product = y if self.bias is None else y - self.bias
        return (y + ((factor - 1) * product + factor * update * self.scale)).to(y.dtype)

    def fold(self, module: nn.Module) -> Mapping[str, Tensor]:
        weight = module.get_parameter("weight")
        folded = self.low.fold(module)
        assert folded is not None  # without a bias of its own, it always can be
        summed = folded["weight"].double()
        along = self.factor.double()
        return {"weight": (summed * (along[:, None] if isinstance(module, nn.Linear) else along)).to(weight.dtype)}
