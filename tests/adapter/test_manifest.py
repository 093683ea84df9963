"""The limits of each field of a manifest: the last value that is accepted, and the first that isn't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapterkit.adapter.manifest import parse_manifest

DIGEST = "0" * 64
MANIFEST: dict[str, Any] = {
    "format_version": 1,
    "base": {"name": "b", "model_type": "bert", "fingerprint": "f", "prefix": "bert.", "revision": None},
    "task": {"name": "t", "options": {}},
    "strategy": {"name": "s"},
    "metrics": {"test": {"f1": 0.5, "n": 3, "intervals": {"f1": [0.0, 1.0]}}},
    "patches": {"a.b": {"kind": "low-rank", "options": {}, "tensors": ["x"]}},
    "head": ["c.weight"],
    "files": {"adapter_model.safetensors": {"sha256": DIGEST, "bytes": 3}},
}


def parsed(*path: str, value: Any) -> dict[str, Any]:
    """Parse a manifest with another value at a path."""
    manifest = json.loads(json.dumps(MANIFEST))
    place = manifest
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert parse_manifest(json.dumps(manifest).encode()) == manifest
    return manifest


LIMITS: dict[str, tuple[tuple[str, ...], Any, Any]] = {
    "token's least id": (("added_tokens",), {"<a>": 0}, {"<a>": -1}),
    "token's greatest id": (("added_tokens",), {"<a>": (1 << 31) - 1}, {"<a>": 1 << 31}),
    "bytes": (("files", "adapter_model.safetensors", "bytes"), 0, -1),
    "digest": (("files", "adapter_model.safetensors", "sha256"), "f" * 64, "g" * 64),
    "digest's end": (("files", "adapter_model.safetensors", "sha256"), "f" * 64, "f" * 64 + "\n"),
    "text": (("task", "name"), "x" * 1000, "x" * 1001),
    "module": (("patches",), {"m" * 512: MANIFEST["patches"]["a.b"]}, {"m" * 513: MANIFEST["patches"]["a.b"]}),
    "no module": (("patches",), {"": MANIFEST["patches"]["a.b"]}, {"a b": MANIFEST["patches"]["a.b"]}),
    "tensor": (("head",), ["t" * 512], ["t" * 513]),
    "tensor's name": (("head",), ["a.b"], [""]),
    "twice": (("head",), ["a", "b"], ["a", "a"]),
    "tied": (("tied",), ["a", "b"], ["a", "a"]),
    "patch's tensors": (("patches", "a.b", "tensors"), ["x", "y"], ["x", "x"]),
    "prefix": (("base", "prefix"), "", "bert"),
    "prefix's length": (("base", "prefix"), "p" * 512 + ".", "p" * 513 + "."),
    "revision": (("base", "revision"), "main", 3),
    "file": (
        ("files",),
        {**MANIFEST["files"], "adapter_config.json": {"sha256": DIGEST, "bytes": 0}},
        {**MANIFEST["files"], "README.md": {"sha256": DIGEST, "bytes": 0}},
    ),
    "files": (("files",), MANIFEST["files"], {"adapter_config.json": {"sha256": DIGEST, "bytes": 0}}),
    "metric": (("metrics", "test"), {"f1": 1}, {"f1": "1"}),
    "intervals": (("metrics", "test"), {"intervals": {}}, {"intervals": 1.0}),
    "interval": (("metrics", "test", "intervals"), {"f1": [0, 1]}, {"f1": [0, 1, 2]}),
    "version": (("format_version",), 1, 2),
    "weight": (
        ("merged_from",),
        [{"name": "a", "version": "0", "weight": -1}],
        [{"name": "a", "version": "0", "weight": "1"}],
    ),
    "data": (("data",), {"name": None, "splits": {"train": {}}}, {"splits": {"train": []}}),
    "untied": (("untied",), True, 1),
}


@pytest.mark.parametrize(("path", "accepted", "refused"), LIMITS.values(), ids=LIMITS)
def test_a_fields_limit_is_where_it_is_stated(path: tuple[str, ...], accepted: Any, refused: Any) -> None:
    parsed(*path, value=accepted)
    with pytest.raises(ValueError, match=r"\w"):
        parsed(*path, value=refused)


@pytest.mark.parametrize("field", [*MANIFEST, "base.prefix", "base.revision", "task.options", "strategy.name"])
def test_a_field_that_is_needed_is_named_where_it_is_missing(field: str) -> None:
    manifest = json.loads(json.dumps(MANIFEST))
    *steps, last = field.split(".")
    place = manifest
    for step in steps:
        place = place[step]
    del place[last]
    missing = "format version None" if field == "format_version" else rf"{field} is missing"
    with pytest.raises(ValueError, match=missing):
        parse_manifest(json.dumps(manifest).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b'{"format_version": "1"}', b'{"format_version": 1.0}'])
def test_what_is_no_manifest_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_manifest(data)


def test_keys_that_this_version_does_not_know_are_left_as_they_are() -> None:
    assert parsed("licence", value={"name": "mit"})["licence"] == {"name": "mit"}
