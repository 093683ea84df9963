"""Replaced tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .patch import Patch


@dataclass(frozen=True, eq=False, slots=True)
class Replace(Patch):
    """Replace some parameters of a module.

    `load` raises `AdapterError` for a name or a shape that the module doesn't have.

    >>> layer = torch.nn.Linear(4, 2)
    >>> undo = ak.Replace({"bias": torch.ones(2)}).attach(layer)
    >>> layer(torch.zeros(1, 4))
    tensor([[1., 1.]], grad_fn=<AddmmBackward0>)
    >>> undo()
    """

    kind: ClassVar[str] = "replace"
    by_token: ClassVar[bool] = True
    replaced: Mapping[str, Tensor]

    def tensors(self) -> Mapping[str, Tensor]:
        return self.replaced

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> Replace:
        parameters = dict(module.named_parameters(recurse=False))
        for name, tensor in tensors.items():
            if name not in parameters:
                raise AdapterError(
                    f"'{name}' is no parameter of {type(module).__name__}; it has {', '.join(parameters)}"
                )
            if tensor.shape != parameters[name].shape:
                raise AdapterError(
                    f"'{name}' is {tuple(tensor.shape)}, but the base's is {tuple(parameters[name].shape)}"
                )
        return cls({name: tensor.to(parameters[name].dtype) for name, tensor in tensors.items()})

    def forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(module, dict(self.replaced), args, kwargs)

    def fold(self, module: nn.Module) -> Mapping[str, Tensor]:
        return self.replaced

    def attach(self, module: nn.Module) -> Callable[[], None]:
        # by exchanging the parameters' storage, so that weights tied to them, or read past forward(), follow
        parameters = {name: module.get_parameter(name) for name in self.replaced}
        before = {name: parameter.data for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            parameter.data = self.replaced[name].to(device=parameter.device, dtype=parameter.dtype)

        def detach() -> None:
            for name, parameter in parameters.items():
                parameter.data = before[name]

        return detach
