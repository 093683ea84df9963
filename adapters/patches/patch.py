"""A patch: one change to one module of the base; an adapter is a set of patches and a head."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from ..errors import AdapterError


class Patch(ABC):
    """Change what one module of the base computes, leaving its tensors and its name alone.

    >>> class Negate(ak.Patch):
    ...     kind = "negate"
    ...     def tensors(self):
    ...         return {}
    ...     @classmethod
    ...     def load(cls, tensors, options, module):
    ...         return cls()
    ...     def forward(self, module, *args, **kwargs):
    ...         return -type(module).forward(module, *args, **kwargs)
    >>> layer = nn.Identity()
    >>> undo = Negate().attach(layer)  # a function that detaches it
    >>> layer(2)
    -2
    """

    kind: ClassVar[str]
    """The name of this kind of patch in manifests; unique among the installed ones."""
    encoded: ClassVar[bool] = False
    """Whether its tensors may be integers: codes that `load` decodes."""
    by_token: ClassVar[bool] = False
    """Whether it changes each token from this token alone, so that it can run in a batch without padding."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Return the patch's tensors by the names they have in the adapter's file."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the trainable tensors by name: by default those of the file."""
        return self.tensors()

    def options(self) -> Mapping[str, Any]:
        """Return what `load` needs besides tensors, as JSON values."""
        return {}

    @classmethod
    @abstractmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Patch:
        """Create the patch for `module` from what `tensors` and `options` returned.

        Raises `AdapterError` where a tensor is missing, unexpected, or of a shape that doesn't fit `module`.
        """

    @abstractmethod
    def forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the patched `module`: the reference for every faster path."""

    def fold(self, module: nn.Module) -> Mapping[str, Tensor] | None:
        """Return the tensors of `module` with which it computes the same unpatched, or None where there are none."""
        return None

    def attach(self, module: nn.Module) -> Callable[[], None]:
        """Make `module` compute `forward` until the returned function is called.

        Raises `AdapterError` where another patch is attached to it.
        """
        if "forward" in vars(module):
            raise AdapterError(f"{type(module).__name__} is patched already; detach the other adapter first")
        module.forward = functools.partial(self.forward, module)
        return lambda: vars(module).pop("forward", None)


class Held(nn.Module):
    """A trainable patch as a submodule of the module that it patches, so that its tensors are parameters of that."""

    NAME = "held_patch"

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        for name, tensor in patch.parameters().items():
            self.register_parameter(name.replace(".", "_"), tensor)  # type: ignore[arg-type]
        self.patch = patch

    @classmethod
    def attach(cls, module: nn.Module, patch: Patch) -> list[nn.Parameter]:
        """Make `module` compute what `patch` does, and return the patch's tensors as trainable parameters."""
        held = cls(patch)
        module.add_module(cls.NAME, held)
        patch.attach(module)
        return list(held.parameters())

    @classmethod
    def of(cls, base: nn.Module) -> dict[str, Held]:
        """Return the patches that modules of `base` hold, by the modules' names."""
        by_name = {name: vars(m)["_modules"].get(cls.NAME) for name, m in base.named_modules()}
        return {name: held for name, held in by_name.items() if isinstance(held, Held)}

    def detach(self, module: nn.Module) -> None:
        """Restore the original computation of `module`."""
        vars(module).pop("forward", None)
        delattr(module, self.NAME)


class Update(Patch):
    """A patch that changes the inputs or outputs of a linear map or a norm, and not its weights.

    Rows with different updates share one product with the weights. An update for many rows has tensors with one more
    dimension, that of the rows; `stack` returns it.

    `load` raises `AdapterError` where the tensors' shapes don't fit the module.

    >>> one, two = ak.Bias(torch.tensor([1.0])), ak.Bias(torch.tensor([2.0]))
    >>> both = ak.Bias.stack([one, two])
    >>> layer, x = nn.Linear(1, 1), torch.zeros(2, 1)
    >>> both.outputs(x, torch.zeros(2, 1))  # a row for each
    tensor([[1.],
            [2.]])
    """

    def inputs(self, x: Tensor) -> Tensor:
        """Return the inputs that replace `x`, (rows, ..., features)."""
        return x

    def outputs(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the outputs that replace `y`, those for `inputs(x)`; may change `y` in place."""
        return y

    @classmethod
    @abstractmethod
    def stack(cls, patches: Sequence[Self]) -> Self:
        """Return one update for a batch whose row i has `patches[i]`, all of equal shapes and options."""

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
