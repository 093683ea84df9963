"""LoRA: a low-rank update beside chosen linear maps, trained by PEFT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from adapterkit.errors import StrategyError
from adapterkit.modules import blocks, linear_maps, named_like
from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class LoRA(Strategy):
    """Train low-rank updates of the base's linear maps (Hu et al. 2021, arXiv:2106.09685).

    For most tasks: near full fine-tuning, in a hundredth of its bytes.
    """

    learning_rate: Annotated[float, "highest learning rate (AdamW)", "--lr"] = 1e-3
    r: Annotated[int, "rank of the update"] = 8
    lora_alpha: Annotated[int, "the update is scaled by lora_alpha / r"] = 16
    lora_dropout: Annotated[float, "dropout before the update, while training"] = 0.0
    target_modules: Annotated[
        tuple[str, ...], "names of linear modules; all-linear: those of all blocks; usual: what PEFT takes by default"
    ] = ("all-linear",)
    use_rslora: Annotated[bool, "scale by lora_alpha / sqrt(r) (Kalajdzievski 2023, arXiv:2312.03732)"] = False
    use_dora: Annotated[bool, "learn the rows' lengths apart (DoRA, Liu et al. 2024, arXiv:2402.09353)"] = False
    init_lora_weights: Annotated[
        Literal["default", "gaussian", "orthogonal", "pissa", "olora"],
        "pissa: the weights' largest singular values (Meng et al. 2024, arXiv:2404.02948); olora: their QR "
        "decomposition (Büyükakyüz 2024, arXiv:2406.01775); both double what is saved",
    ] = "default"
    loraplus_lr_ratio: Annotated[float, "B's rate by A's (LoRA+, Hayou et al. 2024, arXiv:2402.12354)"] = 1.0

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        from peft import LoraConfig, inject_adapter_in_model

        self._check()
        targets = self._targets(base)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=list(targets),
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            init_lora_weights=self.init_lora_weights if self.init_lora_weights in ("gaussian", "orthogonal") else True,
            fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in targets.values()),
        )
        inject_adapter_in_model(config, base)
        learning = []
        for _, layer in _injected(base):
            low = (layer.lora_A["default"], layer.lora_B["default"])
            learning += [p for part in (*low, *layer.lora_magnitude_vector.values()) for p in part.parameters()]
            if self.init_lora_weights in _STARTS:
                _start(self.init_lora_weights, layer.base_layer, *low, layer.scaling["default"])
        return learning

    def _check(self) -> None:
        if self.r < 1:
            raise StrategyError(f"r={self.r}, but a rank is at least 1")
        if self.lora_alpha <= 0:
            raise StrategyError(f"lora_alpha={self.lora_alpha}, and the update would be nothing")
        if not 0 <= self.lora_dropout < 1:
            raise StrategyError(f"lora_dropout={self.lora_dropout} is not a share from 0 to below 1")
        if not 0 < self.loraplus_lr_ratio < float("inf"):
            raise StrategyError(f"loraplus_lr_ratio={self.loraplus_lr_ratio}, and a number above 0 was expected")
        if self.init_lora_weights == "orthogonal" and self.r % 2:
            raise StrategyError(f"init_lora_weights=orthogonal needs an even rank, not r={self.r}")
        if self.use_dora and self.init_lora_weights in ("pissa", "olora"):
            raise StrategyError(f"give use_dora or init_lora_weights={self.init_lora_weights}, not both")

    def _targets(self, base: nn.Module) -> dict[str, Any]:
        """Return the linear modules that are to have an update, by name."""
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as usual

        there = linear_maps(base)
        if not there:
            raise StrategyError("lora needs linear modules, and this base has none; use head-only or full")
        targets = self.target_modules
        if targets == ("usual",):
            targets = tuple(usual.get(getattr(base.config, "model_type", ""), ()))
        if targets == ("all-linear",):
            inside = tuple(f"{name}." for name in blocks(base))
            return {name: m for name, m in there.items() if name.startswith(inside)} or there
        odd = [n for n, m in base.named_modules() if n not in there and n.rpartition(".")[2] in targets]
        if odd:
            raise StrategyError(f"target_modules={','.join(targets)}: '{odd[0]}' is not a linear module")
        return named_like(there, targets, "target_modules")

    def rates(self, base: nn.Module) -> Mapping[nn.Parameter, float]:
        if self.loraplus_lr_ratio == 1.0:
            return {}
        return {p: self.loraplus_lr_ratio for _, layer in _injected(base) for p in layer.lora_B["default"].parameters()}

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        from adapterkit.patches.low_rank import Dora, LowRank

        found: dict[str, Patch] = {}
        for name, layer in _injected(base):
            low = LowRank(layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"])
            length = layer.lora_magnitude_vector["default"].weight if self.use_dora else None
            found[name] = low if length is None else Dora.of(low, length, layer.base_layer)
        return found

    def remove(self, base: nn.Module) -> None:
        for name, module in _injected(base):
            base.set_submodule(name, module.base_layer)
        vars(base).pop("peft_config", None)


def _start(kind: str, base_layer: nn.Module, a: Any, b: Any, scaling: float) -> None:
    """Give an update's factors parts of the weight to start with, less what they start with, which stays beside them.

    So an adapter starts as the base, whose weights PEFT would change instead; like PEFT's own adapters once these are
    converted back, it has twice the rank.
    """
    import torch
    from torch.nn.utils.parametrize import register_parametrization

    class Beside(torch.nn.Module):
        def __init__(self, start: torch.Tensor, dim: int) -> None:
            super().__init__()
            self.dim = dim
            self.register_buffer("start", start, persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, self.get_buffer("start")], self.dim)

    weight = base_layer.get_parameter("weight").detach().float()
    weight = weight if isinstance(base_layer, torch.nn.Linear) else weight.mT
    if len(a.weight) > min(weight.shape):
        raise StrategyError(f"r={len(a.weight)}, but a weight has shape {tuple(weight.shape)}, of no higher rank")
    for module, start, dim, sign in zip(
        (a, b), _STARTS[kind](weight, len(a.weight), scaling), (0, 1), (1, -1), strict=True
    ):
        module.weight.data = start.to(module.weight.dtype).contiguous()
        register_parametrization(module, "weight", Beside(module.weight.detach().clone() * sign, dim), unsafe=True)


def _pissa(weight: Any, r: int, scaling: float) -> tuple[Any, Any]:
    from torch.linalg import svd

    u, s, vh = svd(weight, full_matrices=False)
    root = (s[:r] / scaling).sqrt()
    return root[:, None] * vh[:r], u[:, :r] * root


def _olora(weight: Any, r: int, scaling: float) -> tuple[Any, Any]:
    from torch.linalg import qr

    q, rest = qr(weight)
    return rest[:r], q[:, :r]


_STARTS = {"pissa": _pissa, "olora": _olora}


def _injected(base: nn.Module) -> list[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in base.named_modules() if isinstance(module, LoraLayer)]
