"""Maintain a registry and its store: verify files, find and repair faults, delete what was removed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import AdapterError, RegistryError
from ..io.atomic import json_bytes, remove, write_file
from .index import Index
from .journal import CHANGE, Records, all_records, scan
from .registry import Registry
from .schema import VERSION
from .version_files import ENTRY, UNLISTED, essential, faults

GRACE_MINUTES = 60.0
"""The age at which files are deleted where the lock has no effect, as another process may still be writing them."""

_LEFT_OVER = re.compile(r"\..*\.[a-z0-9_]{8}\.(tmp|old)")
"""The names of temporary files and folders in `io.atomic`, with the random part of tempfile."""
_DELIST = "remove the version from registry.json; its files stay until adapt gc"


@dataclass(frozen=True)
class Fault:
    """One fault, and what `doctor` would do about it: nothing where `fix` begins with none."""

    kind: str  # lock, index, leftover, orphan, missing, damaged, unexpected
    place: str
    what: str
    fix: str = "none"
    mend: Callable[[], Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Gone:
    """A file or folder that was deleted, or would be."""

    path: Path
    why: str
    nbytes: int


def verify(registry: Registry, references: Iterable[str]) -> list[Fault]:
    """Return the faults of versions: wrong digests, missing and unexpected files, and whether the adapter loads."""
    problems = []
    for reference in references:
        name, version = registry.resolve(reference)
        entry, folder = registry.index()[name]["versions"][version], registry.folder(name, version)
        wrong = dict(faults(folder, entry=entry))
        problems += [Fault("damaged", f"{name}@{version}/{file}", what) for file, what in wrong.items()]
        if not any(essential(folder, file) for file in wrong):
            try:
                registry.load(f"{name}@{version}")
            except AdapterError as error:
                problems.append(Fault("damaged", f"{name}@{version}", str(error)))
    return problems


# ---- garbage collection


def collect(registry: Registry, *, dry_run: bool = False, grace_minutes: float | None = None) -> list[Gone]:
    """Delete removed versions and temporary files, and return them; anything that registry.json lists stays.

    Files younger than the grace period stay, too: an hour where the lock has no effect, else none, since no other
    process can be writing while the lock is held. Raises `RegistryError`.
    """
    _check_folder(registry)
    gone: list[Gone] = []
    with registry.changing() as index:
        minutes = grace_minutes if grace_minutes is not None else (0 if lock_holds(registry) else GRACE_MINUTES)

        def take(path: Path, why: str) -> None:
            if _age(path) >= minutes * 60:
                gone.append(Gone(path, why, _size(path)))
                if not dry_run:
                    remove(path)

        for path in leftovers(registry):
            take(path, "left over")
        listed = {adapter.get("folder", name): adapter["versions"] for name, adapter in index.items()}
        for records in all_records(registry.store, index):
            if records.folder.is_symlink():
                continue
            keep = listed.get(records.folder.name, {})
            for version in sorted(records.removed() - keep.keys()):
                if (folder := records.folder / version).is_dir():
                    take(folder, f"removed from {records.name}")
            if not keep and not any(VERSION.fullmatch(path.name) for path in records.folder.iterdir()):
                take(records.folder, "holds no version")
    return gone


def _check_folder(registry: Registry) -> None:
    """Raise `RegistryError` for a registry behind a URL, of which only a part is here."""
    if registry.mirror is not None:
        raise RegistryError(f"{registry.place} is a URL; this works on a folder, and `adapt registry rebuild` on both")


def leftovers(registry: Registry) -> list[Path]:
    """Return temporary files and folders of interrupted writes and deletions; links aren't followed."""
    beside = registry.path.parent.glob(f".{registry.path.name}.*.tmp")
    inside = (path for folder in _folders(registry.store, depth=2) for path in folder.iterdir())
    return sorted([*beside, *(path for path in inside if _LEFT_OVER.fullmatch(path.name))])


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and the folders below it, except links."""
    if folder.is_dir() and not folder.is_symlink():
        yield folder
        for below in sorted(folder.iterdir()) if depth else ():
            if not _LEFT_OVER.fullmatch(below.name):
                yield from _folders(below, depth - 1)


def lock_holds(registry: Registry) -> bool:
    """Return whether the lock, now held, excludes others; on some network file systems it doesn't."""
    try:
        with registry.locked(0):
            return False
    except RegistryError:
        return True


def _age(path: Path) -> float:
    """Return the seconds since the last write in a file or folder."""
    return time.time() - max(part.lstat().st_mtime for part in (path, *path.rglob("*")))


def _size(path: Path) -> int:
    return sum(part.lstat().st_size for part in (path, *path.rglob("*")) if not part.is_dir())


# ---- the doctor


