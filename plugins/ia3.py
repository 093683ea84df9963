"""IA3: what attention and feed-forward layers compute is multiplied by learned numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from adapterkit.modules import linear_maps, named_like, sublayer_ends
from adapterkit.strategy import PatchStrategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class IA3(PatchStrategy):
    """Scale keys, values and the feed-forward layers' inner features (Liu et al. 2022, arXiv:2205.05638).

    For the smallest adapters that change the base, and for few examples.
    """

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 3e-2
    target_modules: Annotated[
        tuple[str, ...],
        "names of linear modules (default: PEFT's, else keys, values and the last of each feed-forward layer)",
    ] = ()
    feedforward_modules: Annotated[
        tuple[str, ...], "those of target_modules whose input is scaled, and not their output"
    ] = ()

    def fresh(self, base: nn.Module) -> Mapping[str, Patch]:
        import torch
        from peft.utils import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as usual_inner
        from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as usual

        from adapterkit.patches.patch import features
        from adapterkit.patches.scaling import Scale

        family, maps = getattr(base.config, "model_type", ""), linear_maps(base)
        ends = [name for name, m in sublayer_ends(base).items() if features(m)[0] != features(m)[1]]
        keys_and_values = [name for name in maps if re.search(r"(^|\.)(k|v|key|value)(_[a-z]+)?$", name)]
        targets = named_like(
            maps, self.target_modules or usual.get(family, (*keys_and_values, *ends)), "target_modules"
        )
        inner = self.feedforward_modules or (() if self.target_modules else usual_inner.get(family, ends))
        inward = named_like(targets, inner, "feedforward_modules") if inner else {}
        patches: dict[str, Patch] = {}
        for name, module in targets.items():
            size = features(module)[0 if name in inward else 1]
            by = torch.nn.Parameter(torch.ones(size, dtype=module.weight.dtype, device=module.weight.device))
            patches[name] = Scale(by, "inputs" if name in inward else "outputs")
        return patches
