"""A patch: one change to one module of the base. What an adapter is made of."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..errors import AdapterError


class Patch(ABC):
    """Change what one module of the base computes, leaving its tensors and its name alone."""

    kind: ClassVar[str]
    """What the manifest calls this patch; unique among the installed ones."""
    encoded: ClassVar[bool] = False
    """Whether its tensors may be of whole numbers, too: codes, of which `load` makes the numbers that are meant."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Return the patch's tensors by the names they have in the adapter's file."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the tensors that are to learn, by name: those of the file, where these aren't other views of them."""
        return self.tensors()

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

    def fold(self, module: nn.Module) -> Mapping[str, Tensor] | None:
        """Return the tensors of `module` with which it computes the same by itself, or None where there are none."""
        return None

    def attach(self, module: nn.Module) -> Callable[[], None]:
        """Make `module` compute `forward` until the returned function is called."""
        if "forward" in vars(module):
            raise AdapterError(f"{type(module).__name__} is patched already; detach the other adapter first")
        module.forward = functools.partial(self.forward, module)
        return lambda: vars(module).pop("forward", None)


class Held(nn.Module):
    """A patch that learns, held by the module that it patches, which so has its tensors for parameters."""

    NAME = "held_patch"

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        for name, tensor in patch.parameters().items():
            self.register_parameter(name.replace(".", "_"), tensor)  # type: ignore[arg-type]
        self.patch = patch

    @classmethod
    def attach(cls, module: nn.Module, patch: Patch) -> list[nn.Parameter]:
        """Make `module` compute what `patch` says, and return the patch's tensors, which are to learn."""
        held = cls(patch)
        module.add_module(cls.NAME, held)
        patch.attach(module)
        return list(held.parameters())

    @classmethod
    def of(cls, base: nn.Module) -> dict[str, Held]:
        """Return the patches that modules of `base` hold, by the modules' names."""
        found = {name: vars(m)["_modules"].get(cls.NAME) for name, m in base.named_modules()}
        return {name: held for name, held in found.items() if isinstance(held, Held)}

    def detach(self, module: nn.Module) -> None:
        """Have `module` compute what it did before."""
        vars(module).pop("forward", None)
        delattr(module, self.NAME)


@dataclass(frozen=True, eq=False, slots=True)
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
        return cls({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})

    def forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(module, dict(self.replaced), args, kwargs)

    def fold(self, module: nn.Module) -> Mapping[str, Tensor]:
        return self.replaced

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


class Update(Patch):
    """A patch of a linear map or a norm that leaves its product alone and changes what goes in or what comes out.

    Rows of many such patches share one product. An update of many rows is an update whose tensors have a dimension
    more, that of the rows, which `stack` gives.
    """

    def inputs(self, x: Tensor) -> Tensor:
        """Return what goes into the module instead of `x`, (rows, ..., features)."""
        return x

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what comes out instead of `y`, what the module made of `inputs(x)`; may change `y` in place."""
        return y

    @classmethod
    @abstractmethod
    def stack(cls, patches: Sequence[Self]) -> Self:
        """Return one update for a batch whose row i has `patches[i]`; all of the same shapes and options."""

    def forward(self, module: nn.Module, x: Tensor) -> Tensor:
        return self.outputs(x, type(module).forward(module, self.inputs(x)))


@dataclass(frozen=True, eq=False, slots=True)
class LowRank(Update):
    """Add a low-rank update, `x -> module(x) + scale * B(A(x))` (LoRA, Hu et al. 2021, arXiv:2106.09685).

    B may have a bias, as PEFT's `lora_bias` gives it.
    """

    kind: ClassVar[str] = "low-rank"
    A: Tensor  # (r, in_features), or (rows, r, in_features)
    B: Tensor  # (out_features, r), or (rows, out_features, r)
    scale: float
    bias: Tensor | None = None  # (out_features,), or (rows, out_features)

    def tensors(self) -> Mapping[str, Tensor]:
        own = {"lora_A.weight": self.A, "lora_B.weight": self.B}
        return own if self.bias is None else {**own, "lora_B.bias": self.bias}

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
            update: Tensor = nn.functional.linear(nn.functional.linear(x, self.A), self.B, self.bias) * self.scale
            return (y + update).to(y.dtype)
        rows = x.shape[0]
        inner = torch.bmm(x.reshape(rows, -1, x.shape[-1]), self.A.mT)
        flat = y.reshape(rows, -1, y.shape[-1])
        if self.bias is not None:
            flat = flat + (self.bias * self.scale).to(flat.dtype)[:, None]
        return torch.baddbmm(flat, inner.to(flat.dtype), self.B.mT.to(flat.dtype), alpha=self.scale).view_as(y)

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
    """Give the sum of weight and low-rank update rows of given lengths (DoRA, Liu et al. 2024, arXiv:2402.09353)."""

    kind: ClassVar[str] = "dora"
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
        own = y if self.bias is None else y - self.bias
        return (y + ((factor - 1) * own + factor * update * self.scale)).to(y.dtype)

    def fold(self, module: nn.Module) -> Mapping[str, Tensor]:
        weight = module.get_parameter("weight")
        folded = self.low.fold(module)
        assert folded is not None  # without a bias of its own, it always can be
        whole = folded["weight"].double()
        along = self.factor.double()
        return {"weight": (whole * (along[:, None] if isinstance(module, nn.Linear) else along)).to(weight.dtype)}


@dataclass(frozen=True, eq=False, slots=True)
class Scale(Update):
    """Multiply what goes into a module, or what comes out, by a number a feature (IA3, arXiv:2205.05638)."""

    kind: ClassVar[str] = "scale"
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
    """Add a number a feature to what comes out of a module."""

    kind: ClassVar[str] = "bias"
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


def features(module: nn.Module) -> tuple[int, int]:
    """Return (inputs, outputs) of a linear map, `nn.Linear` or GPT-2's Conv1D.

    Raises `AdapterError` for any other module.
    """
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":  # transformers' own, whose weight is (inputs, outputs)
        inner, outer = module.get_parameter("weight").shape
        return inner, outer
    raise AdapterError(f"this kind of patch needs a linear module, not {type(module).__name__}")


def _check_vector(name: str, tensor: Tensor, size: int) -> None:
    if tensor.shape != (size,):
        raise AdapterError(f"'{name}' is {tuple(tensor.shape)}, but ({size},) was expected")


def _beside(vector: Tensor, x: Tensor) -> Tensor:
    """Return (features,) or (rows, features) so that it broadcasts over `x`, (rows, ..., features)."""
    return (
        vector.to(x.dtype).view(-1, *[1] * (x.ndim - 2), vector.shape[-1]) if vector.ndim == 2 else vector.to(x.dtype)
    )
