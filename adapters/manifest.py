"""What an adapter's manifest must hold, part by part; it may be anyone's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .reading import is_name, parse_json

FORMAT_VERSION = 1
MANIFEST, TENSORS, PEFT_CONFIG = "adapter.json", "adapter_model.safetensors", "adapter_config.json"
FILE_METADATA = {"format": "pt"}
"""What transformers wants to read in a file of tensors."""

_MISSING = object()
_SHA256 = re.compile("[0-9a-f]{64}")


def parse_manifest(data: bytes | bytearray) -> dict[str, Any]:
    """Return a manifest; raises `ValueError` where a part of it isn't there or is not what it should be.

    What isn't known here, such as what a training was told and measured, may be any JSON.
    """
    manifest = parse_json(data)
    if not isinstance(manifest, dict):
        raise ValueError("it is no JSON object")
    found = manifest.get("format_version")
    if type(found) is not int or found != FORMAT_VERSION:
        raise ValueError(f"it has format version {_short(found)}; this adapterkit reads {FORMAT_VERSION}")
    _check(manifest, _MANIFEST)
    for module, patch in manifest["patches"].items():
        if module and not is_name(module):
            raise ValueError(f"{_short(module)} is no module's name")
        _check(patch, _PATCH, f"patches: '{module}': ")
    for name, file in manifest["files"].items():
        if name not in (TENSORS, PEFT_CONFIG):
            raise ValueError(f"a file named {_short(name)} is not part of an adapter")
        _check(file, _FILE, f"files: '{name}': ")
    if TENSORS not in manifest["files"]:
        raise ValueError(f"files: '{TENSORS}' is missing")
    return manifest


def _check(whole: Any, parts: Mapping[str, tuple[str, Callable[[Any], bool]]], where: str = "") -> None:
    for path, (wanted, fits) in parts.items():
        value = whole
        for key in path.split("."):
            value = value.get(key, _MISSING) if isinstance(value, dict) else _MISSING
        if value is _MISSING and not fits(value):
            raise ValueError(f"{where}'{path}' is missing; {wanted} was expected")
        if not fits(value):
            raise ValueError(f"{where}'{path}' is {_short(value)}, and {wanted} was expected")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 1000


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_name, value)) and len(set(value)) == len(value)


def _are_ids(value: Any) -> bool:
    return isinstance(value, dict) and all(type(number) is int and 0 <= number < 1 << 31 for number in value.values())


def _is_prefix(value: Any) -> bool:
    return value == "" or (isinstance(value, str) and value.endswith(".") and is_name(value[:-1]))


def _are_metrics(value: Any) -> bool:
    splits = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(split, dict) and all(map(_is_metric, split.items())) for split in splits)


def _is_metric(item: tuple[str, Any]) -> bool:
    name, value = item
    if name == "intervals":
        return isinstance(value, dict) and all(isinstance(v, list) and len(v) == 2 for v in value.values())
    return isinstance(value, int | float)


_TEXT, _OBJECT, _NAMES = ("a text", _is_text), ("an object", _is_object), ("a list of tensors' names", _are_names)
_MANIFEST: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "base.name": _TEXT,
    "base.revision": ("a text or null", lambda value: value is None or _is_text(value)),
    "base.quantization": ("a text, if any", lambda value: value is _MISSING or _is_text(value)),
    "base.model_type": _TEXT,
    "base.fingerprint": _TEXT,
    "base.prefix": ("the base's name with a dot", _is_prefix),
    "task.name": _TEXT,
    "task.options": _OBJECT,
    "strategy.name": _TEXT,
    "metrics": ("an object of numbers by split", _are_metrics),
    "untied": ("true or false, if any", lambda value: value is _MISSING or isinstance(value, bool)),
    "added_tokens": ("an object of ids by token, if any", lambda value: value is _MISSING or _are_ids(value)),
    "tied": ("a list of tensors' names, if any", lambda value: value is _MISSING or _are_names(value)),
    "patches": _OBJECT,
    "head": _NAMES,
    "files": _OBJECT,
}
_PATCH: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "kind": _TEXT,
    "options": _OBJECT,
    "tensors": _NAMES,
}
_FILE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "sha256": ("64 digits", lambda value: isinstance(value, str) and _SHA256.fullmatch(value) is not None),
    "bytes": ("a whole number from 0 on", lambda value: type(value) is int and value >= 0),
}
