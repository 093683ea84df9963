"""Few-shot: the top blocks are trained on pairs of texts, and the head is solved on the vectors that result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from adapterkit.errors import StrategyError
from adapterkit.modules import blocks, linear_maps
from adapterkit.strategy import PairTraining, Strategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class FewShot(Strategy):
    """Train low-rank updates so that texts of one label become alike, then solve the head (Tunstall et al. 2022).

    SetFit (arXiv:2209.11055) on the top blocks, all pairs of a batch at once. For 8 to 64 rows a label.
    """

    needs_validation: ClassVar[bool] = False

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 1e-3
    top: Annotated[int | None, "number of highest blocks to train (default: all)"] = None
    r: Annotated[int, "rank of the update"] = 32
    lora_alpha: Annotated[int, "scale of the update: lora_alpha / r"] = 64
    passes: Annotated[int, "number of passes over the texts, in pairs"] = 8
    batch_texts: Annotated[int, "number of texts of which all pairs are compared at once"] = 32

    def pair_training(self) -> PairTraining:
        return PairTraining(self.passes, self.batch_texts)

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        from adapterkit.patches.peft_lora import insert_lora

        for name, least in (("top", 1), ("r", 1), ("lora_alpha", 1), ("passes", 1), ("batch_texts", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise StrategyError(f"{name} must be >= {least}, got {value}")
        names = list(blocks(base))
        if self.top is not None and self.top > len(names):
            raise StrategyError(f"top={self.top}, but the base has {len(names)} blocks")
        chosen = tuple(f"{name}." for name in names[-(self.top or 0) :])
        targets = {name: module for name, module in linear_maps(base).items() if chosen and name.startswith(chosen)}
        if not targets:
            raise StrategyError(
                "few-shot needs blocks of linear modules, and this base has none; use head-only or full"
            )
        return insert_lora(base, targets, "default", r=self.r, lora_alpha=self.lora_alpha)

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        from adapterkit.patches.peft_lora import patches_of

        return patches_of(base)

    def remove(self, base: nn.Module) -> None:
        from adapterkit.patches.peft_layer import remove_layers

        remove_layers(base)
