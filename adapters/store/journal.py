"""What the store itself says of an adapter: its versions, and one small file for each change that was made since.

    store/<name>/<version>/entry.json       what the index says of a version, its number, digests of what has none yet
    store/<name>/000007-<digest>.json       {"number": 7, "tags": {"prod": "<version>"}}

Nothing here is ever written over, so nothing is lost where a lock does nothing. Changes and versions share one counter;
of two with one number, the one with the higher digest is the later one, on every machine.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..io.atomic import json_bytes, sha256, write_file
from ..io.untrusted import parse_json, read_file
from .index import Index
from .schema import NAME, TAG, VERSION
from .version_files import UNREADABLE, check_no_link, passes, read_entry

CHANGE = re.compile(r"[0-9]{6,}-[0-9a-f]{12}\.json")


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
                    records.entries[path.name] = read_entry(path, listed.get(path.name))
                elif CHANGE.fullmatch(path.name) and not folder.is_symlink():
                    records.changes.append(_change(path))
            except UNREADABLE as error:
                if passes(error) or (isinstance(error, OSError) and CHANGE.fullmatch(path.name)):
                    raise  # without a change, what is made of the others would be another state
                if isinstance(error, OSError) and path.name in listed and not isinstance(error, FileNotFoundError):
                    records.entries[path.name] = listed[path.name]  # the disk's trouble, which may pass
                else:
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
        """Write a change to the folder, permanently. Raises `RegistryError` for a link, `FileError` for a full disk."""
        check_no_link(self.folder)
        change = {"number": self.number, **change}
        data = json_bytes(change)
        write_file(self.folder / f"{change['number']:06}-{sha256(data)[:12]}.json", data)
        self.changes.append(dict(change))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _by_number(item: tuple[str, dict[str, Any]]) -> tuple[int, str]:
    return item[1]["number"], item[0]


def _change(path: Path) -> dict[str, Any]:
    data = read_file(path)
    if sha256(data)[:12] != path.stem.partition("-")[2]:
        raise ValueError("it is damaged or was edited")
    change: dict[str, Any] = parse_json(data)
    named = [*change.get("removed", ()), *change.get("restored", ())]
    tags, current = change.get("tags", {}), change.get("current", "0" * 16)
    right = isinstance(change["number"], int) and all(VERSION.fullmatch(v) for v in (*named, current))
    right = right and all(TAG.fullmatch(tag) and isinstance(v, str | None) for tag, v in tags.items())
    if not (right and NAME.fullmatch(change.get("name", "a"))):
        raise ValueError("it is no change")
    return change


# ---- the whole store


def shelves(store: Path, index: Index) -> list[Records]:
    """Return what lies in each folder of the store."""
    known = {known.get("folder", name): known for name, known in index.readable()}
    try:
        names = sorted(found.name for found in os.scandir(store) if found.is_dir() and found.name[0] != ".")
    except FileNotFoundError:
        return []
    return [Records.read(store / name, known.get(name)) for name in names]


def from_store(store: Path, index: Index) -> tuple[dict[str, tuple[Records, dict[str, Any]]], list[str]]:
    """Return what the store says, by name: records and state; and why parts of it were left out.

    Of two folders that claim a name, the one that had it first keeps it, the other gets a number.
    """
    every = shelves(store, index)
    left_out = [f"{path}: {why}" for records in every for path, why in records.unreadable.items()]
    by_folder = {known.get("folder", name): known for name, known in index.readable()}
    found: dict[str, tuple[Records, dict[str, Any]]] = {}
    late = []
    for records in sorted(every, key=lambda r: (r.naming, r.folder.name)):
        state = records.state(by_folder.get(records.folder.name))
        if state is not None and NAME.fullmatch(records.name):
            if records.name in found:
                late.append((records, state))
            else:
                found[records.name] = (records, state)
    for records, state in late:
        free = (f"{records.name[:90]}-{number}" for number in itertools.count(2))
        name = next(name for name in free if name not in found)
        found[name] = (records, {**state, "folder": records.folder.name})
    return dict(sorted(found.items())), left_out
