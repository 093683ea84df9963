"""Stand where a base was in a task's model, and say what it is known to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class Given(nn.Module):
    """Answer every call with what `say` returns of it, an output of the base; ask the base for anything else.

    A `pooler` that the checkpoint doesn't have is the head's, and runs on what is said.
    """

    def __init__(self, base: nn.Module, say: Callable[..., Any], pooler: nn.Module | None = None) -> None:
        super().__init__()
        self.pooler = pooler
        vars(self)["_base"] = base  # not a child: it has its own place
        self._say = say

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(vars(self)["_base"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what is said of a call."""
        output = self._say(*args, **kwargs)
        if self.pooler is not None:
            output = type(output)(**{**output, "pooler_output": self.pooler(output[0])})
        return output
