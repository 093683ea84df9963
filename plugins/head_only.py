"""Head-only: the base is frozen, and only the task's head is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class HeadOnly(Strategy):
    """Train the task's head on the frozen base; the smallest adapter there is."""

    needs_validation: ClassVar[bool] = False

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 5e-3

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        return ()
