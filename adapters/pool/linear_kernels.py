"""Linear maps of a pool's base by weights in a form that CPUs without bfloat16 compute with faster.

`float16-weights` are float16 weights with float32 arithmetic (FBGEMM): a pass of few tokens spends its time on reading
weights, and these are half as large. `int8` has weights in int8 by output feature, and inputs in seven bits by batch,
symmetric and affine as in Jacob et al. 2018 (arXiv:1712.05877), multiplied by oneDNN.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Collection, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

FLOAT16_WEIGHTS, INT8 = "float16-weights", "int8"
KINDS = (FLOAT16_WEIGHTS, INT8)
"""The kinds of weights, by the names that `Pool(dtype=...)` takes."""

_FEW_TOKENS = 128  # up to which reading weights takes longer than multiplying by them
_FEWER_TOKENS = 48  # up to which float16 weights are as fast as int8
_INPUT_LEVELS = 127  # oneDNN adds pairs of products in 16 bits on CPUs without VNNI, which eight bits overflow

_EXACT: ContextVar[bool] = ContextVar("adapterkit_exact", default=False)


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Compute every linear map from the base's own weights in this context."""
    token = _EXACT.set(True)
    try:
        yield
    finally:
        _EXACT.reset(token)


class Kernel:
    """A weight in another form, and the product with it."""

    def __init__(self, most_tokens: float) -> None:
        self.most_tokens = most_tokens
        """The number of tokens up to which it is the fastest."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the linear map of `x`, (..., inputs), as (..., outputs), with the bias that it was made with."""
        raise NotImplementedError


class Float16Weight(Kernel):
    """A weight in float16, multiplied in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None, most_tokens: float) -> None:
        super().__init__(most_tokens)
        self._packed = torch.ops.quantized.linear_prepack_fp16.default(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the linear map of `x`, whose values are float32."""
        y: Tensor = torch.ops.quantized.linear_dynamic_fp16.default(x, self._packed)
        return y


class Int8Weight(Kernel):
    """A weight in int8, scaled by output feature; inputs are scaled by their least and greatest value in a call."""

    def __init__(self, weight: Tensor, bias: Tensor | None, most_tokens: float) -> None:
        super().__init__(most_tokens)
        self._bias = bias
        self._scales = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        rounded = (weight / self._scales[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack.default(rounded, None)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the linear map of `x`, of inputs rounded to seven bits; NaN where any of them isn't finite."""
        least, greatest = float(x.min()), float(x.max())
        if not math.isfinite(greatest - least):
            return x.new_full((*x.shape[:-1], len(self._scales)), math.nan)
        least, greatest = min(0.0, least), max(0.0, greatest)
        scale = max((greatest - least) / _INPUT_LEVELS, torch.finfo(torch.float32).tiny)
        zero = round(-least / scale)
        levels = (x * (1 / scale)).add_(zero).round_().clamp_(0, _INPUT_LEVELS).to(torch.uint8)
        inputs = (levels, scale, zero, self._packed, self._scales, self._zeros, self._bias)
        y: Tensor = torch.ops.onednn.qlinear_pointwise.default(*inputs, 1.0, 0, torch.float32, "none", [], "")
        return y


class Forms:
    """The other forms of a weight and its bias, made when they are first used. Threads may share them."""

    def __init__(self, kind: str, weight: Tensor, bias: Tensor | None) -> None:
        self.kind, self.weight, self.bias = kind, weight, bias
        self._kernels: list[Kernel] | None = None
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: object) -> Forms:
        """Return itself, since copies of a base share its weights."""
        return self

    def kernels(self) -> Sequence[Kernel]:
        """Return the products, those for fewer tokens first; none for a weight with values beyond float16."""
        if self._kernels is None:
            with self._lock:
                if self._kernels is None:
                    self._kernels = self._make(self.weight.detach(), None if self.bias is None else self.bias.detach())
        return self._kernels

    def _make(self, weight: Tensor, bias: Tensor | None) -> list[Kernel]:
        if not bool(weight.abs().max() < torch.finfo(torch.float16).max):
            return []
        with torch.inference_mode(False), torch.no_grad():
            if self.kind == FLOAT16_WEIGHTS:
                return [Float16Weight(weight, bias, _FEW_TOKENS)]
            return [Float16Weight(weight, bias, _FEWER_TOKENS), Int8Weight(weight, bias, float("inf"))]


class LinearKernels:
    """The forms of a base's weights, which the modules of several pools' parts share."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._forms: dict[int, Forms] = {}
        """The forms of each weight, by its address."""

    def apply(self, model: nn.Module, but: Collection[str] = ()) -> None:
        """Let the linear maps of `model` compute by these, `but` those with weights of these names.

        A map whose weight is replaced later computes as ever.
        """
        for name, module in model.named_modules():
            if type(module) is nn.Linear and module.weight.dtype == torch.float32 and f"{name}.weight" not in but:
                address = module.weight.data_ptr()
                module.__class__ = FastLinear
                forms = Forms(self.kind, module.weight, module.bias)
                module.__dict__["forms"] = self._forms.setdefault(address, forms)


class FastLinear(nn.Linear):
    """A linear map that computes by other forms of its weight, unless another weight or bias has taken its place."""

    forms: Forms

    def forward(self, input: Tensor) -> Tensor:
        """Return the linear map of `input`, (..., inputs), as (..., outputs)."""
        forms: Forms = self.__dict__["forms"]
        values = self._parameters
        unchanged = _is_same(values["weight"], forms.weight) and _is_same(values["bias"], forms.bias)
        if unchanged and not _EXACT.get():
            tokens = input.numel() // input.shape[-1] if input.dtype == torch.float32 else 0
            for kernel in forms.kernels() if tokens else ():
                if tokens <= kernel.most_tokens:
                    return kernel(input)
        return super().forward(input)

    def renew_forms(self) -> None:
        """Compute by other forms of the weight and bias that have taken the place of the first ones."""
        values = self._parameters
        weight = values["weight"]
        assert weight is not None
        self.__dict__["forms"] = Forms(self.__dict__["forms"].kind, weight, values["bias"])


def _is_same(a: Tensor | None, b: Tensor | None) -> bool:
    """Return whether two parameters are one, or share their numbers, as those of copies of a base do."""
    return a is b or (a is not None and b is not None and a.data_ptr() == b.data_ptr())


def unsupported(kind: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why a base in `dtype` on `device` can't compute in `kind` here, or None where it can."""
    if device.type != "cpu":
        return f"{kind} is for CPUs, and the pool is on {device.type}"
    if dtype != torch.float32:
        return f"{kind} is for a base in float32, and this one is in {str(dtype).removeprefix('torch.')}"
    weight, x = torch.linspace(-1, 1, 128).view(8, 16), torch.linspace(-1, 1, 32).view(2, 16)
    try:
        results: list[Any] = [kernel(x) for kernel in Forms(kind, weight, None).kernels()]
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        return f"torch {torch.__version__} has no {kind} here: {' '.join(str(error).split())[:120]}"
    expected = x @ weight.mT
    wrong = any(not torch.allclose(y, expected, atol=0.05 * float(expected.abs().max()), rtol=0) for y in results)
    return f"this CPU computes wrong products in {kind}" if wrong else None
