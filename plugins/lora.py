"""LoRA: a low-rank update beside chosen linear maps, trained by PEFT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from adapterkit.errors import StrategyError
from adapterkit.modules import target_linear_maps
from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class LoRA(Strategy):
    """Train low-rank updates of the base's linear maps (Hu et al. 2021, arXiv:2106.09685).

    For most tasks: near full fine-tuning, in a hundredth of its bytes.
    """

    trains_weights: ClassVar[bool] = True
    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 1e-3
    r: Annotated[int, "rank of the update"] = 8
    lora_alpha: Annotated[int, "scale of the update: lora_alpha / r"] = 16
    lora_dropout: Annotated[float, "dropout probability before the update"] = 0.0
    target_modules: Annotated[
        tuple[str, ...], "names of linear modules; all-linear: those of all blocks; usual: PEFT's default"
    ] = ("all-linear",)
    use_rslora: Annotated[bool, "scale by lora_alpha / sqrt(r) (Kalajdzievski 2023, arXiv:2312.03732)"] = False
    use_dora: Annotated[bool, "train the magnitude of weights separately (DoRA, arXiv:2402.09353)"] = False
    init_lora_weights: Annotated[
        Literal["default", "gaussian", "orthogonal", "pissa", "olora"],
        "initialisation; pissa (arXiv:2404.02948) and olora (arXiv:2406.01775) double the size of the adapter",
    ] = "default"
    loraplus_lr_ratio: Annotated[float, "learning rate of B relative to A's (LoRA+, arXiv:2402.12354)"] = 1.0

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as usual

        from adapterkit.patches.peft_lora import insert_lora

        options = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")
        self._check()
        targets = target_linear_maps(base, self.target_modules, usual)
        return insert_lora(base, targets, self.init_lora_weights, **{name: getattr(self, name) for name in options})

    def _check(self) -> None:
        init, ratio = self.init_lora_weights, self.loraplus_lr_ratio
        for message, is_wrong in {
            f"r must be >= 1, got {self.r}": self.r < 1,
            f"lora_alpha must be > 0, got {self.lora_alpha}": self.lora_alpha <= 0,
            f"lora_dropout must be >= 0 and < 1, got {self.lora_dropout}": not 0 <= self.lora_dropout < 1,
            f"loraplus_lr_ratio must be finite and > 0, got {ratio}": not 0 < ratio < float("inf"),
            f"init_lora_weights=orthogonal needs an even r, got {self.r}": init == "orthogonal" and self.r % 2,
            f"use_dora and init_lora_weights={init} exclude each other": self.use_dora and init in ("pissa", "olora"),
        }.items():
            if is_wrong:
                raise StrategyError(message)

    def rates(self, base: nn.Module) -> Mapping[nn.Parameter, float]:
        from adapterkit.patches.peft_layer import layers_of

        ratio, layers = self.loraplus_lr_ratio, layers_of(base).values()
        return {} if ratio == 1.0 else {p: ratio for m in layers for p in m.lora_B["default"].parameters()}

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        from adapterkit.patches.peft_lora import patches_of

        return patches_of(base)

    def remove(self, base: nn.Module) -> None:
        from adapterkit.patches.peft_layer import remove_layers

        remove_layers(base)