def doctor(registry: Registry, *, fix: bool = False) -> list[Fault]:
    """Return the faults of registry.json and the store, repaired with `fix`.

    No version is deleted: a damaged one is removed from the index. Raises `RegistryError`.
    """
    _check_folder(registry)
    if not fix:
        index = Index.read(registry.path, damaged=True)
        return [*_lock_faults(registry), *_faults(registry, index)]
    with registry.changing(damaged=True) as index:
        problems = list(_faults(registry, index))
        for fault in problems:
            if fault.mend is not None:
                fault.mend()
        registry.renew(index)
    return problems


def _lock_faults(registry: Registry) -> Iterator[Fault]:
    if not registry.path.parent.is_dir():
        return
    try:
        with registry.locked(0):
            if not lock_holds(registry):
                after = "none; `adapt registry rebuild` after runs that ended at the same time lists them all"
                yield Fault("lock", f"{registry.path}.lock", "does nothing on this file system", after)
    except RegistryError as error:
        yield Fault("lock", f"{registry.path}.lock", str(error), "none; it ends with that process")


def _faults(registry: Registry, index: Index) -> Iterator[Fault]:
    yield from _index_faults(registry, index)
    for path in leftovers(registry):
        what = f"{_size(path)} bytes of a write that was cut off"
        yield Fault("leftover", _place(registry, path), what, "delete it", partial(remove, path))
    for records in all_records(registry.store, index):
        yield from _records_faults(registry, records)


def _index_faults(registry: Registry, index: Index) -> Iterator[Fault]:
    again = "make it again from the store"
    try:
        registry.adapters()
    except RegistryError as error:
        yield Fault("index", registry.path.name, str(error), again)
    listed, (stored, _) = dict(index.readable()), scan(registry.store, index)
    for name in sorted({*listed, *stored}):
        indexed = listed.get(name, {"versions": {}})
        actual = stored[name][1] if name in stored else {"versions": {}}
        for version in actual["versions"].keys() - indexed["versions"].keys():
            yield Fault("orphan", f"{name}@{version}", "is in the store and not in registry.json", "list it")
        for version in indexed["versions"].keys() - actual["versions"].keys():
            folder = registry.store / indexed.get("folder", name) / version
            if not folder.exists():
                yield Fault("missing", f"{name}@{version}", "has no files in the store", "list it no longer")
            elif name in stored and version in stored[name][0].removed():
                yield Fault("index", f"{name}@{version}", "was removed, and is listed", "list it no longer")
        same_versions = indexed["versions"].keys() == actual["versions"].keys()
        if same_versions and {**indexed, "versions": 0} != {**actual, "versions": 0}:
            yield Fault("index", name, "has another current version, tag or folder than the store", again)


def _records_faults(registry: Registry, records: Records) -> Iterator[Fault]:
    if records.folder.is_symlink():
        yield Fault("unexpected", _place(registry, records.folder), "is a link, and isn't followed")
        return
    removed = records.removed()
    for path, why in records.unreadable.items():
        take_out = partial(records.add_change, {"removed": [path.name]})
        if CHANGE.fullmatch(path.name):
            yield Fault("damaged", _place(registry, path), why, "delete it", partial(remove, path))
        elif path.name not in removed:
            yield Fault("damaged", _place(registry, path), why, _DELIST + _then(records, path.name), take_out)
    for version in sorted(records.entries.keys() - removed):
        yield from _version_faults(registry, records, version)
    rest = [path for path in records.folder.iterdir() if not path.name.startswith(".")]
    for path in rest:
        if not VERSION.fullmatch(path.name) and not CHANGE.fullmatch(path.name):
            yield Fault("unexpected", _place(registry, path), "is no part of the store")
    if not rest:
        place = _place(registry, records.folder)
        yield Fault("leftover", place, "is empty", "delete it", partial(remove, records.folder))


def _version_faults(registry: Registry, records: Records, version: str) -> Iterator[Fault]:
    folder, entry = records.folder / version, records.entries[version]
    wrong = dict(faults(folder, entry=entry))
    broken = any(essential(folder, file) for file in wrong)
    for file, what in wrong.items():
        place = _place(registry, folder / file)
        if what == UNLISTED:
            yield Fault("unexpected", place, what)
        elif broken:
            take_out = partial(records.add_change, {"removed": [version]})
            yield Fault("damaged", place, what, _DELIST + _then(records, version), take_out)
        elif file == ENTRY:
            written = partial(write_file, folder / ENTRY, json_bytes(entry))
            yield Fault("damaged", place, what, "write it again from what is known", written)
        else:
            yield Fault("damaged", place, what, "none; adding the same adapter again repairs it")


def _then(records: Records, version: str) -> str:
    """Return which version is current once one is removed, where that changes."""
    change = {"number": records.number, "removed": [version]}
    before, after = records.state(), replace(records, changes=[*records.changes, change]).state()
    if after is None:
        return f"; no version of {records.name} is left"
    if before is not None and before["current"] == after["current"]:
        return ""
    return f"; {records.name} is then {records.name}@{after['current']}"


def _place(registry: Registry, path: Path) -> str:
    return str(path.relative_to(registry.path.parent))
