"""A patch: one change to one module of the base. What an adapter is made of."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

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
