"""The schema of registry.json as types; `python -m adapterkit.store.schema` prints it as JSON Schema."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..errors import RegistryError
from ..io.schema import check, short

SCHEMA = (1, 0)
"""Major and minor version: a new minor adds keys that a reader may ignore, a new major changes existing keys."""
BUNDLES = (1, 1)
"""The version of a file that has bundles."""

_END = r"$(?!\n)"  # Python's $ matches before a last line break, too
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,95}"
_VERSION = rf"^[0-9a-f]{{16}}{_END}"
_TAG = rf"^(?![0-9a-f]*$)[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{_END}"
_FOLDER = rf"{_NAME}(\.[0-9]+)?{_END}"
_NAME += _END
_PATTERNS = {
    _NAME: "an adapter's name",
    _VERSION: "a version of 16 hexadecimal digits",
    _TAG: "a tag",
    _FOLDER: "a folder of the store",
}
"""The patterns of names, in words."""

NAME, VERSION, TAG, FOLDER = (re.compile(pattern) for pattern in (_NAME, _VERSION, _TAG, _FOLDER))

Name = Annotated[str, Meta(pattern=_NAME)]
Version = Annotated[
    str,
    Meta(
        pattern=_VERSION,
        description="The first 16 digits of the SHA-256 of adapter.json, which holds those of the other files.",
    ),
]
Tag = Annotated[str, Meta(pattern=_TAG)]


class EntryBase(Struct):
    """Name and fingerprint of the base."""

    name: str
    fingerprint: str | UnsetType = UNSET


class Entry(Struct):
    """One version of an adapter."""

    number: Annotated[int, Meta(ge=0, description="A counter of changes to the adapter; 0 where it was lost.")]
    task: str
    strategy: str
    base: EntryBase
    bytes: Annotated[int, Meta(ge=0, description="Bytes of the tensors.")]
    metrics: Annotated[dict[str, dict[str, Any]], Meta(description="Metrics by split and name.")]
    best: Annotated[str, Meta(description="The metric that the task is judged by.")] | UnsetType = UNSET
    seconds: Annotated[float, Meta(description="Seconds of training.")] | UnsetType = UNSET


class IndexedAdapter(Struct):
    """An adapter in the index."""

    current: Version
    versions: Annotated[
        dict[Version, Entry], Meta(min_length=1, description="The versions in the order of their numbers.")
    ]
    tags: Annotated[dict[Tag, Version], Meta(description="Versions by tag: NAME@TAG.")] | UnsetType = UNSET
    folder: (
        Annotated[str, Meta(pattern=_FOLDER, description="Its folder in the store, where it was renamed.")] | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        tags = self.tags if isinstance(self.tags, dict) else {}
        for key, version in {"current": self.current, **tags}.items():
            if version not in self.versions:
                raise ValueError(f"{short(key)} is {short(version)}, which is no version of it")


class RegistryFile(Struct):
    """The index of the folder `store` beside it; readers ignore and writers preserve keys of later minor versions."""

    schema_version: Annotated[str, Meta(pattern=rf"^{SCHEMA[0]}\.[0-9]+{_END}", description="major.minor")]
    adapters: Annotated[dict[Name, IndexedAdapter], Meta(description="Adapters by name.")]
    bundles: Annotated[dict[Name, list[str]], Meta(description="Named lists of adapters; since 1.1.")] | UnsetType = (
        UNSET
    )


def check_name(name: str) -> str:
    """Return a valid name of an adapter, or raise `RegistryError`."""
    if not NAME.fullmatch(name):
        raise RegistryError(
            f"'{name}' is no adapter's name: letters, digits, - and _, at most 96, a letter or digit first"
        )
    return name


def check_tag(tag: str) -> str:
    """Return a valid tag, or raise `RegistryError`; one that could be an abbreviated version isn't valid."""
    if not TAG.fullmatch(tag):
        raise RegistryError(
            f"'{tag}' is no tag: letters, digits, ., - and _, at most 64, a letter or digit first, and not only 0-9a-f"
        )
    return tag


def check_adapter(name: str, value: Any) -> None:
    """Raise `ValueError` where this is no adapter of an index by this name; `value` is changed then."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{short(name)} is no adapter's name")
    check(value, IndexedAdapter, _PATTERNS)


def check_entry(value: Any) -> None:
    """Raise `ValueError` where this is no entry of an index; `value` is changed then."""
    check(value, Entry, _PATTERNS)


def json_schema() -> str:
    """Return the JSON Schema of registry.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"registry.json of adapterkit, schema version {SCHEMA[0]}.{SCHEMA[1]}",
        **msgspec.json.schema(RegistryFile),
    }
    return json.dumps(schema, indent=2).replace(json.dumps(_END)[1:-1], "$") + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
