"""Full fine-tuning: every parameter of the base is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Full(Strategy):
    """Train the whole base (Devlin et al. 2018, arXiv:1810.04805); the adapter holds what changed."""

    trains_weights: ClassVar[bool] = True
    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 1e-4

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        return base.parameters()
