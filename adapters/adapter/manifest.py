"""The manifest of an adapter, adapter.json: its fields, and the check of one that may come from anyone."""

from __future__ import annotations

import re
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from ..io.schema import check, short
from ..io.untrusted import NAME_PATTERN, parse_json

FORMAT_VERSION = 1
MANIFEST, TENSORS, PEFT_CONFIG = "adapter.json", "adapter_model.safetensors", "adapter_config.json"
FILE_METADATA = {"format": "pt"}
"""What transformers expects in the header of a safetensors file."""

_MODULE = rf"^(?:{NAME_PATTERN})?$(?!\n)"
_PREFIX = rf"^(?:{NAME_PATTERN}\.)?$(?!\n)"
_TENSOR = rf"^{NAME_PATTERN}$(?!\n)"
_FILE = rf"^(?:{re.escape(TENSORS)}|{re.escape(PEFT_CONFIG)})$(?!\n)"
_SHA256 = r"^[0-9a-f]{64}$(?!\n)"
_PATTERNS = {
    _MODULE: "a module's name",
    _PREFIX: "the base's name with a dot",
    _TENSOR: "a tensor's name",
    _FILE: "a file of an adapter",
    _SHA256: "64 hexadecimal digits",
}
"""The patterns of names and digests, in words."""

Text = Annotated[str, Meta(max_length=1000)]
Module = Annotated[str, Meta(pattern=_MODULE, max_length=512)]
TensorName = Annotated[str, Meta(pattern=_TENSOR, max_length=512)]
Object = dict[str, Any]
FileName = Annotated[str, Meta(pattern=_FILE)]
TokenId = Annotated[int, Meta(ge=0, lt=1 << 31)]


class TrainedOn(Struct):
    """The base that an adapter was trained on, where it was moved to another one."""

    name: Text
    fingerprint: Text


class Mismatch(Struct):
    """The base that an adapter was trained on, and how that differs from the base it was moved to."""

    trained_on: TrainedOn
    differs: list[Text]


class BaseRecord(Struct):
    """The base of an adapter: where it was, and what identifies it."""

    name: Text
    model_type: Text
    fingerprint: Text
    prefix: Annotated[str, Meta(pattern=_PREFIX, max_length=513)]  # of the base's modules in the task's model
    revision: Text | None
    hub_id: Text | UnsetType = UNSET
    quantization: Text | UnsetType = UNSET
    config: Object | UnsetType = UNSET
    tensors: Object | UnsetType = UNSET
    mismatch: Mismatch | UnsetType = UNSET


class TaskRecord(Struct):
    """The task of an adapter, and its options: labels, columns, lengths."""

    name: Text
    options: Object


class StrategyRecord(Struct):
    """The strategy that trained an adapter."""

    name: Text
    version: Text | UnsetType = UNSET
    options: Object | UnsetType = UNSET


class DataRecord(Struct):
    """The data that an adapter was trained on, by split."""

    name: Text | UnsetType | None = UNSET
    splits: dict[str, Object] | UnsetType = UNSET


class MergedPart(Struct):
    """One adapter of a combination."""

    name: Text
    version: Text
    weight: float


class PatchRecord(Struct):
    """The patch of one module."""

    kind: Text
    options: Object
    tensors: list[TensorName]

    def __post_init__(self) -> None:
        _check_unique(self.tensors)


class FileRecord(Struct):
    """The digest and size of a file."""

    sha256: Annotated[str, Meta(pattern=_SHA256)]
    bytes: Annotated[int, Meta(ge=0)]


class Manifest(Struct):
    """The fields of adapter.json that adapterkit reads; others, such as those of training, may be any JSON."""

    format_version: int
    base: BaseRecord
    task: TaskRecord
    strategy: StrategyRecord
    metrics: dict[str, dict[str, float | dict[str, tuple[float, float]]]]  # by split; `intervals` by metric
    patches: dict[Module, PatchRecord]
    head: list[TensorName]
    files: dict[FileName, FileRecord]
    training: Object | UnsetType = UNSET
    data: DataRecord | UnsetType = UNSET
    combination_type: Text | UnsetType = UNSET
    merged_from: list[MergedPart] | UnsetType = UNSET
    untied: bool | UnsetType = UNSET
    added_tokens: dict[str, TokenId] | UnsetType = UNSET
    tied: list[TensorName] | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_unique(self.head)
        _check_unique(self.tied if isinstance(self.tied, list) else [])
        for split, metrics in self.metrics.items():
            if odd := [name for name, value in metrics.items() if isinstance(value, dict) != (name == "intervals")]:
                raise ValueError(f"'metrics' of {short(split)} must be numbers and 'intervals', got {short(odd[0])}")
        if TENSORS not in self.files:
            raise ValueError(f"files['{TENSORS}'] is missing")


def _check_unique(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{short(next(name for name in names if names.count(name) > 1))} is listed twice")


def parse_manifest(data: bytes | bytearray) -> dict[str, Any]:
    """Return a manifest as JSON values; raises `ValueError` where a field is missing or of another type."""
    manifest = parse_json(data)
    if not isinstance(manifest, dict):
        raise ValueError("it is no JSON object")
    version = manifest.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(f"it has format version {short(version)}; this adapterkit reads {FORMAT_VERSION}")
    check(manifest, Manifest, _PATTERNS)
    return manifest
