"""LoRA-FA (Zhang et al. 2023, arXiv:2308.03303): LoRA whose A is random and frozen, so that only B is trained."""

from dataclasses import dataclass
from typing import Annotated

import torch

from adapterkit import LowRank
from adapterkit.errors import StrategyError
from adapterkit.modules import linear_maps
from adapterkit.patches.patch import features
from adapterkit.strategy import PatchStrategy


@dataclass(frozen=True, kw_only=True)
class LoRAFA(PatchStrategy):
    """Train B of a low-rank update B A of every linear map; A is random and frozen (arXiv:2308.03303)."""

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 4e-3
    r: Annotated[int, "rank of the update"] = 8
    lora_alpha: Annotated[int, "scale of the update: lora_alpha / r"] = 16

    def fresh(self, base):
        if self.r < 1:
            raise StrategyError(f"r must be >= 1, got {self.r}")
        return {name: self._update(module) for name, module in linear_maps(base).items()}

    def _update(self, module):
        inputs, outputs = features(module)
        a = torch.randn(self.r, inputs, dtype=module.weight.dtype) / inputs**0.5  # drawn with the run's seed
        b = torch.zeros(outputs, self.r, dtype=module.weight.dtype)  # zero, so that training starts at the base
        return LowRank(torch.nn.Parameter(a, requires_grad=False), torch.nn.Parameter(b), self.lora_alpha / self.r)

    def apply(self, base):
        return [parameter for parameter in super().apply(base) if parameter.requires_grad]
