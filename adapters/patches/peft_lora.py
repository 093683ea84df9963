"""PEFT's LoRA layers in a base: insert them, list their parameters, and read them as patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .low_rank import Dora, LowRank
from .low_rank_init import INITIALISATIONS, initialise_from_weight
from .patch import Patch
from .peft_layer import layers_of


def insert_lora(base: nn.Module, targets: Mapping[str, nn.Module], init: str, **options: Any) -> list[nn.Parameter]:
    """Insert LoRA layers at linear modules, with options of PEFT's `LoraConfig`, and return their parameters.

    `init` is a key of `INITIALISATIONS`, or one of PEFT's initialisations that leave the base's weights alone.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        target_modules=list(targets),
        init_lora_weights=init if init in ("gaussian", "orthogonal") else True,
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in targets.values()),
        **options,
    )
    inject_adapter_in_model(config, base)
    parameters: list[nn.Parameter] = []
    for layer in layers_of(base).values():
        factors = (layer.lora_A["default"], layer.lora_B["default"])
        parameters += [p for part in (*factors, *layer.lora_magnitude_vector.values()) for p in part.parameters()]
        if init in INITIALISATIONS:
            initialise_from_weight(init, layer.base_layer, *factors, layer.scaling["default"])
    return parameters


def patches_of(base: nn.Module) -> dict[str, Patch]:
    """Return the updates of a base's LoRA layers as patches, by module name."""
    return {name: patch_of(layer) for name, layer in layers_of(base).items()}


def patch_of(layer: Any) -> Patch:
    """Return a LoRA layer's update as a patch, DoRA's where it has a magnitude."""
    low_rank = LowRank(layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"])
    if "default" not in layer.lora_magnitude_vector:
        return low_rank
    return Dora.of(low_rank, layer.lora_magnitude_vector["default"].weight, layer.base_layer)
