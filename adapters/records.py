"""What the store itself says of an adapter: its versions, and one small file for each change that was made since.

    store/<name>/<version>/entry.json       what the index says of a version, its number, digests of what has none yet
    store/<name>/000007-<digest>.json       {"number": 7, "tags": {"prod": "<version>"}}

Nothing here is ever written over, so nothing is lost where a lock does nothing. Changes and versions share one counter;
of two with one number, the one with the higher digest is the later one, on every machine.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import json_bytes, sha256, version_of, write_file
from .index import NAME, TAG, VERSION, is_entry

ENTRY = "entry.json"
MANIFEST, TENSORS = "adapter.json", "adapter_model.safetensors"
CHANGE = re.compile(r"[0-9]{6,}-[0-9a-f]{12}\.json")
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)
UNLISTED = "is not part of the adapter"
_WRITTEN_BESIDE = {"README.md", "run.yaml"}
"""Files of versions whose entry doesn't list them: those of before entries did."""


@dataclass
class Records:
    """What lies in one adapter's folder of the store."""

    folder: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Versions by name, with what the index says of each."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    """What could not be read, and why."""

    @classmethod
    def read(cls, folder: Path, known: Mapping[str, Any] | None = None, *, trust: bool = False) -> Records:
        """Read a folder. `known` is what an index says of it: used where an entry can't be read.

        With `trust` it is taken for all versions that it has, and only others are read.
        """
        listed = known["versions"] if known else {}
        records = cls(folder, dict(listed) if trust else {})
        for path in map(folder.joinpath, sorted(_names(folder))):
            try:
                if VERSION.fullmatch(path.name) and path.name not in records.entries:
                    records.entries[path.name] = _entry(path, listed.get(path.name))
                elif CHANGE.fullmatch(path.name):
                    records.changes.append(_change(path))
            except _UNREADABLE as error:
                if _passes(error) or (isinstance(error, OSError) and CHANGE.fullmatch(path.name)):
                    raise  # without a change, what is made of the others would be another state
                records.unreadable[path] = str(error)
        return records

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what happened, the first first; a version that was added is one that became current."""
        added = [(entry["number"], version, {"current": version}) for version, entry in self.entries.items()]
        changed = [(change["number"], sha256(json_bytes(change)), change) for change in self.changes]
        for _, _, change in sorted((*added, *changed), key=lambda event: event[:2]):
            yield change

    @property
    def name(self) -> str:
        """The adapter's name: its folder's, unless it was renamed."""
        names = [change["name"] for change in self.events() if "name" in change]
        return names[-1] if names else self.folder.name.partition(".")[0]

    @property
    def naming(self) -> int:
        """When it got its name: the number of that change, or 0."""
        return max((change["number"] for change in self.changes if "name" in change), default=0)

    @property
    def number(self) -> int:
        """The number of what happens next."""
        return 1 + max((e["number"] for e in (*self.entries.values(), *self.changes)), default=0)

    def removed(self) -> set[str]:
        """Return the versions that were taken out, whatever is left of them."""
        out: set[str] = set()
        for change in self.events():
            out |= set(change.get("removed", ()))
            out -= {*change.get("restored", ()), change.get("current")}
        return out

    def state(self, known: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return what the index says of this adapter, None where no version is left; keys that are `known` are kept."""
        removed = self.removed()
        versions = {v: e for v, e in sorted(self.entries.items(), key=_by_number) if v not in removed}
        if not versions:
            return None
        current, tags = "", dict[str, str | None]()
        for change in self.events():
            current = change["current"] if change.get("current") in versions else current
            tags |= change.get("tags", {})
        kept = {key: value for key, value in (known or {}).items() if key not in ("tags", "folder")}
        state = {**kept, "current": current, "versions": versions}
        if tags := {tag: version for tag, version in sorted(tags.items()) if version in versions}:
            state["tags"] = tags
        if self.folder.name != self.name:
            state["folder"] = self.folder.name
        return state

    def last_removal(self) -> list[str]:
        """Return the versions that the last removal took out."""
        removals = [change["removed"] for change in self.events() if "removed" in change]
        return [version for version in (removals or [[]])[-1] if version in self.entries]

    def add_change(self, change: Mapping[str, Any]) -> None:
        """Write a change down, for good. Raises `RegistryError`."""
        change = {"number": self.number, **change}
        data = json_bytes(change)
        write_file(self.folder / f"{change['number']:06}-{sha256(data)[:12]}.json", data)
        self.changes.append(dict(change))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _passes(error: Exception) -> bool:
    """Tell whether an error is this process's own trouble, and says nothing of the file."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)


def _by_number(item: tuple[str, dict[str, Any]]) -> tuple[int, str]:
    return item[1]["number"], item[0]


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


def _entry(folder: Path, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the entry of a version: the one beside it, else the known one, else one made from the manifest."""
    data = (folder / MANIFEST).read_bytes()
    if version_of(data) != folder.name:
        raise ValueError(f"{MANIFEST} is damaged or was edited")
    try:
        entry = json.loads((folder / ENTRY).read_bytes())
        entry.pop("files", None)
        if is_entry(entry):
            return dict(entry)
    except (*_UNREADABLE, AttributeError) as error:
        if _passes(error):
            raise
    if known is not None:
        return dict(known)
    manifest = json.loads(data)
    # its number is lost: it comes before all others, so that damage makes nothing current
    return {"number": 0, **entry_of(manifest, manifest["files"][TENSORS]["bytes"])}


def _change(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    if sha256(data)[:12] != path.stem.partition("-")[2]:
        raise ValueError("it is damaged or was edited")
    change: dict[str, Any] = json.loads(data)
    named = [*change.get("removed", ()), *change.get("restored", ())]
    tags, current = change.get("tags", {}), change.get("current", "0" * 16)
    right = isinstance(change["number"], int) and all(VERSION.fullmatch(v) for v in (*named, current))
    right = right and all(TAG.fullmatch(tag) and isinstance(v, str | None) for tag, v in tags.items())
    if not (right and NAME.fullmatch(change.get("name", "a"))):
        raise ValueError("it is no change")
    return change


# ---- a version's files


def entry_file(entry: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Return the entry as it lies beside a version, with digests of the files that the manifest doesn't state."""
    stated = _stated(files[MANIFEST])
    own = {name: data for name, data in files.items() if name != MANIFEST and name not in stated}
    return json_bytes({**entry, "files": {n: {"sha256": sha256(d), "bytes": len(d)} for n, d in own.items()}})


def faults(folder: Path, *, known: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """Yield each file of a version that is not as it was written, with what is wrong; `known` is the index's entry."""
    try:
        manifest = (folder / MANIFEST).read_bytes()
        present = {path.name for path in folder.iterdir()}
    except OSError as error:
        yield MANIFEST, error.strerror or str(error)
        return
    if version_of(manifest) != folder.name:
        yield MANIFEST, f"is damaged or was edited: it is version {version_of(manifest)}, expected {folder.name}"
        return
    own, wrong = _own_files(folder, known)
    if wrong:
        yield ENTRY, wrong
    stated = {**(own or {}), **_stated(manifest)}
    for name, expected in sorted(stated.items()):
        if wrong := "is no file's name" if "/" in name else _fault(folder / name, expected):
            yield name, wrong
    for name in sorted(present - {MANIFEST, ENTRY} - stated.keys() - (_WRITTEN_BESIDE if own is None else set())):
        yield name, UNLISTED


def essential(folder: Path, file: str) -> bool:
    """Tell whether a version is of no use without this file of it."""
    if file == MANIFEST:
        return True
    try:
        return file in _stated((folder / MANIFEST).read_bytes())
    except OSError:
        return True


def _own_files(folder: Path, known: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """Return the digests that entry.json holds, None where it holds none, and what is wrong with it."""
    try:
        entry = json.loads((folder / ENTRY).read_bytes())
        own = entry.pop("files", None)
        if known is not None and {**known, **entry} != known:
            return own, "says other things than registry.json"
        return own, "" if is_entry(entry) else "is no entry"
    except (*_UNREADABLE, AttributeError) as error:
        return None, f"can't be read: {error}"


def _stated(manifest: bytes) -> dict[str, Any]:
    """Return the files and digests that a manifest states, none where it is no manifest."""
    try:
        return dict(json.loads(manifest)["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _fault(path: Path, expected: Mapping[str, Any]) -> str:
    try:
        data = path.read_bytes()
        if len(data) != expected["bytes"] or sha256(data) != expected["sha256"]:
            return (
                f"is damaged or was edited: {len(data)} bytes of SHA-256 {sha256(data)[:12]}…, "
                f"expected {expected['bytes']} of {expected['sha256'][:12]}…"
            )
    except OSError as error:
        return error.strerror or str(error)
    except (KeyError, TypeError):
        return "has no digest that can be read"
    return ""
