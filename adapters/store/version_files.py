"""The files of one version in the store: its entry, and the check of every file against its digest."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..adapter.manifest import MANIFEST, TENSORS
from ..errors import RegistryError
from ..io.atomic import json_bytes, sha256, version_of, write_file
from ..io.untrusted import is_name, parse_json, read_file
from .schema import check_entry

ENTRY = "entry.json"
"""The entry of a version in the index, and the digests of files that the manifest doesn't list."""
UNLISTED = "is not part of the adapter"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RegistryError)
"""The errors of reading untrusted JSON."""

_UNLISTED_BEFORE = {"README.md", "run.yaml"}  # before entry.json held digests


def entry_of(manifest: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the entry in the index of an adapter with this manifest and so many bytes of tensors."""
    metrics = manifest["metrics"]
    return {
        "task": manifest["task"]["name"],
        "strategy": manifest["strategy"]["name"],
        "base": {key: manifest["base"][key] for key in ("name", "fingerprint")},
        "bytes": size,
        "metrics": {split: {k: v for k, v in m.items() if k != "intervals"} for split, m in metrics.items()},
    }


def check_no_link(folder: Path) -> None:
    """Raise `RegistryError` where a version's folder, or the one that it is in, is a link, which may lead anywhere."""
    for place in (folder.parent, folder):
        if place.is_symlink():
            raise RegistryError(f"'{place}' is a link, and a folder of the store was expected")


def read_entry(folder: Path, listed: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the entry of a version: from entry.json, else the `listed` one, else one derived from the manifest.

    Raises one of `UNREADABLE` where the manifest is damaged or invalid.
    """
    check_no_link(folder)
    data = read_file(folder / MANIFEST)
    if version_of(data) != folder.name:
        raise ValueError(f"{MANIFEST} is damaged or was edited")
    manifest = parse_json(data)
    # its number is unknown: 0 sorts it before all others, so that a damaged version doesn't become current
    derived = {"number": 0, **entry_of(manifest, manifest["files"][TENSORS]["bytes"])}
    try:
        check_entry(derived)
    except ValueError as error:
        raise ValueError(f"{MANIFEST} is no adapter's manifest: {error}") from None
    try:
        entry = parse_json(read_file(folder / ENTRY))
        entry.pop("files", None)
        check_entry(entry)
        return dict(entry)
    except UNREADABLE as error:
        if is_temporary(error):
            raise
    return derived if listed is None else dict(listed)


def entry_file(entry: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Return the content of entry.json: the entry, and the digests of files that the manifest doesn't list."""
    listed = _digests(files[MANIFEST])
    others = {name: data for name, data in files.items() if name != MANIFEST and name not in listed}
    return json_bytes({**entry, "files": {n: {"sha256": sha256(d), "bytes": len(d)} for n, d in others.items()}})


def faults(folder: Path, *, entry: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """Yield each missing, damaged or unexpected file of a version and the reason; `entry` is the index's."""
    try:
        check_no_link(folder)
        manifest = read_file(folder / MANIFEST)
        present = {path.name for path in folder.iterdir()}
    except (OSError, ValueError, RegistryError) as error:
        yield MANIFEST, _words(error)
        return
    if version_of(manifest) != folder.name:
        yield MANIFEST, f"is damaged or was edited: it is version {version_of(manifest)}, expected {folder.name}"
        return
    others, wrong = _other_files(folder, entry)
    if wrong:
        yield ENTRY, wrong
    digests = {**(others or {}), **_digests(manifest)}
    elsewhere = set(digests) - present if "hub" in (entry or {}) else set()  # downloaded on first use
    for name, expected in sorted(digests.items()):
        if name in elsewhere:
            continue
        if wrong := _fault(folder / name, expected) if is_name(name) and "/" not in name else "is no file's name":
            yield name, wrong
    for name in sorted(present - {MANIFEST, ENTRY} - digests.keys() - (_UNLISTED_BEFORE if others is None else set())):
        yield name, UNLISTED


def essential(folder: Path, file: str) -> bool:
    """Return whether a version can't be used without this file."""
    if file == MANIFEST:
        return True
    try:
        return file in _digests(read_file(folder / MANIFEST))
    except (OSError, ValueError):
        return True


def _other_files(folder: Path, listed: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """Return the digests in entry.json, None where there are none, and what is wrong with it."""
    try:
        entry = parse_json(read_file(folder / ENTRY))
        digests = entry.pop("files", None)
        if listed is not None and {**listed, **entry} != listed:
            return digests, "differs from registry.json"
    except UNREADABLE as error:
        return None, f"can't be read: {_words(error)}"
    try:
        check_entry(entry)
    except ValueError as error:
        return digests, f"is no entry: {error}"
    return digests, ""


def _words(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _digests(manifest: bytes | bytearray) -> dict[str, Any]:
    """Return the files and digests in a manifest, none where it is invalid."""
    try:
        return dict(parse_json(manifest)["files"])
    except (ValueError, KeyError, TypeError):
        return {}


def _fault(path: Path, expected: Mapping[str, Any]) -> str:
    try:
        actual = sha256(read_file(path, size=expected["bytes"]))
        if actual != expected["sha256"]:
            return f"is damaged or was edited: its SHA-256 is {actual[:12]}…, expected {expected['sha256'][:12]}…"
    except OSError as error:
        return _words(error)
    except ValueError as error:
        return f"is damaged or was edited: {error}"
    except (KeyError, TypeError):
        return "has no digest that can be read"
    return ""


def is_temporary(error: Exception) -> bool:
    """Return whether an error comes from this process's limits and not from the file."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)


def repair(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a version again, each atomically, where any of them is missing or damaged."""
    if any(True for _ in faults(folder)):
        for name, data in files.items():
            write_file(folder / name, data)
