"""Bottleneck adapters: small networks put after attention and feed-forward layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from adapterkit.errors import StrategyError
from adapterkit.modules import linear_maps, named_like, sublayer_ends
from adapterkit.strategy import PatchStrategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class Bottleneck(PatchStrategy):
    """Train small networks after each attention and feed-forward layer (Houlsby et al. 2019, arXiv:1902.00751).

    For tasks far from the base's pretraining, where a low-rank update of its linear layers is not enough.
    """

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 3e-3
    bottleneck_dim: Annotated[int, "hidden size of a bottleneck"] = 16
    activation: Annotated[Literal["relu", "gelu", "silu"], "activation function of a bottleneck"] = "relu"
    target_modules: Annotated[
        tuple[str, ...],
        "linear modules to put a bottleneck after (default: the last of each attention and feed-forward layer)",
    ] = ()

    def fresh(self, base: nn.Module) -> Mapping[str, Patch]:
        import torch
        from torch.nn import Parameter

        from adapterkit.patches import bottleneck
        from adapterkit.patches.patch import features

        if self.bottleneck_dim < 1:
            raise StrategyError(f"bottleneck_dim must be >= 1, got {self.bottleneck_dim}")
        ends = sublayer_ends(base)
        if not self.target_modules and not ends:
            raise StrategyError("bottleneck needs blocks of linear modules, and this base has none")
        chosen = named_like(linear_maps(base), self.target_modules, "target_modules") if self.target_modules else ends
        patches: dict[str, Patch] = {}
        for name, module in chosen.items():
            width, size, like = features(module)[1], self.bottleneck_dim, module.weight.new_zeros
            down = torch.nn.init.normal_(like((size, width)), std=width**-0.5)
            up = like((width, size))  # zero, so that training starts at the base
            patches[name] = bottleneck.Bottleneck(
                Parameter(down), Parameter(like(size)), Parameter(up), Parameter(like(width)), self.activation
            )
        return patches
