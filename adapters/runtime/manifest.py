"""The manifest of an export, export.json: its fields, and the check of one that may come from anyone."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from ..io.schema import check, converted, short
from ..io.untrusted import NAME_PATTERN, parse_json

FORMAT_VERSION = 1
MANIFEST, BASE_GRAPH, TOKENIZER = "export.json", "base.onnx", "tokenizer.json"
MOST_MANIFEST = 64 << 20
"""The most bytes of a manifest: about 1 kB an adapter, and its labels."""

_MODULE = rf"^{NAME_PATTERN}$(?!\n)"
_FILE = r"^(?:[A-Za-z0-9_][A-Za-z0-9_.@-]*/)?[A-Za-z0-9_][A-Za-z0-9_.@-]*$(?!\n)"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,95}$(?!\n)"
_SHA256 = r"^[0-9a-f]{64}$(?!\n)"
_PATTERNS = {
    _MODULE: "a module's name",
    _FILE: "a file in the export's folder",
    _NAME: "an adapter's name",
    _SHA256: "64 hexadecimal digits",
}
"""The patterns of names and digests, in words."""

Text = Annotated[str, Meta(max_length=1000)]
Module = Annotated[str, Meta(pattern=_MODULE, max_length=512)]
FileName = Annotated[str, Meta(pattern=_FILE, max_length=200)]
Count = Annotated[int, Meta(ge=0, lt=1 << 31)]


class FileRecord(Struct):
    """The digest and size of a file."""

    sha256: Annotated[str, Meta(pattern=_SHA256)]
    bytes: Annotated[int, Meta(ge=0)]


class BaseRecord(Struct):
    """The base of an export."""

    name: Text
    model_type: Text
    fingerprint: Text
    one_adapter_a_pass: bool  # where a module that takes updates has inputs that all texts share


class TokenizerRecord(Struct):
    """What transformers' tokenizers have beside tokenizer.json."""

    model_max_length: Annotated[int, Meta(ge=1)]
    truncation_side: Text
    model_input_names: list[Text]
    special_tokens: dict[Text, Text]  # by role, such as mask_token
    clean_up: bool


class TaskRecord(Struct):
    """The task of an adapter, and its options: labels, columns, lengths."""

    name: Text
    options: dict[str, Any]


class AdapterRecord(Struct):
    """One adapter: its task, the graph of its head, and the modules that it changes."""

    version: Text
    task: TaskRecord
    head: FileName
    tensors: FileName
    modules: list[Module]  # each has two factors among the tensors


class GenerationRecord(Struct):
    """The cache of a base that generates, and the tokens that end a text."""

    layers: Annotated[int, Meta(ge=1, lt=1 << 16)]
    heads: Annotated[int, Meta(ge=1, lt=1 << 16)]
    size: Annotated[int, Meta(ge=1, lt=1 << 16)]  # of a key
    eos_token_ids: list[Count]


class ExportManifest(Struct):
    """The fields of export.json."""

    format_version: int
    base: BaseRecord
    tokenizer: TokenizerRecord
    modules: dict[Module, tuple[Count, Count]]  # inputs and outputs of each module whose factors the graph takes
    adapters: dict[Annotated[str, Meta(pattern=_NAME)], AdapterRecord]
    files: dict[FileName, FileRecord]
    generation: GenerationRecord | None = None  # where the adapters generate; heads are in the base's graph then

    def __post_init__(self) -> None:
        used = {BASE_GRAPH, TOKENIZER, *(name for a in self.adapters.values() for name in (a.head, a.tensors))}
        if missing := sorted(used - set(self.files)):
            raise ValueError(f"files[{short(missing[0])}] is missing")
        for adapter, record in self.adapters.items():
            if others := sorted(set(record.modules) - set(self.modules)):
                raise ValueError(
                    f"adapter {short(adapter)} changes {short(others[0])}, for which the graph has no input"
                )


def parse_manifest(data: bytes | bytearray) -> ExportManifest:
    """Return a manifest; raises `ValueError` where a field is missing or of another type."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    version = value.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(f"it has format version {short(version)}; this adapterkit reads {FORMAT_VERSION}")
    check(value, ExportManifest, _PATTERNS)
    manifest: ExportManifest = converted(value, ExportManifest)
    return manifest
