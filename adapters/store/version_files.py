"""The files of one version in the store: what they are, and whether they are as they were written."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..adapter.manifest import MANIFEST, TENSORS
from ..errors import RegistryError
from ..io.atomic import json_bytes, sha256, version_of
from ..io.untrusted import is_name, parse_json, read_file
from .schema import check_entry

ENTRY = "entry.json"
"""What the index says of a version, and the digests of files that the manifest doesn't state."""
UNLISTED = "is not part of the adapter"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RegistryError)
"""What reading a file of JSON that may be anything raises."""

_WRITTEN_BESIDE = {"README.md", "run.yaml"}  # by versions of before entry.json held digests


def entry_of(manifest: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return what the registry says of an adapter with this manifest and so many bytes of tensors."""
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


def read_entry(folder: Path, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the entry of a version: the one beside it, else the known one, else one made from the manifest.

    Raises one of `UNREADABLE` where the manifest is damaged, or is none.
    """
    check_no_link(folder)
    data = read_file(folder / MANIFEST)
    if version_of(data) != folder.name:
        raise ValueError(f"{MANIFEST} is damaged or was edited")
    manifest = parse_json(data)
    # its number is lost: it comes before all others, so that damage makes nothing current
    made = {"number": 0, **entry_of(manifest, manifest["files"][TENSORS]["bytes"])}
    try:
        check_entry(made)
    except ValueError as error:
        raise ValueError(f"{MANIFEST} is no adapter's manifest: {error}") from None
    try:
        entry = parse_json(read_file(folder / ENTRY))
        entry.pop("files", None)
        check_entry(entry)
        return dict(entry)
    except UNREADABLE as error:
        if passes(error):
            raise
    return made if known is None else dict(known)


def entry_file(entry: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Return the entry as it lies beside a version, with digests of the files that the manifest doesn't state."""
    stated = _stated(files[MANIFEST])
    own = {name: data for name, data in files.items() if name != MANIFEST and name not in stated}
    return json_bytes({**entry, "files": {n: {"sha256": sha256(d), "bytes": len(d)} for n, d in own.items()}})


def faults(folder: Path, *, known: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """Yield each file of a version that is not as it was written, with what is wrong; `known` is the index's entry."""
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
    own, wrong = _own_files(folder, known)
    if wrong:
        yield ENTRY, wrong
    stated = {**(own or {}), **_stated(manifest)}
    elsewhere = set(stated) - present if "hub" in (known or {}) else set()  # fetched when it is first used
    for name, expected in sorted(stated.items()):
        if name in elsewhere:
            continue
        if wrong := _fault(folder / name, expected) if is_name(name) and "/" not in name else "is no file's name":
            yield name, wrong
    for name in sorted(present - {MANIFEST, ENTRY} - stated.keys() - (_WRITTEN_BESIDE if own is None else set())):
        yield name, UNLISTED


def essential(folder: Path, file: str) -> bool:
    """Tell whether a version is of no use without this file of it."""
    if file == MANIFEST:
        return True
    try:
        return file in _stated(read_file(folder / MANIFEST))
    except (OSError, ValueError):
        return True


def _own_files(folder: Path, known: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """Return the digests that entry.json holds, None where it holds none, and what is wrong with it."""
    try:
        entry = parse_json(read_file(folder / ENTRY))
        own = entry.pop("files", None)
        if known is not None and {**known, **entry} != known:
            return own, "says other things than registry.json"
    except UNREADABLE as error:
        return None, f"can't be read: {_words(error)}"
    try:
        check_entry(entry)
    except ValueError as error:
        return own, f"is no entry: {error}"
    return own, ""


def _words(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _stated(manifest: bytes | bytearray) -> dict[str, Any]:
    """Return the files and digests that a manifest states, none where it is no manifest."""
    try:
        return dict(parse_json(manifest)["files"])
    except (ValueError, KeyError, TypeError):
        return {}


def _fault(path: Path, expected: Mapping[str, Any]) -> str:
    try:
        found = sha256(read_file(path, size=expected["bytes"]))
        if found != expected["sha256"]:
            return f"is damaged or was edited: its SHA-256 is {found[:12]}…, expected {expected['sha256'][:12]}…"
    except OSError as error:
        return _words(error)
    except ValueError as error:
        return f"is damaged or was edited: {error}"
    except (KeyError, TypeError):
        return "has no digest that can be read"
    return ""


def passes(error: Exception) -> bool:
    """Tell whether an error is this process's own trouble, and says nothing of the file."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
