"""A patch that PEFT computes: a layer of one of its methods over a module of the base."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import AdapterError, StrategyError, unknown
from .patch import Patch

_NAME = "default"  # what PEFT calls the one adapter of a layer
_INNER = "base_layer."
_LEFT_OUT = {"LORA", "IA3"}  # ours
_LEFT_OUT |= {
    "ADALORA",
    "ADAPTION_PROMPT",
    "FROD",
    "POLY",
    "PVERA",
    "RANDLORA",
    "SHADOW",
    "TINYLORA",
}  # more than layers
_LEFT_OUT |= {"TRAINABLE_TOKENS", "UNILORA", "VBLORA", "VERA", "XLORA"}
_NOT_SAVED = {"peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
_PER_MODEL = {"target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern"}


def config_class(peft_type: str) -> type[Any]:
    """Return PEFT's class of options for a method, or raise `StrategyError` with the supported methods."""
    from peft import PromptLearningConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as classes

    supported = {kind.value: cls for kind, cls in classes.items() if not issubclass(cls, PromptLearningConfig)}
    supported = {name: cls for name, cls in supported.items() if name not in _LEFT_OUT}
    if peft_type.upper() not in supported:
        raise StrategyError(unknown("PEFT type", peft_type, sorted(supported), known_as="there are"))
    chosen: type[Any] = supported[peft_type.upper()]
    return chosen


def config_options(cls: type[Any], pairs: Iterable[str]) -> dict[str, Any]:
    """Return the options of a class of PEFT's as written, `key=value`, with an initialisation that starts as the base.

    Raises `StrategyError` where the class has no such option.
    """
    fields = cls.__dataclass_fields__
    options: dict[str, Any] = {"init_weights": True} if getattr(cls, "init_weights", None) is False else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in fields:
            raise StrategyError(
                f"peft_config={pair} is not option=value of PEFT's {cls.__name__}; options: {', '.join(sorted(fields))}"
            )
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def layers_of(base: nn.Module) -> dict[str, Any]:
    """Return the layers that PEFT has inserted into a base, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in base.named_modules() if isinstance(module, BaseTunerLayer)}


def remove_layers(base: nn.Module) -> None:
    """Put the base's own modules back in the place of PEFT's layers."""
    for name, layer in layers_of(base).items():
        base.set_submodule(name, layer.base_layer)
    vars(base).pop("peft_config", None)


@dataclass(frozen=True, eq=False, slots=True)
class PeftLayer(Patch):
    """A layer of one of PEFT's methods over a module, computed by PEFT."""

    kind: ClassVar[str] = "peft"
    encoded: ClassVar[bool] = True  # a method may hold indices
    layer: Any  # of PEFT's, over a twin of the module
    config: Mapping[str, Any]

    @classmethod
    def of(cls, layer: Any, config: Any) -> PeftLayer:
        """Return a layer that PEFT trained as a patch, with the options that determine what it computes."""
        fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        plain = {k: v for k, v in fields.items() if k not in _NOT_SAVED | _PER_MODEL and _is_plain(v)}
        return cls(layer, {"peft_type": config.peft_type.value, **plain})

    def tensors(self) -> Mapping[str, Tensor]:
        return {name: t for name, t in self.layer.state_dict().items() if not name.startswith(_INNER)}

    def options(self) -> Mapping[str, Any]:
        return self.config

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any], module: nn.Module) -> PeftLayer:
        from peft import inject_adapter_in_model

        values = dict(options)
        try:
            config = config_class(str(values.pop("peft_type", None)))
            names = {f.name for f in dataclasses.fields(config)} - _NOT_SAVED - _PER_MODEL
            odd = [key for key, value in values.items() if key not in names or not _is_plain(value)]
            if odd:
                raise AdapterError(f"'{odd[0]}' is no option of a layer of PEFT's {config.__name__}")
            holder = nn.ModuleDict({"it": _twin(module)})
            targets = {"target_modules": ["it"]} if hasattr(config, "target_modules") else {}
            with torch.random.fork_rng(devices=[]):
                inject_adapter_in_model(config(**values, **targets), holder)
            layer = holder["it"]
            expected = {name: t for name, t in layer.state_dict().items() if not name.startswith(_INNER)}
            shapes = [{name: tuple(t.shape) for name, t in ts.items()} for ts in (expected, tensors)]
            if shapes[0] != shapes[1]:
                raise AdapterError(f"a layer of PEFT's {config.__name__} has {shapes[0]}, not {shapes[1]}")
            layer.load_state_dict(dict(tensors), strict=False)
        except StrategyError as error:
            raise AdapterError(str(error)) from error
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            raise AdapterError(f"PEFT makes no layer of this: {' '.join(str(error).split())}") from error
        return cls(layer.requires_grad_(False).eval(), dict(options))

    def forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)

    def fold(self, module: nn.Module) -> Mapping[str, Tensor] | None:
        layer = copy.deepcopy(self.layer)
        try:
            layer.merge(safe_merge=True)
        except (AttributeError, NotImplementedError, ValueError):
            return None
        return {name: p.detach() for name, p in layer.get_base_layer().named_parameters(recurse=False)}


def _twin(module: nn.Module) -> nn.Module:
    """Return a module over the same tensors that no patch is attached to."""
    twin = copy.copy(module)
    vars(twin).pop("forward", None)
    return twin


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 40)
