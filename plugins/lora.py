"""LoRA: a low-rank update beside chosen linear maps, trained by PEFT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from adapterkit.errors import StrategyError
from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patch import Patch


@dataclass(frozen=True, kw_only=True)
class LoRA(Strategy):
    """Train low-rank updates of the base's linear maps (Hu et al. 2021, arXiv:2106.09685)."""

    learning_rate: Annotated[float, "highest learning rate (AdamW)", "--lr"] = 2e-3
    r: Annotated[int, "rank of the update"] = 8
    lora_alpha: Annotated[int, "the update is scaled by lora_alpha / r"] = 16
    lora_dropout: Annotated[float, "dropout before the update, while training"] = 0.0
    target_modules: Annotated[
        tuple[str, ...],
        "names of linear modules, or all-linear; by default what PEFT takes for the architecture (query and value)",
    ] = ()

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as usual
        from transformers.pytorch_utils import Conv1D

        if self.r < 1:
            raise StrategyError(f"r={self.r}, but a rank is at least 1")
        if self.lora_alpha <= 0:
            raise StrategyError(f"lora_alpha={self.lora_alpha}, and the update would be nothing")
        if not 0 <= self.lora_dropout < 1:
            raise StrategyError(f"lora_dropout={self.lora_dropout} is not a share from 0 to below 1")
        targets = list(self.target_modules or usual.get(getattr(base.config, "model_type", ""), ["all-linear"]))
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules="all-linear" if targets == ["all-linear"] else targets,
            fan_in_fan_out=any(isinstance(m, Conv1D) for m in base.modules()),
        )
        try:
            inject_adapter_in_model(config, base)
        except ValueError as error:
            if not any(_is_linear(m) for m in base.modules()):
                raise StrategyError(
                    "lora needs linear modules, and this base has none; use head-only or full"
                ) from error
            there = ", ".join(sorted({name.rpartition(".")[2] for name, m in base.named_modules() if _is_linear(m)}))
            raise StrategyError(
                f"target_modules={','.join(targets)}; the base has these linear modules: {there}"
            ) from error
        odd = [name for name, m in _injected(base) if not _is_linear(m.base_layer)]
        if odd:
            raise StrategyError(f"target_modules={','.join(targets)}: '{odd[0]}' is not a linear module")
        return [p for _, m in _injected(base) for part in (m.lora_A, m.lora_B) for p in part.parameters()]

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        from adapterkit.patch import LowRank

        return {
            name: LowRank(m.lora_A["default"].weight, m.lora_B["default"].weight, m.scaling["default"])
            for name, m in _injected(base)
        }

    def remove(self, base: nn.Module) -> None:
        for name, module in _injected(base):
            base.set_submodule(name, module.base_layer)
        vars(base).pop("peft_config", None)


def _injected(base: nn.Module) -> list[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in base.named_modules() if isinstance(module, LoraLayer)]


def _is_linear(module: nn.Module) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)
