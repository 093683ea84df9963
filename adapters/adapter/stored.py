"""An adapter as its files are, verified by their digests: all that can be read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AdapterError
from ..io.atomic import sha256, version_of
from ..io.untrusted import read_file
from ..options import build
from ..tasks import Task, task_class
from .manifest import MANIFEST, parse_manifest


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter without its tensors."""

    manifest: dict[str, Any]

    @classmethod
    def load(cls, folder: Path, *, version: str | None = None) -> StoredAdapter:
        """Read an adapter from its folder; raises `AdapterError` as `read_files` does."""
        return cls(read_files(folder, version)[0])

    @property
    def task(self) -> Task:
        """The task that the adapter does, with its labels."""
        stored = self.manifest["task"]
        return build(task_class(stored["name"]), stored["options"], source=f"task '{stored['name']}'")


def read_files(folder: Path, version: str | None = None) -> tuple[dict[str, Any], dict[str, bytearray]]:
    """Return the manifest of an adapter and the content of its files; each is read once, hashed, and used as read.

    Raises `AdapterError` where one is missing, damaged, not as in the manifest, or the manifest is not that of
    `version`.
    """
    data = _read(folder / MANIFEST)
    if version is not None and version != version_of(data):
        raise AdapterError(
            f"{folder / MANIFEST} is damaged or was edited: it is version {version_of(data)}, expected {version}"
        )
    try:
        manifest = parse_manifest(data)
    except ValueError as error:
        raise AdapterError(f"{folder / MANIFEST} is not an adapter's manifest: {error}") from error
    contents = {}
    for name, stated in manifest["files"].items():
        contents[name] = _read(folder / name, stated["bytes"])
        if (actual := sha256(contents[name])) != stated["sha256"]:
            raise AdapterError(
                f"{folder / name} is damaged or was edited: its SHA-256 is {actual[:12]}…, "
                f"expected {stated['sha256'][:12]}…"
            )
    return manifest, contents


def _read(path: Path, size: int | None = None) -> bytearray:
    try:
        return read_file(path, size=size)
    except OSError as error:
        raise AdapterError(f"can't read '{path}': {error.strerror or error}") from error
    except ValueError as error:
        raise AdapterError(f"{path} is damaged or was edited: {error}") from error
