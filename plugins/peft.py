"""Any method of PEFT's by its name, trained by PEFT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from adapterkit.errors import StrategyError
from adapterkit.modules import inside_blocks, linear_maps, norm_modules
from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn

    from adapterkit.patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class Peft(Strategy):
    """Train with any method of PEFT's, such as HIRA, LOHA, OFT, BOFT or FOURIERFT; see PEFT for their papers.

    For methods without a strategy of their own here; lora and ia3 have one, and are faster in a pool.
    """

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 1e-2
    peft_type: Annotated[str, "PEFT's name of the method: HIRA, LOHA, LOKR, OFT, BOFT, FOURIERFT, ..."] = "HIRA"
    peft_config: Annotated[tuple[str, ...], "options of PEFT's config class, as key=value,key=value"] = ()
    target_modules: Annotated[
        tuple[str, ...], "names of modules; all-linear: those of all blocks; usual: PEFT's default"
    ] = ("all-linear",)

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        from peft import inject_adapter_in_model

        from adapterkit.patches.peft_layer import layers_of

        try:
            inject_adapter_in_model(self._config(base), base)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise StrategyError(f"peft_type={self.peft_type}: {' '.join(str(error).split())}") from error
        return [p for layer in layers_of(base).values() for n, p in layer.named_parameters() if "base_layer." not in n]

    def _config(self, base: nn.Module) -> Any:
        from adapterkit.patches.peft_layer import config_class, config_options

        cls = config_class(self.peft_type)
        options = config_options(cls, self.peft_config)
        if "target_modules" in cls.__dataclass_fields__ and self.target_modules != ("usual",):
            options["target_modules"] = list(self.target_modules)
            if self.target_modules == ("all-linear",):
                modules = norm_modules(base) if cls.__name__ == "LNTuningConfig" else linear_maps(base)
                options["target_modules"] = list(inside_blocks(base, modules))
        return cls(**options)

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        from adapterkit.patches.peft_layer import PeftLayer, layers_of

        config = self._config(base)
        return {name: PeftLayer.of(layer, config) for name, layer in layers_of(base).items()}

    def remove(self, base: nn.Module) -> None:
        from adapterkit.patches.peft_layer import remove_layers

        remove_layers(base)
