"""The registry: adapters by name and version in a store, and registry.json, an index that can be made from it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from .errors import RegistryError, unknown
from .files import check_writable, json_bytes, version_of, write_file, write_folder
from .manifest import MANIFEST, TENSORS
from .reading import parse_json, read_file

if TYPE_CHECKING:
    from .adapter import Adapter

SCHEMA_VERSION = 1
MOST = 256 << 20  # bytes of registry.json: 400,000 versions
ENTRY = "entry.json"
"""What the index says of a version, kept beside it so that the index can be made again."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,95}")
_VERSION = re.compile(r"[0-9a-f]{16}")
_ENTRY_KEYS = {"number": int, "task": str, "strategy": str, "base": dict, "bytes": int, "metrics": dict}

_INDEXES: dict[Path, tuple[Any, dict[str, dict[str, Any]]]] = {}
"""Each registry.json as it was last read, with inode, time and size: writes go beside and are renamed."""


def check_name(name: str) -> str:
    """Return an adapter's name, or raise `RegistryError` where it isn't one."""
    if not _NAME.fullmatch(name):
        raise RegistryError(
            f"'{name}' is no adapter's name: letters, digits, - and _, at most 96, a letter or digit first"
        )
    return name


@dataclass(frozen=True)
class Registry:
    """The adapters that a `registry.json` lists, in the folder `store` beside it."""

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str] | None = None) -> Registry:
        """Return the registry at `path`, else at $ADAPT_REGISTRY, else ./registry.json."""
        return cls(Path(path or os.environ.get("ADAPT_REGISTRY") or "registry.json"))

    @property
    def store(self) -> Path:
        """The folder that holds every version of every adapter."""
        return self.path.parent / "store"

    def adapters(self) -> dict[str, dict[str, Any]]:
        """Return what is registered: name -> {"current": version, "versions": {version: entry}}.

        Raises `RegistryError` where registry.json can't be read as one. Where there is no file, nothing is registered.
        """
        try:
            index = parse_json(read_file(self.path, most=MOST))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RegistryError(f"can't read '{self.path}': {error.strerror or error}") from error
        except ValueError as error:
            raise RegistryError(
                f"'{self.path}' is not JSON ({error}); `adapt registry rebuild` makes it again"
            ) from error
        if not isinstance(index, dict) or not isinstance(index.get("adapters"), dict):
            raise RegistryError(f"'{self.path}' is JSON, but no registry: it has no object 'adapters'")
        if index.get("schema_version") != SCHEMA_VERSION:
            found = index.get("schema_version")
            raise RegistryError(f"'{self.path}' has schema version {found}; this adapterkit reads {SCHEMA_VERSION}")
        for name, known in index["adapters"].items():
            if not _is_entry(name, known):
                raise RegistryError(f"'{self.path}': '{name}' is no entry; `adapt registry rebuild` makes it again")
        return dict(index["adapters"])

    def _known(self) -> Mapping[str, dict[str, Any]]:
        """Return what is registered, read again only where the file is another one; not to be changed."""
        try:
            state = os.lstat(self.path)
        except OSError:
            return self.adapters()
        signature = (state.st_ino, state.st_mtime_ns, state.st_size)
        if _INDEXES.get(self.path, (None,))[0] != signature:
            _INDEXES[self.path] = (signature, self.adapters())
        return _INDEXES[self.path][1]

    def prepare(self) -> None:
        """Raise `RegistryError` now where adding an adapter would fail later: a bad index, a disk that is full."""
        self.adapters()
        check_writable(self.path.parent)

    def add(self, name: str, files: Mapping[str, bytes], entry: Mapping[str, Any]) -> str:
        """Store the files of an adapter as the current version of `name` and return that version.

        A version is named by the digest of its manifest, which holds the digests of the rest; the same content is the
        same version. Raises `RegistryError`.
        """
        check_name(name)
        version = version_of(files[MANIFEST])
        with self._locked():
            adapters = self.adapters()
            known = adapters.setdefault(name, {"current": version, "versions": {}})
            if version not in known["versions"] or not self.folder(name, version).is_dir():
                number = 1 + max([v["number"] for v in known["versions"].values()], default=0)
                full = {"number": number, **entry}
                known["versions"][version] = full
            if not self._is_whole(name, version, files):
                write_folder(self.folder(name, version), {**files, ENTRY: json_bytes(known["versions"][version])})
            known["current"] = version
            self._write(adapters)
        return version

    def _is_whole(self, name: str, version: str, files: Mapping[str, bytes]) -> bool:
        """Tell whether a version lies in the store with just these bytes."""
        try:
            return all(
                read_file(self.folder(name, version) / file, size=len(data)) == data for file, data in files.items()
            )
        except (OSError, ValueError):
            return False

    def rebuild(self) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Make registry.json again from the store, the version added last being the current one.

        Returns the index, and why folders were left out: those whose manifest is damaged.
        """
        with self._locked():
            adapters: dict[str, dict[str, Any]] = {}
            left_out: list[str] = []
            for folder in sorted(self.store.glob("*/*")):
                name, version = folder.parent.name, folder.name
                if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version)):
                    continue
                try:
                    entry = _entry_again(self.folder(name, version), version)
                except (OSError, ValueError, KeyError, TypeError, RegistryError) as error:
                    left_out.append(f"{folder}: {error}")
                    continue
                known = adapters.setdefault(name, {"current": version, "versions": {}})
                known["versions"][version] = entry
                if entry["number"] >= known["versions"][known["current"]]["number"]:
                    known["current"] = version
            self._write(adapters)
        return adapters, left_out

    def resolve(self, reference: str) -> tuple[str, str]:
        """Return (name, version) of `name` or `name@version`, where a version may be cut short.

        Raises `RegistryError`, with what there is, where there is none.
        """
        name, at, wanted = reference.partition("@")
        if at and not wanted:
            check_name(reference)
        adapters = self._known()
        if name not in adapters:
            raise RegistryError(
                f"{self.path}: " + unknown("adapter", check_name(name), adapters, known_as="registered")
            )
        versions = adapters[name]["versions"]
        if not wanted:
            return name, adapters[name]["current"]
        matching = [version for version in versions if version.startswith(wanted)]
        if len(matching) != 1:
            raise RegistryError(
                f"{self.path}: " + unknown(f"version of {name}", wanted, versions, known_as="there are")
            )
        return name, matching[0]

    def folder(self, name: str, version: str) -> Path:
        """Return where a version lies; raises `RegistryError` where a link stands there, which may lead anywhere."""
        folder = self.store / name / version
        for place in (folder.parent, folder):
            if place.is_symlink():
                raise RegistryError(f"'{place}' is a link, and a folder of the store was expected")
        return folder

    def load(self, reference: str) -> Adapter:
        """Read the adapter `name` or `name@version`.

        Raises `RegistryError` where it isn't registered, `AdapterError` where its files are damaged, `HubError` where
        it is on the Hub and can't be fetched.
        """
        from .adapter import Adapter

        name, version = self.resolve(reference)
        return Adapter.load(self.there(name, version), version=version)

    def there(self, name: str, version: str) -> Path:
        """Return where a version lies, fetched now where it doesn't yet and its entry names a repository on the Hub.

        Raises `HubError` where that fails.
        """
        folder = self.folder(name, version)
        if not (folder / "adapter_model.safetensors").exists():
            entry = self._known()[name]["versions"][version]
            if "hub" in entry:
                from .hub import bring

                bring(folder, entry["hub"], {ENTRY: json_bytes(entry)})
        return folder

    def locate(self, path: str) -> str:
        """Return a path as it is, or from the registry's own folder, where it is there and not here."""
        there = self.path.parent / path
        return str(there) if not os.path.exists(path) and there.exists() else path

    def _write(self, adapters: Mapping[str, Any]) -> None:
        write_file(
            self.path, json_bytes({"schema_version": SCHEMA_VERSION, "adapters": dict(sorted(adapters.items()))})
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        check_writable(self.path.parent)
        with filelock.FileLock(f"{self.path}.lock"):
            yield


def _is_entry(name: str, known: Any) -> bool:
    versions = known.get("versions") if isinstance(known, dict) else None
    return (
        bool(_NAME.fullmatch(name))
        and isinstance(versions, dict)
        and isinstance(known.get("current"), str)
        and known["current"] in versions
        and all(_VERSION.fullmatch(version) for version in versions)
        and all(map(_is_version, versions.values()))
    )


def _is_version(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in _ENTRY_KEYS.items())


def entry_of(manifest: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return what the registry says of an adapter with this manifest and so many bytes of tensors."""
    return {
        "task": manifest["task"]["name"],
        "strategy": manifest["strategy"]["name"],
        "base": {key: manifest["base"][key] for key in ("name", "fingerprint")},
        "bytes": size,
        "metrics": manifest["metrics"],
    }


def _entry_again(folder: Path, version: str) -> dict[str, Any]:
    """Return the entry of a version: the one beside it, or, where that is damaged, one made from the manifest."""
    data = read_file(folder / MANIFEST)
    if version_of(data) != version:
        raise ValueError(f"{MANIFEST} is damaged or was edited")
    manifest = parse_json(data)
    entry = {"number": 1, **entry_of(manifest, manifest["files"][TENSORS]["bytes"])}
    if not _is_version(entry):
        raise ValueError(f"{MANIFEST} is no adapter's manifest")
    try:
        stored = {**entry, **parse_json(read_file(folder / ENTRY))}
    except (OSError, ValueError, TypeError):
        stored = {}
    if _is_version(stored):
        return stored
    return {**entry, "number": 1 + sum(1 for _ in folder.parent.iterdir())}  # its place is lost; after all the others
