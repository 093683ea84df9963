"""Read a folder that PEFT wrote: its config, checked field by field, and its tensors; no code of PEFT's runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import AdapterError
from ..io import tensors as tensorfile
from ..io.atomic import sha256
from ..io.untrusted import parse_json, read_file

CONFIG, TENSORS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TASK_CONFIG, MODEL_CONFIG = "task_config.json", "config.json"
"""The config of the task's model with the names of its labels: as we write it, and as some tools do."""
METHODS = ("LORA", "IA3")

_NAMES = (list, str, type(None))
_SHARED: dict[str, tuple[type, ...]] = {
    "peft_type": (str,),
    "task_type": (str, type(None)),
    "base_model_name_or_path": (str, type(None)),
    "revision": (str, type(None)),
    "target_modules": _NAMES,
    "exclude_modules": _NAMES,
    "modules_to_save": (list, type(None)),
    "fan_in_fan_out": (bool,),
}
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "LORA": {
        **_SHARED,
        "r": (int,),
        "lora_alpha": (int, float),
        "rank_pattern": (dict,),
        "alpha_pattern": (dict,),
        "use_rslora": (bool,),
        "use_dora": (bool,),
        "bias": (str,),
        "lora_bias": (bool,),
        "layers_to_transform": (list, int, type(None)),
        "layers_pattern": _NAMES,
    },
    "IA3": {**_SHARED, "feedforward_modules": _NAMES},
}
"""The fields that determine what an adapter computes, and their types."""

_OF_TRAINING = {
    *("auto_mapping", "peft_version", "inference_mode", "lora_dropout", "init_lora_weights", "init_ia3_weights"),
    *("megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size"),
    *("ensure_weight_tying", "runtime_config"),
}
"""The fields without effect on what a trained adapter computes."""

