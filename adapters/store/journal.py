"""The records of an adapter in the store: its versions, and one small file for each change since.

    store/<name>/<version>/entry.json       the entry in the index, and digests of files that the manifest doesn't list
    store/<name>/000007-<digest>.json       {"number": 7, "tags": {"prod": "<version>"}}

No file is ever overwritten, so that nothing is lost where the lock has no effect. Changes and versions share one
counter; of two with the same number, the one with the higher digest is the later one, on every machine.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RegistryError
from ..io.atomic import json_bytes, sha256, write_file
from ..io.untrusted import parse_json, read_file
from .index import Index
from .schema import NAME, TAG, VERSION
from .version_files import UNREADABLE, check_no_link, is_temporary, read_entry

CHANGE = re.compile(r"[0-9]{6,}-[0-9a-f]{12}\.json")


@dataclass
class Records:
    """The content of one adapter's folder in the store."""

    folder: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The entries of the index by version."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Reasons why files could not be read, by path."""

    @classmethod
    def read(cls, folder: Path, listed: Mapping[str, Any] | None = None, *, trust: bool = False) -> Records:
        """Read a folder. `listed` is the adapter in an index, used where an entry can't be read.

        With `trust`, its entries are used without reading them again.
        """
        entries = listed["versions"] if listed else {}
        records = cls(folder, dict(entries) if trust else {})
        for path in map(folder.joinpath, sorted(_names(folder))):
            try:
                if VERSION.fullmatch(path.name) and path.name not in records.entries:
                    records.entries[path.name] = read_entry(path, entries.get(path.name))
                elif CHANGE.fullmatch(path.name) and not folder.is_symlink():
                    records.changes.append(_change(path))
            except UNREADABLE as error:
                if is_temporary(error) or (isinstance(error, OSError) and CHANGE.fullmatch(path.name)):
                    raise  # without this change, the others would result in another state
                if isinstance(error, OSError) and path.name in entries and not isinstance(error, FileNotFoundError):
                    records.entries[path.name] = entries[path.name]  # a disk error, which may be temporary
                else:
                    records.unreadable[path] = str(error)
        return records

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield all changes in order; adding a version makes it current."""
        added = [(entry["number"], version, {"current": version}) for version, entry in self.entries.items()]
        changed = [(change["number"], sha256(json_bytes(change)), change) for change in self.changes]
        for _, _, change in sorted((*added, *changed), key=lambda event: event[:2]):
            yield change

    @property
    def name(self) -> str:
        """The adapter's name: the folder's, unless it was renamed."""
        names = [change["name"] for change in self.events() if "name" in change]
        return names[-1] if names else self.folder.name.partition(".")[0]

    @property
    def named_at(self) -> int:
        """The number of the change that gave the adapter its name, or 0."""
        return max((change["number"] for change in self.changes if "name" in change), default=0)

    @property
    def number(self) -> int:
        """The number of the next change."""
        return 1 + max((e["number"] for e in (*self.entries.values(), *self.changes)), default=0)

    def removed(self) -> set[str]:
        """Return the versions that were removed and not restored."""
        out: set[str] = set()
        for change in self.events():
            out |= set(change.get("removed", ()))
            out -= {*change.get("restored", ()), change.get("current")}
        return out

    def state(self, listed: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the adapter as the index lists it, with other keys of `listed`; None where no version is left."""
        removed = self.removed()
        versions = {v: e for v, e in sorted(self.entries.items(), key=_by_number) if v not in removed}
        if not versions:
            return None
        current, tags = "", dict[str, str | None]()
        for change in self.events():
            current = change["current"] if change.get("current") in versions else current
            tags |= change.get("tags", {})
        others = {key: value for key, value in (listed or {}).items() if key not in ("tags", "folder")}
        state = {**others, "current": current, "versions": versions}
        if tags := {tag: version for tag, version in sorted(tags.items()) if version in versions}:
            state["tags"] = tags
        if self.folder.name != self.name:
            state["folder"] = self.folder.name
        return state

    def last_removal(self) -> list[str]:
        """Return the versions of the last removal."""
        removals = [change["removed"] for change in self.events() if "removed" in change]
        return [version for version in (removals or [[]])[-1] if version in self.entries]

    def hold_current(self, current: str) -> None:
        """Write that `current` stays current after the next version is added, before that one's folder exists."""
        self.add_change({"number": self.number + 1, "current": current})

    def add_staged(self, version: str, tag: str, current: str) -> None:
        """Write a tag of an added version, which is restored where it was removed; `current` stays current."""
        restored = {"restored": [version], "current": current} if version in self.removed() else {}
        self.add_change({**restored, "tags": {tag: version}})

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
    valid = isinstance(change["number"], int) and all(VERSION.fullmatch(v) for v in (*named, current))
    valid = valid and all(TAG.fullmatch(tag) and isinstance(v, str | None) for tag, v in tags.items())
    if not (valid and NAME.fullmatch(change.get("name", "a"))):
        raise ValueError("it is no change")
    return change


# ---- the store


def all_records(store: Path, index: Index) -> list[Records]:
    """Return the records of each folder in the store."""
    listed = {adapter.get("folder", name): adapter for name, adapter in index.readable()}
    try:
        names = sorted(item.name for item in os.scandir(store) if item.is_dir() and item.name[0] != ".")
    except FileNotFoundError:
        return []
    return [Records.read(store / name, listed.get(name)) for name in names]


def scan(store: Path, index: Index) -> tuple[dict[str, tuple[Records, dict[str, Any]]], list[str]]:
    """Return records and state of each adapter in the store by name, and a line for each part that was left out.

    Of two folders with the same name, the one that was named first gets it, the other gets a number.
    """
    every = all_records(store, index)
    left_out = [f"{path}: {why}" for records in every for path, why in records.unreadable.items()]
    by_folder = {adapter.get("folder", name): adapter for name, adapter in index.readable()}
    adapters: dict[str, tuple[Records, dict[str, Any]]] = {}
    late = []
    for records in sorted(every, key=lambda r: (r.named_at, r.folder.name)):
        state = records.state(by_folder.get(records.folder.name))
        if state is not None and NAME.fullmatch(records.name):
            if records.name in adapters:
                late.append((records, state))
            else:
                adapters[records.name] = (records, state)
    for records, state in late:
        free = (f"{records.name[:90]}-{number}" for number in itertools.count(2))
        name = next(name for name in free if name not in adapters)
        adapters[name] = (records, {**state, "folder": records.folder.name})
    return dict(sorted(adapters.items())), left_out


def previous_version(name: str, state: Mapping[str, Any]) -> str:
    """Return the version that was added before the current one. Raises `RegistryError` where there is none."""
    versions = list(state["versions"])
    place = versions.index(state["current"])
    if place == 0:
        later = ", ".join(versions[1:])
        more = f"; give one to go to, there are: {later}" if later else ", and there is no other"
        raise RegistryError(f"{name}@{state['current']} is the first version{more}")
    return str(versions[place - 1])
