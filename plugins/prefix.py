"""Prefix tuning: each attention layer attends to a few trained keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

from adapterkit.errors import StrategyError
from adapterkit.modules import attentions
from adapterkit.strategy import PatchStrategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class PrefixTuning(PatchStrategy):
    """Train keys and values beside those of each attention (Li and Liang 2021, arXiv:2101.00190; He et al. 2022).

    In the parallel form of arXiv:2110.04366, which starts as the base. For steering generation with few parameters.
    """

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 4e-2
    num_virtual_tokens: Annotated[int, "number of trained keys and values of each attention layer"] = 16

    def fresh(self, base: nn.Module) -> Mapping[str, Patch]:
        import torch
        from torch.nn import Parameter

        from adapterkit.patches.prefix import Prefix, width_of

        if self.num_virtual_tokens < 1:
            raise StrategyError(f"num_virtual_tokens must be >= 1, got {self.num_virtual_tokens}")
        layers, config = attentions(base), cast("Any", base.config)
        if not layers:
            raise StrategyError("prefix needs attention layers, and this base has none; use head-only or full")
        patches: dict[str, Patch] = {}
        for name, module in layers.items():
            width, heads = width_of(module), config.num_attention_heads
            like = next(module.parameters()).new_zeros(heads, self.num_virtual_tokens, width // heads)
            keys = torch.nn.init.normal_(like.clone(), std=1.0)
            patches[name] = Prefix(Parameter(keys), Parameter(like))  # zero values, so that training starts at the base
        return patches