_CHANGES_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Ways of initialising that take something from the base's weights, so that the adapter isn't one of that base."""

_REPEATS, _REPEATED_GROUP = re.compile(r"[*+{]"), re.compile(r"\)[*+{]")


@dataclass(frozen=True)
class PeftFolder:
    """A PEFT folder: the fields of its config that determine what it computes, and its tensors by name."""

    source: str  # as the user gave it
    config: Mapping[str, Any]
    version: str  # of PEFT, as the config has it
    tensors: Mapping[str, Tensor]
    digest: str  # SHA-256 of the tensors' file, as hex
    labels: Mapping[int, str] = field(default_factory=dict)  # by output, where the folder names them

    @classmethod
    def read(cls, source: str, revision: str | None = None) -> PeftFolder:
        """Read a folder, or a repository of the Hub at a revision; HF_HUB_OFFLINE is honoured.

        Raises `AdapterError` where there is none, or what it holds isn't an adapter that can be taken in.
        """
        folder = Path(source) if os.path.isdir(source) else _downloaded(source, revision)
        config = _config(folder / CONFIG, source)
        path = folder / TENSORS
        if not path.is_file():
            old = f"; {PICKLE} can hold code and isn't read" if (folder / PICKLE).exists() else ""
            raise AdapterError(f"'{source}' holds no {TENSORS}{old}; save it with PEFT's save_pretrained")
        try:
            data = read_file(path.resolve(), most=path.stat().st_size)  # a Hub's cache holds links
            tensors = tensorfile.tensors(data)
        except OSError as error:
            raise AdapterError(f"can't read '{path}': {error.strerror or error}") from error
        except ValueError as error:
            raise AdapterError(f"'{path}' is not a safetensors file: {error}") from error
        for name, tensor in tensors.items():
            if not tensor.is_floating_point() or not tensorfile.is_finite(tensor):
                raise AdapterError(f"'{path}': '{name}' holds what is no finite number")
        if not tensors:
            raise AdapterError(f"'{path}' holds no tensor")
        if config.get("bias", "none") != "none":  # which stores a head's biases twice more
            tensors = {k: t for k, t in tensors.items() if not {"original_module", "modules_to_save"} & {*k.split(".")}}
        used = {key: value for key, value in config.items() if key in _FIELDS[config["peft_type"]]}
        version = str(config.get("peft_version") or "?")
        return cls(
            source,
            used,
            version,
            tensors,
            sha256(data),
            _labels(folder / TASK_CONFIG) or _labels(folder / MODEL_CONFIG),
        )


def _downloaded(source: str, revision: str | None) -> Path:
    """Return where the Hub's files of an adapter lie, fetched if need be; nothing else is fetched."""
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise AdapterError(f"no folder '{source}'; a PEFT adapter is a folder or a Hub id such as owner/name")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source, revision=revision, allow_patterns=[CONFIG, TENSORS, TASK_CONFIG, MODEL_CONFIG])
        )
    except (OSError, ValueError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AdapterError(
            f"'{source}' is neither a folder nor to be had from the Hub or its cache{offline}: {why}"
        ) from error


def _labels(path: Path) -> dict[int, str]:
    """Return the label of each output from a model's config; empty where there is none, or no names are in it."""
    try:
        names = parse_json(read_file(path.resolve()))["id2label"]
        labels = {int(output): label for output, label in names.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    good = len(set(labels.values())) == len(labels) and all(type(label) is str for label in labels.values())
    return labels if good and sorted(labels) == list(range(len(labels))) else {}


def _config(path: Path, source: str) -> dict[str, Any]:
    """Return the config of an adapter that can be taken in, each field of the type that it should be."""
    try:
        config = parse_json(read_file(path.resolve()))
    except FileNotFoundError as error:
        names = ", ".join(sorted(file.name for file in path.parent.iterdir())[:6]) or "nothing"
        raise AdapterError(f"'{source}' holds no {CONFIG}, but {names}; a PEFT adapter was expected") from error
    except OSError as error:
        raise AdapterError(f"can't read '{path}': {error.strerror}") from error
    except ValueError as error:
        raise AdapterError(f"'{path}' is not JSON: {error}") from error
    method = config.get("peft_type") if isinstance(config, dict) else None
    if method not in METHODS:
        raise AdapterError(f"'{path}': peft_type is {str(method)[:40]!r}; those taken in are {', '.join(METHODS)}")
    for key, value in config.items():
        if key in _FIELDS[method]:
            _check_field(path, key, value, _FIELDS[method][key])
        elif key not in _OF_TRAINING and value:
            raise AdapterError(f"'{path}': {key}={str(value)[:40]} is a kind of {method} that can't be taken in")
    init = str(config.get("init_lora_weights")).lower()
    if init.startswith(_CHANGES_BASE):
        raise AdapterError(
            f"'{path}': init_lora_weights={init} changed the base's own weights; save it with PEFT's "
            "path_initial_model_for_weight_conversion first"
        )
    return dict(config)


def _check_field(path: Path, key: str, value: Any, kinds: tuple[type, ...]) -> None:
    right = type(value) in kinds
    if isinstance(value, list):
        right = right and all(type(part) is (int if key == "layers_to_transform" else str) for part in value)
    if isinstance(value, dict):
        numbers = (int,) if key == "rank_pattern" else (int, float)
        right = right and all(type(name) is str and type(n) in numbers and n > 0 for name, n in value.items())
    if key == "alpha_pattern" and isinstance(value, dict):
        right = right and len(value) <= 1000 and all(map(_is_tame, value))
    if key in ("r", "lora_alpha"):
        right = right and value > 0
    if key == "bias":
        right = right and value in ("none", "all", "lora_only")
    if not right:
        raise AdapterError(f"'{path}': {key}={str(value)[:40]!r} is not what PEFT writes there")


def _is_tame(pattern: str) -> bool:
    """Return whether this is a valid regular expression that can't take exponential time."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return len(pattern) <= 512 and len(_REPEATS.findall(pattern)) <= 4 and not _REPEATED_GROUP.search(pattern)
