"""The adapters of an export as models of a server, which computes with onnxruntime and needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import PoolError, unknown
from ..runtime.manifest import MANIFEST
from ..runtime.pool import OnnxPool
from .errors import RequestError
from .target import Target


class ExportedModels:
    """The adapters of an export, in the versions that it has; it is read once."""

    def __init__(self, folder: Path, *, threads: int = 1, max_bytes: int | None = None) -> None:
        """Open an export; `threads` are those of onnxruntime for one batch.

        Raises `AdapterError` where it is damaged or missing, and `OptionError` where onnxruntime is.
        """
        self._generation = os.stat(folder / MANIFEST).st_mtime_ns if (folder / MANIFEST).exists() else 0
        self._pool = OnnxPool(folder, batch_size=128, threads=threads, max_bytes=max_bytes)
        self.base = self._pool.manifest.base.name

    def names(self) -> list[str]:
        """Return the names of the exported adapters."""
        return self._pool.names()

    def bundles(self) -> Mapping[str, Sequence[str]]:
        """Return no bundles: these are of a registry."""
        return {}

    def members(self, name: str) -> Sequence[str]:
        """Return the name itself."""
        return [name]

    def bases(self) -> Mapping[str, Any]:
        """Return no base: an export's embeds no texts."""
        return {}

    def pools(self) -> list[OnnxPool]:
        """Return the pool of the export."""
        return [self._pool]

    def entry(self, name: str) -> Mapping[str, Any]:
        """Return the version and the task of an adapter."""
        record = self._pool.manifest.adapters[name]
        return {"version": record.version, "task": record.task.name}

    def generation(self) -> int:
        """Return the time of the export in nanoseconds."""
        return self._generation

    def resolve(self, name: str) -> Target:
        """Return the version that `name` or `name@version` names.

        Raises `RequestError`, 404 with the nearest name, or where the export has another version.
        """
        if (stem := name.partition("@")[0]) not in self._pool.manifest.adapters:
            raise RequestError(404, unknown("adapter", stem[:200], self.names(), known_as="exported"))
        try:
            self._pool.name_of(name)
        except PoolError as error:
            raise RequestError(404, str(error)) from error
        return Target(stem, f"{stem}@{self._pool.manifest.adapters[stem].version}", self._pool)

    def use_threads(self, count: int) -> None:
        """Do nothing: the threads of a session are those that it was opened with."""

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()
