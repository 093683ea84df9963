"""The registry: adapters by name and version in a store, and registry.json, an index that can be rebuilt from it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapter.manifest import MANIFEST, TENSORS
from ..display import html_table
from ..errors import MOST, RegistryError, file_errors_as, unknown
from ..io.atomic import check_writable, version_of, write_file, write_folder
from .index import Index, row_of
from .journal import Records, all_records, previous_version, scan
from .mirror import Mirror
from .object_store import is_url
from .schema import check_name as check_name
from .schema import check_tag as check_tag
from .version_files import ENTRY, check_no_link, entry_file, repair

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter

LOCK_SECONDS = 600  # how long to wait for another process that holds the lock, usually for milliseconds

_INDEXES: dict[Path, tuple[Any, Index]] = {}
"""Each registry.json as it was last read, with inode, time and size: writes go beside and are renamed."""


@dataclass(frozen=True)
class Registry:
    """The adapters that a `registry.json` lists, in the folder `store` beside it.

    Every change is written to the store first and then to the index, under a lock. On file systems where the lock has
    no effect, the index may lose a change that the store has; `rebuild` restores it. Methods raise `RegistryError`.

    >>> ak.Registry("registry.json").resolve("reviews")
    ('reviews', '...')
    """

    path: Path
    mirror: Mirror | None = None  # the registry behind a URL, of which `path` is a copy

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # a text would do, too

    @classmethod
    def at(cls, path: str | os.PathLike[str] | None = None) -> Registry:
        """Return the registry at `path`, a path or a URL, else at $ADAPT_REGISTRY, else ./registry.json."""
        if path is not None and not isinstance(path, str | os.PathLike):
            raise RegistryError(f"a registry is the path of a registry.json, got {type(path).__name__} {path!r}")
        path = path or os.environ.get("ADAPT_REGISTRY") or "registry.json"
        if is_url(path) and not str(path).startswith("file://"):
            mirror = Mirror.at(str(path))
            return cls(mirror.path, mirror)
        return cls(Path(str(path).removeprefix("file://")))

    def __repr__(self) -> str:
        return f"Registry('{self.place}')"

    def _repr_html_(self) -> str:
        adapters = self.adapters()
        rows = [row_of(name, adapters[name]) for name in list(adapters)[:MOST]]
        title = f"{self!r}: {len(adapters):,} adapters" + (f", the first {MOST}" if len(adapters) > MOST else "")
        return html_table(title, ["adapter", "version", "versions", "task", "strategy", "metric"], rows)

    @property
    def place(self) -> str:
        """The URL or the path of registry.json, for messages."""
        return self.mirror.store.url if self.mirror is not None else str(self.path)

    @property
    def store(self) -> Path:
        """The folder that holds every version of every adapter."""
        return self.path.parent / "store"

    # ---- reading

    def adapters(self) -> dict[str, dict[str, Any]]:
        """Return the registered adapters: name -> {"current": version, "versions": {version: entry}, "tags": ...}.

        Raises `RegistryError` where registry.json is damaged. A missing file means that nothing is registered.
        """
        return dict(self._read())

    def _read(self) -> Index:
        if self.mirror is not None:
            self.mirror.refresh()
        return Index.read(self.path)

    def index(self) -> Index:
        """Return the index, read again only where the file has changed; callers must not change it."""
        if self.mirror is not None:
            self.mirror.refresh()
        try:
            state = os.lstat(self.path)
        except OSError:
            return Index.read(self.path)
        signature = (state.st_ino, state.st_mtime_ns, state.st_size)
        if _INDEXES.get(self.path, (None,))[0] != signature:
            _INDEXES[self.path] = (signature, Index.read(self.path))
        return _INDEXES[self.path][1]

    def resolve(self, reference: str) -> tuple[str, str]:
        """Return (name, version) of `name`, `name@tag` or `name@version`; a version may be abbreviated.

        Raises `RegistryError`, with the existing names, where there is no such adapter or version.
        """
        name, at, wanted = reference.partition("@")
        if at and not wanted:
            check_name(reference)
        index = self.index()
        self._check_registered(name, index)
        adapter = index.cached(name)
        if not wanted:
            return name, adapter["current"]
        return name, self._version(name, wanted, adapter["versions"], adapter.get("tags", {}))

    def folder(self, name: str, version: str) -> Path:
        """Return the folder of a version: below the name that the adapter had when it was first added.

        Raises `RegistryError` where it is a link, which may lead anywhere.
        """
        index = self.index()
        folder = self.store / (index.cached(name).get("folder", name) if name in index else name) / version
        check_no_link(folder)
        if self.mirror is not None and name in index and version in index.cached(name)["versions"]:
            self.mirror.pull(folder, index.cached(name)["versions"][version])
        return folder

    def load(self, reference: str) -> Adapter:
        """Read the adapter `name`, `name@tag` or `name@version`.

        Raises `RegistryError` where it isn't registered, `AdapterError` where its files are damaged, `HubError` where
        it is on the Hub and can't be fetched.
        """
        from ..adapter.adapter import Adapter

        name, version = self.resolve(reference)
        return Adapter.load(self.fetched(name, version), version=version)

    def fetched(self, name: str, version: str) -> Path:
        """Return the folder of a version; if its files are still on the Hub, they are downloaded now.

        Raises `HubError` where that fails.
        """
        folder = self.folder(name, version)
        if not (folder / TENSORS).exists():
            entry = self.index().cached(name)["versions"][version]
            if "hub" in entry:
                from .hub_client import download

                download(folder, entry["hub"], lambda files: {ENTRY: entry_file(entry, files)})
        return folder

    def locate(self, path: str) -> str:
        """Return a path unchanged, or below the registry's folder where it exists only there."""
        beside = self.path.parent / path
        return str(beside) if not os.path.exists(path) and beside.exists() else path

    # ---- changing

    def prepare(self) -> None:
        """Raise `RegistryError` now where adding an adapter would fail later: a bad index, no bucket, a full disk."""
        self.adapters()
        with file_errors_as(RegistryError):
            check_writable(self.path.parent)

    def add(self, name: str, files: Mapping[str, bytes], entry: Mapping[str, Any], stage: str | None = None) -> str:
        """Store the files of an adapter as the current version of `name` and return that version.

        With `stage`, a tag, it is `name@stage`, and another version stays current. A version is named by the digest of
        its manifest, which holds the digests of the rest; the same content is the same version. Raises `RegistryError`.
        """
        check_name(name)
        stage = None if stage is None else check_tag(stage)
        version = version_of(files[MANIFEST])
        with self.changing(new=True) as index:
            records = self._records(name, index)
            folder = records.folder / version
            check_no_link(folder)
            state = records.state()
            if not folder.is_dir():
                number = records.number
                if stage is not None and state is not None:
                    records.hold_current(state["current"])
                records.entries[version] = {**entry, "number": number}
                write_folder(folder, {**files, ENTRY: entry_file(records.entries[version], files)})
            else:
                records.entries.setdefault(version, {**entry, "number": records.number})
                repair(folder, {ENTRY: entry_file(records.entries[version], files), **files})
            if stage is not None:
                records.add_staged(version, stage, version if state is None else state["current"])
            elif (state := records.state()) is None or state["current"] != version:
                records.add_change({"current": version})
            index.put(name, records.state(index.get(name)))
        return version

    def tag(self, reference: str, tag: str) -> tuple[str, str]:
        """Make `name@tag` refer to a version; return name and version. Raises `RegistryError`."""
        check_tag(tag)
        return self._change(reference, lambda version: {"tags": {tag: version}})

    def untag(self, name: str, tag: str) -> None:
        """Delete a tag. Raises `RegistryError` where there is no such tag."""
        index = self.index()
        self._check_registered(name, index)
        if tag not in index[name].get("tags", {}):
            raise RegistryError(unknown(f"tag of {name}", tag, index[name].get("tags", {}), known_as="there are"))
        self._change(name, lambda _: {"tags": {tag: None}})

    def previous(self, name: str) -> str:
        """Return the version that was added before an adapter's current one. Raises `RegistryError`."""
        self.resolve(name)
        return previous_version(name, self.index()[name])

    def rollback(self, name: str, wanted: str | None = None) -> str:
        """Make a version current again and return it: by default the one added before; a removed one is restored.

        An adapter of which every version was removed is restored as it was. Raises `RegistryError`.
        """
        check_name(name)
        with self.changing() as index:
            records = self._records(name, index) if name in index else self._removed(name, index)
            state = records.state()
            change: dict[str, Any]
            if wanted is not None:
                change = {"current": self._version(name, wanted, records.entries, (state or {}).get("tags", {}))}
            elif state is None:
                change = {"restored": records.last_removal()}
            else:
                change = {"current": previous_version(name, state)}
            records.add_change(change)
            index.put(name, state := records.state(index.get(name)))
        return str(state["current"]) if state else ""

    def rename(self, old: str, new: str) -> None:
        """Rename an adapter; its files stay in their folder. Raises `RegistryError`."""
        check_name(new)
        with self.changing() as index:
            self._check_registered(old, index)
            if new == old:
                raise RegistryError(f"{self.place}: '{old}' has that name already")
            if new in index or self._records(new, index).state() is not None:
                raise RegistryError(
                    f"{self.place}: there is an adapter '{new}' already; `adapt remove {new}` makes room"
                )
            records = self._records(old, index)
            records.add_change({"name": new})
            state = records.state(index[old])
            index.put(old, None)
            index.put(new, state)

    def remove(self, reference: str) -> tuple[str, list[str], str | None]:
        """Remove an adapter, or one version of it, from the index; its files stay until they are collected.

        Returns name, removed versions, and the version that is current now. Raises `RegistryError`.
        """
        name, version = self.resolve(reference)
        with self.changing() as index:
            self._check_registered(name, index)
            records = self._records(name, index)
            gone = [version] if "@" in reference else list(index[name]["versions"])
            records.add_change({"removed": gone})
            state = records.state(index[name])
            index.put(name, state)
        return name, gone, str(state["current"]) if state else None

    def rebuild(self) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Rebuild registry.json from the store.

        Returns the index, and a line for each damaged part of the store that was left out.
        """
        with self.changing(damaged=True) as index:
            if self.mirror is not None:
                self.mirror.sync_all()
            left_out = self.renew(index)
        return dict(index), left_out

    def renew(self, index: Index) -> list[str]:
        """Fill an index that `changing` yielded from the store; return which parts were left out, and why."""
        adapters, left_out = scan(self.store, index)
        index.lines.clear()
        for name, (records, state) in adapters.items():
            if name != records.name:  # another adapter has this name
                records.add_change({"name": name})
            index.put(name, state)
        return left_out

    # ---- helpers

    def _change(self, reference: str, change: Callable[[str], Mapping[str, Any]]) -> tuple[str, str]:
        """Record the change that `change` returns for a version."""
        name, version = self.resolve(reference)
        with self.changing() as index:
            self._check_registered(name, index)
            records = self._records(name, index)
            records.add_change(change(version))
            index.put(name, records.state(index[name]))
        return name, version

    def _records(self, name: str, index: Index) -> Records:
        """Return the records of a name: in the folder of that name, or in NAME.2, ... where another adapter uses it."""
        adapter = index.get(name)
        if adapter is not None:
            return Records.read(self._synced(adapter.get("folder", name), adapter), adapter, trust=True)
        records, number = Records.read(self._synced(name)), 1
        while records.name != name:
            number += 1
            records = Records.read(self._synced(f"{name}.{number}"))
        return records

    def _synced(self, name: str, listed: Mapping[str, Any] | None = None) -> Path:
        """Return an adapter's folder in the store, with the records of the registry that it mirrors."""
        if self.mirror is not None:
            self.mirror.sync(self.store / name, listed)
        return self.store / name

    def _removed(self, name: str, index: Index) -> Records:
        """Return the records of an adapter that the index doesn't list."""
        if self.mirror is not None:
            self.mirror.sync_all()
        used = {adapter.get("folder", name) for name, adapter in index.items()}
        for records in all_records(self.store, index):
            if records.name == name and records.entries and records.folder.name not in used:
                return records
        raise self._unknown(name, index)

    def _check_registered(self, name: str, index: Index) -> None:
        if name not in index:
            raise self._unknown(name, index)

    def _unknown(self, name: str, index: Index) -> RegistryError:
        if not os.path.exists(self.path):  # where a disk can't tell, it isn't
            return RegistryError(f"no adapter named '{check_name(name)}', since there is no {self.place}")
        return RegistryError(f"{self.place}: " + unknown("adapter", check_name(name), index, known_as="registered"))

    def _version(self, name: str, wanted: str, versions: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        if wanted in tags:
            return tags[wanted]
        matching = [version for version in versions if version.startswith(wanted)]
        if len(matching) != 1:
            named = unknown(f"version of {name}", wanted, [*tags, *versions], known_as="there are")
            raise RegistryError(f"{self.place}: {named}")
        return matching[0]

    @contextlib.contextmanager
    def changing(self, *, damaged: bool = False, new: bool = False) -> Iterator[Index]:
        """Hold the lock and yield the index; it is written if the block changes it and raises nothing.

        With `damaged`, an unreadable index is yielded as an empty one. Raises `RegistryError`, also where there is
        neither index nor store, unless one may be created (`new`).
        """
        if not (new or self._is_there()):
            raise RegistryError(f"there is no {self.place}, nor a store beside it")
        with file_errors_as(RegistryError):
            check_writable(self.path.parent)
            with self.locked():
                if self.mirror is not None:
                    self.mirror.refresh(now=True)
                index = Index.read(self.path, damaged=damaged)
                before = Index(self.path, index.head, dict(index.lines))
                yield index
                changed = index.lines != before.lines or index.head != before.head
                if damaged or changed or not self.path.exists():
                    if self.mirror is not None:
                        self.mirror.publish(index, before)
                    else:
                        write_file(self.path, index.to_bytes())

    def _is_there(self) -> bool:
        try:
            if self.mirror is not None:
                return self.mirror.exists()
            return self.path.exists() or self.store.exists()
        except OSError as error:
            raise RegistryError(f"can't read '{self.path}': {error.strerror or error}") from error

    @contextlib.contextmanager
    def locked(self, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock on the registry. Raises `RegistryError` where another process holds it for so many seconds."""
        import filelock

        lock = filelock.FileLock(f"{self.path}.lock")
        try:
            lock.acquire(timeout=seconds, poll_interval=0.01)
        except filelock.Timeout:
            raise RegistryError(f"'{self.path}' is locked by another process, for {seconds:g} s now") from None
        except OSError as error:
            raise RegistryError(f"can't lock '{lock.lock_file}': {error.strerror or error}") from error
        try:
            yield
        except OSError as error:
            raise RegistryError(f"can't go on with '{error.filename or self.path}': {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):  # the change is written; the lock is released when the process ends
                lock.release()
