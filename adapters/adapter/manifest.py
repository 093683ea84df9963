"""What an adapter's manifest must hold, part by part; it may be anyone's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..io.untrusted import is_name, parse_json

FORMAT_VERSION = 1
MANIFEST, TENSORS, PEFT_CONFIG = "adapter.json", "adapter_model.safetensors", "adapter_config.json"
FILE_METADATA = {"format": "pt"}
"""What transformers wants to read in a file of tensors."""

_MISSING = object()
_SHA256 = re.compile("[0-9a-f]{64}")


def parse_manifest(data: bytes | bytearray) -> dict[str, Any]:
    """Return a manifest; raises `ValueError` where a part of it isn't there or is not what it should be.

    What isn't known here, such as what a training was told, may be any JSON.
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


def _are_objects(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_object, value.values()))


def _is_mismatch(value: Any) -> bool:
    if not (isinstance(value, dict) and isinstance(known_by := value.get("trained_on"), dict)):
        return False
    differs = value.get("differs")
    told = isinstance(differs, list) and all(map(_is_text, differs))
    return told and all(_is_text(known_by.get(key)) for key in ("name", "fingerprint"))


def _are_merged(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_merged, value))


def _is_merged(value: Any) -> bool:
    texts = _is_object(value) and all(_is_text(value.get(key)) for key in ("name", "version"))
    return texts and type(value.get("weight")) in (int, float)


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
        return isinstance(value, dict) and all(map(_is_interval, value.values()))
    return isinstance(value, int | float)


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(end) in (int, float) for end in value)


def _if_any(wanted: str, fits: Callable[[Any], bool]) -> tuple[str, Callable[[Any], bool]]:
    return f"{wanted}, if any,", lambda value: value is _MISSING or fits(value)


_TEXT, _OBJECT, _NAMES = ("a text", _is_text), ("an object", _is_object), ("a list of tensors' names", _are_names)
_MANIFEST: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "base.name": _TEXT,
    "base.hub_id": _if_any(*_TEXT),
    "base.revision": ("a text or null", lambda value: value is None or _is_text(value)),
    "base.quantization": _if_any(*_TEXT),
    "base.model_type": _TEXT,
    "base.fingerprint": _TEXT,
    "base.prefix": ("the base's name with a dot", _is_prefix),
    "base.config": _if_any(*_OBJECT),
    "base.tensors": _if_any(*_OBJECT),
    "base.mismatch": _if_any("what it was trained on and how that differs", _is_mismatch),
    "task.name": _TEXT,
    "task.options": _OBJECT,
    "strategy.name": _TEXT,
    "strategy.version": _if_any(*_TEXT),
    "strategy.options": _if_any(*_OBJECT),
    "training": _if_any(*_OBJECT),
    "data": _if_any(*_OBJECT),
    "data.name": ("a text or null, if any,", lambda value: value in (_MISSING, None) or _is_text(value)),
    "data.splits": _if_any("an object of objects by split", _are_objects),
    "combination_type": _if_any(*_TEXT),
    "merged_from": _if_any("a list of names, versions and weights", _are_merged),
    "metrics": ("an object of numbers by split", _are_metrics),
    "untied": _if_any("true or false", lambda value: isinstance(value, bool)),
    "added_tokens": _if_any("an object of ids by token", _are_ids),
    "tied": _if_any(*_NAMES),
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
