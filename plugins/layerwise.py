"""Layer-wise freezing: chosen blocks of the base are trained, in all epochs or in some; the rest stays frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from adapterkit.errors import StrategyError
from adapterkit.modules import block_groups, blocks, chosen_blocks
from adapterkit.strategy import Strategy
from adapterkit.training.freezing import add_norms, begin_epoch, new_norms

if TYPE_CHECKING:
    from torch import Tensor, nn

_NORMS = "settling"  # the buffer of gradient norms, by the name that checkpoints have


@dataclass(frozen=True, kw_only=True)
class Layerwise(Strategy):
    """Train some of the base's blocks, by default the top two (Lee et al. 2019, arXiv:1911.03090).

    For a base that fits the language of its task already; hidden states of the frozen blocks below are cached.
    """

    trains_weights: ClassVar[bool] = True
    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 3e-4
    top: Annotated[int | None, "number of highest blocks to train (default: 2 if nothing else is chosen)"] = None
    bottom: Annotated[int | None, "number of lowest blocks to train"] = None
    layers: Annotated[str | None, "blocks to train, counted from 0 at the bottom: 4-5 or 0,4-5"] = None
    embeddings: Annotated[bool, "also train the layers below the blocks"] = False
    norms: Annotated[bool, "also train all layer norms"] = False
    unfreezing: Annotated[
        Literal["none", "gradual"], "gradual: the highest block first, one more in each epoch (arXiv:1801.06146)"
    ] = "none"
    freezing: Annotated[Literal["none", "auto"], "auto: freeze converged blocks from below (arXiv:2102.01386)"] = "none"

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        if self.unfreezing != "none" and self.freezing != "none":
            raise StrategyError(f"unfreezing={self.unfreezing} and freezing={self.freezing} exclude each other")
        groups = self.groups(base)
        if self.freezing == "auto":
            base.register_buffer(_NORMS, new_norms(groups), persistent=False)
        return [p for group in groups for p in group]

    def groups(self, base: nn.Module) -> list[list[nn.Parameter]]:
        """Return the trained parameters, lowest first: those below the blocks, of each block, and norms above."""
        count = len(blocks(base))
        if self.layers is not None and (self.top is not None or self.bottom is not None):
            raise StrategyError(f"layers='{self.layers}' excludes top={self.top} and bottom={self.bottom}")
        for name, number in (("top", self.top), ("bottom", self.bottom)):
            if number is not None and not 1 <= number <= count:
                raise StrategyError(f"{name}={number}, but the base has {count} blocks")
        if self.layers is not None:
            chosen = chosen_blocks(self.layers, count)
        else:
            is_default = self.top is None and self.bottom is None and not self.embeddings and not self.norms
            top = min(2, count) if is_default else self.top or 0
            chosen = (*range(self.bottom or 0), *range(count - top, count))
        return block_groups(base, chosen, embeddings=self.embeddings, all_norms=self.norms)

    def on_epoch(self, base: nn.Module, epoch: int) -> Iterable[nn.Parameter] | None:
        if self.unfreezing == "gradual":
            return [p for group in self.groups(base)[-epoch:] for p in group]
        if self.freezing == "auto":
            return [p for group in self.groups(base)[begin_epoch(base.get_buffer(_NORMS)) :] for p in group]
        return None

    def on_step(self, base: nn.Module) -> None:
        if self.freezing == "auto":
            add_norms(base.get_buffer(_NORMS), self.groups(base))

    def state(self, base: nn.Module) -> Mapping[str, Tensor]:
        return {_NORMS: base.get_buffer(_NORMS)} if self.freezing == "auto" else {}

    def remove(self, base: nn.Module) -> None:
        if self.freezing == "auto":
            delattr(base, _NORMS)
