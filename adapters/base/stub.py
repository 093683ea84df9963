"""A stand-in for the base inside a task model, for outputs that are computed elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class BaseStub(nn.Module):
    """Return precomputed outputs in place of a base's forward pass; delegate all other attributes to the base.

    `outputs` is called with the arguments of each call and returns the base's model output. A `pooler` for which the
    checkpoint has no tensors belongs to the head, and runs on these outputs.
    """

    def __init__(self, base: nn.Module, outputs: Callable[..., Any], pooler: nn.Module | None = None) -> None:
        super().__init__()
        self.pooler = pooler
        vars(self)["_base"] = base  # not registered as a child: its parameters aren't the stub's
        self._outputs = outputs

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(vars(self)["_base"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the base's model output for a call, with `pooler_output` where the stub has a pooler."""
        output = self._outputs(*args, **kwargs)
        if self.pooler is not None:
            output = type(output)(**{**output, "pooler_output": self.pooler(output[0])})
        return output
