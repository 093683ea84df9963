"""Any method of PEFT's by its name, trained by PEFT."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from adapterkit.errors import StrategyError
from adapterkit.modules import blocks, linear_maps, norm_modules
from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class Peft(Strategy):
    """Train a method that PEFT has by its name there, such as HIRA, LOHA, OFT, BOFT or FOURIERFT; each has its paper.

    For methods that have no strategy of their own here; lora and ia3 have, and are quicker in a pool.
    """

    learning_rate: Annotated[float, "highest learning rate (AdamW)", "--lr"] = 2e-3
    peft_type: Annotated[str, "PEFT's name of the method: HIRA, LOHA, LOKR, OFT, BOFT, FOURIERFT, ..."] = "HIRA"
    peft_config: Annotated[tuple[str, ...], "options of PEFT's config class, as key=value,key=value"] = ()
    target_modules: Annotated[
        tuple[str, ...], "names of modules; all-linear: those of all blocks; usual: what PEFT takes by default"
    ] = ("all-linear",)

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        from peft import inject_adapter_in_model

        try:
            inject_adapter_in_model(self._config(base), base)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise StrategyError(f"peft_type={self.peft_type}: {' '.join(str(error).split())}") from error
        return [p for _, layer in _layers(base) for n, p in layer.named_parameters() if "base_layer." not in n]

    def _config(self, base: nn.Module) -> Any:
        from adapterkit.patches.peft_layer import config_class

        made = config_class(self.peft_type)
        known = made.__dataclass_fields__
        starts = getattr(made, "init_weights", None) is False  # else it would not start as the base
        options: dict[str, Any] = {"init_weights": True} if starts else {}
        for pair in self.peft_config:
            key, equals, value = pair.partition("=")
            if not equals or key not in known:
                there = ", ".join(sorted(known))
                raise StrategyError(
                    f"peft_config={pair} is no option=value of PEFT's {made.__name__}, which has: {there}"
                )
            options[key] = _value(value)
        if "target_modules" in known and self.target_modules != ("usual",):
            options["target_modules"] = list(self.target_modules)
            if self.target_modules == ("all-linear",):
                norms = made.__name__ == "LNTuningConfig"
                found: Mapping[str, Any] = norm_modules(base) if norms else linear_maps(base)
                inside = tuple(f"{name}." for name in blocks(base))
                options["target_modules"] = [name for name in found if name.startswith(inside)]
        return made(**options)

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        from adapterkit.patches.peft_layer import PeftLayer

        config = self._config(base)
        return {name: PeftLayer.of(layer, config) for name, layer in _layers(base)}

    def remove(self, base: nn.Module) -> None:
        for name, layer in _layers(base):
            base.set_submodule(name, layer.base_layer)
        vars(base).pop("peft_config", None)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _layers(base: nn.Module) -> list[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)]
