"""A registry behind a URL: its local copy, where versions are pulled on demand, and the publishing of changes to it.

The store has the layout of a folder: version folders and records of changes, which are never overwritten, and
registry.json, which is replaced on the condition that nobody else did. Where another process changed it, the names that
this one changed are computed again from the records, which are all in the store.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adapter.manifest import MANIFEST
from ..errors import OptionError, RegistryError
from ..io.atomic import sha256, version_of, write_file, write_folder
from ..io.untrusted import MOST_JSON, is_name, parse_json
from .index import MOST, Index
from .journal import CHANGE, Records
from .object_store import ChangedError, ObjectStore
from .schema import VERSION
from .version_files import ENTRY

INDEX = "registry.json"
FRESH_SECONDS = 1.0
"""How long the index is used without reading it again."""
CONTENDED_SECONDS = 300.0
"""How long to try to replace an index that others replace as well."""


@dataclass
class Mirror:
    """The local copy of the registry at a URL, in `folder`."""

    store: ObjectStore
    folder: Path
    tag: str | None = None  # of the index that was read last; None where there was none
    read_at: float = float("-inf")
    remote: dict[str, set[str]] = field(default_factory=dict)  # the files of the folders that a change has read

    @classmethod
    def at(cls, url: str) -> Mirror:
        """Return the mirror of a URL, in the folder of cached assets."""
        from huggingface_hub import cached_assets_path

        if not url.partition("://")[2].strip("/"):
            raise OptionError(f"'{url}' names no bucket; expected a URL such as s3://BUCKET/PREFIX")
        url = re.sub(rf"/({re.escape(INDEX)})?$", "", url)
        folder = cached_assets_path("adapterkit", "registries", subfolder=sha256(url.encode())[:16])
        return cls(ObjectStore(url), Path(folder))

    @property
    def path(self) -> Path:
        """The local registry.json."""
        return self.folder / INDEX

    # ---- reading

    def refresh(self, *, now: bool = False) -> None:
        """Copy the index, unless that was done within `FRESH_SECONDS`. Raises `RegistryError`."""
        if not now and time.monotonic() - self.read_at < FRESH_SECONDS:
            return
        try:
            data, self.tag = self.store.read(INDEX, MOST)
        except FileNotFoundError:
            self.store.check()
            self.tag = None
            self.path.unlink(missing_ok=True)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.path.exists() or self.path.read_bytes() != data:
                write_file(self.path, data, sync=False)
        self.read_at = time.monotonic()

    def exists(self) -> bool:
        """Return whether the URL has an index or a store. Raises `RegistryError`."""
        self.refresh(now=True)
        return self.tag is not None or bool(self.store.sizes("store"))

    def pull(self, folder: Path, entry: Mapping[str, Any] | None) -> None:
        """Copy the files of a version that aren't here, each verified by its digest.

        Files of a version on the Hub may be missing. Raises `RegistryError` where they are missing or damaged.
        """
        import filelock

        if _complete(folder):
            return
        place = f"store/{folder.parent.name}/{folder.name}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
            if _complete(folder):
                return
            files = self._version_files(place, folder.name, on_hub="hub" in (entry or {}))
            shutil.rmtree(folder, ignore_errors=True)  # a part of it, from a change
            write_folder(folder, files)

    def _version_files(self, place: str, version: str, *, on_hub: bool) -> dict[str, bytes]:
        """Return the files of a version, each of the size and digest that the manifest or entry.json states."""
        try:
            manifest, _ = self.store.read(f"{place}/{MANIFEST}", MOST_JSON)
            entry, _ = self.store.read(f"{place}/{ENTRY}", MOST_JSON)
        except FileNotFoundError:
            raise RegistryError(f"{self.store.url}/{place} is incomplete: it has no {MANIFEST} or {ENTRY}") from None
        try:
            stated = {**parse_json(entry).get("files", {}), **parse_json(manifest)["files"]}
            sizes = {name: int(about["bytes"]) for name, about in stated.items() if is_name(name)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"{self.store.url}/{place} is damaged: {error}") from None
        if version_of(manifest) != version:
            raise RegistryError(f"{self.store.url}/{place}/{MANIFEST} is damaged: its digest isn't {version}")
        files = {MANIFEST: manifest, ENTRY: entry}
        for name, size in sizes.items():
            try:
                data, _ = self.store.read(f"{place}/{name}", size)
            except FileNotFoundError:
                if on_hub:
                    continue
                raise RegistryError(f"{self.store.url}/{place}/{name} is missing") from None
            if sha256(data) != stated[name].get("sha256"):
                raise RegistryError(f"{self.store.url}/{place}/{name} is damaged: its digest is another")
            files[name] = data
        return files

    # ---- changing

    def sync(self, folder: Path, listed: Mapping[str, Any] | None) -> None:
        """Make the records in an adapter's folder those of the store: changes, and versions that aren't `listed`."""
        place = f"store/{folder.name}"
        sizes = self.store.sizes(place)
        self.remote[folder.name] = set(sizes)
        folder.mkdir(parents=True, exist_ok=True)
        versions = {name.partition("/")[0] for name in sizes if name.endswith(f"/{MANIFEST}")}
        for local in folder.iterdir():
            if VERSION.fullmatch(local.name) and local.name not in versions:
                shutil.rmtree(local)  # of a change that failed
            elif CHANGE.fullmatch(local.name) and local.name not in sizes:
                local.unlink()
        for name in sizes:
            if CHANGE.fullmatch(name) and not (folder / name).exists():
                write_file(folder / name, self.store.read(f"{place}/{name}", MOST_JSON)[0], sync=False)
        for version in versions - set((listed or {}).get("versions", ())):
            if VERSION.fullmatch(version) and not (folder / version / MANIFEST).exists():
                names = (MANIFEST, ENTRY)
                with contextlib.suppress(FileNotFoundError):
                    files = {name: self.store.read(f"{place}/{version}/{name}", MOST_JSON)[0] for name in names}
                    write_folder(folder / version, files)

    def sync_all(self) -> None:
        """Make the records of all adapters, of every version, those of the store."""
        for name in {path.partition("/")[0] for path in self.store.sizes("store")}:
            self.sync(self.folder / "store" / name, None)

    def publish(self, index: Index, before: Index) -> None:
        """Copy the records that a change wrote to the store, and then the index, with what others changed meanwhile.

        Raises `RegistryError`; an index that doesn't have the change is as it was.
        """
        for name in self.remote:
            self._upload(self.folder / "store" / name)
        changed = {name for name in {*index, *before} if index.lines.get(name) != before.lines.get(name)}
        until, current = time.monotonic() + CONTENDED_SECONDS, index
        for attempt in range(1_000_000):
            try:
                self.store.replace(INDEX, current.to_bytes(), self.tag)
                break
            except ChangedError:
                if time.monotonic() > until:
                    raise RegistryError(f"{self.store.url}: others change its index all the time; try again") from None
            time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))
            self.refresh(now=True)
            current = self._merged(Index.read(self.path), index, before, changed)
        write_file(self.path, current.to_bytes(), sync=False)
        self.read_at = float("-inf")  # the tag is another
        self.remote.clear()

    def _upload(self, folder: Path) -> None:
        """Create the files of a folder that the store doesn't have; a version's manifest comes last."""
        remote = self.remote[folder.name]
        paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        for path in sorted(paths, key=lambda path: (CHANGE.fullmatch(path.name) is not None, path.name == MANIFEST)):
            name = path.relative_to(folder).as_posix()
            if name not in remote:
                self.store.create(f"store/{folder.name}/{name}", path.read_bytes())
                remote.add(name)

    def _merged(self, theirs: Index, ours: Index, before: Index, changed: set[str]) -> Index:
        """Return an index with the names that we changed as the records now have them."""
        for name in changed:
            adapter = theirs.get(name) or ours.get(name) or before.get(name) or {}
            folder = self.folder / "store" / adapter.get("folder", name)
            self.sync(folder, adapter)
            records = Records.read(folder, adapter, trust=name in theirs)
            theirs.put(name, records.state(theirs.get(name)) if records.name == name else None)
        if ours.head != before.head:
            if theirs.head != before.head:
                raise RegistryError(f"{self.store.url}: bundles were changed by another at the same time; try again")
            theirs.head = ours.head
        return theirs


def _complete(folder: Path) -> bool:
    """Return whether a version's folder has the files that its manifest lists; their digests are checked on reading."""
    try:
        stated = parse_json((folder / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return (folder / ENTRY).exists() and all((folder / name).exists() for name in stated)
