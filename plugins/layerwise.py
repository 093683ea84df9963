"""Layer-wise freezing: chosen blocks learn, the rest of the base stays as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from adapterkit.errors import StrategyError
from adapterkit.modules import blocks, chosen_blocks
from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Layerwise(Strategy):
    """Train some of the base's blocks, the top two unless told otherwise (Lee et al. 2019, arXiv:1911.03090)."""

    learning_rate: Annotated[float, "highest learning rate (AdamW)", "--lr"] = 3e-4
    top: Annotated[int | None, "train this many of the highest blocks (2, where --layers is not given)"] = None
    layers: Annotated[str | None, "train these blocks, counted from 0 at the bottom: 4-5 or 0,4-5"] = None

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        found = list(blocks(base).values())
        return [p for i in self.chosen(len(found)) for p in found[i].parameters()]

    def chosen(self, count: int) -> tuple[int, ...]:
        """Return the indices of the blocks to train, of `count`."""
        if self.top is not None and self.layers is not None:
            raise StrategyError(f"give top={self.top} or layers='{self.layers}', not both")
        if not count:
            raise StrategyError("layerwise needs blocks, and this base has none; use head-only or full")
        if self.layers is not None:
            return chosen_blocks(self.layers, count)
        top = min(2, count) if self.top is None else self.top
        if not 1 <= top <= count:
            raise StrategyError(f"top={top}, but the base has {count} blocks")
        return tuple(range(count - top, count))
