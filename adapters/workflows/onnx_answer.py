"""Answer rows from an export, without torch: what `adapt predict --runtime onnx` runs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, PoolError, unknown
from ..runtime.adapters import task_of
from ..runtime.folder import FOLDER, ExportFolder
from ..runtime.pool import OnnxPool
from ..store.registry import Registry
from ..tasks import Task
from ..watch import Watch
from .answer import Answering
from .pool_worker import Answers, PoolOptions, Request, answers_of

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter
    from ..runtime.manifest import ExportManifest


@dataclass
class ExportedAdapters:
    """The adapters of an export, with the part of a registry's interface that answering needs.

    Where there is a registry.json, names, tags and versions are the registry's, and the export must have that version.
    """

    registry: Registry
    folder: Path

    @classmethod
    def beside(cls, registry: Registry, folder: Path | None) -> ExportedAdapters:
        """Return the adapters of `folder`, by default of the folder `onnx` beside registry.json."""
        return cls(registry, folder or Path(registry.path).parent / FOLDER)

    @functools.cached_property
    def manifest(self) -> ExportManifest:
        """The export's manifest; raises `AdapterError` where there is none."""
        return ExportFolder(self.folder).manifest

    def adapters(self) -> dict[str, Any]:
        """Return the exported adapters by name."""
        return dict(sorted(self.manifest.adapters.items()))

    def resolve(self, reference: str) -> tuple[str, str]:
        """Return name and version of an exported adapter.

        Raises `PoolError` where the export lacks it, or has another version or base than the registry.
        """
        name, _, wanted = reference.partition("@")
        registered = Path(self.registry.path).exists()
        if registered:
            name, wanted = self.registry.resolve(reference)
        if name not in self.manifest.adapters:
            raise PoolError(unknown("adapter", name, self.manifest.adapters, known_as=f"exported to {self.folder}"))
        version = self.manifest.adapters[name].version
        if wanted and not version.startswith(wanted):
            if not registered and not set(wanted) <= set("0123456789abcdef"):
                raise PoolError(f"there is no registry.json, by which '{reference}' would name a version; pass {name}")
            raise PoolError(
                f"{self.folder} has version {version} of '{name}', expected {wanted}; export it again: adapt export "
                f"{name} --format onnx --to DIR"
            )
        if registered:
            base = self.registry.adapters()[name]["versions"][wanted]["base"]
            if base["fingerprint"] != self.manifest.base.fingerprint:
                raise PoolError(
                    f"{self.folder} is an export of base '{self.manifest.base.name}' "
                    f"({self.manifest.base.fingerprint[:12]}), but '{name}' belongs to base '{base['name']}' "
                    f"({base['fingerprint'][:12]})"
                )
        return name, version


@dataclass(frozen=True)
class _Stored:
    """An exported adapter, as answering reads it."""

    task: Task
    manifest: dict[str, Any]


@dataclass
class OnnxWorker:
    """Opens an export, again in other processes than the one that has it."""

    folder: Path
    options: PoolOptions
    skip_bad: bool
    prepack: bool = True
    pool: OnnxPool | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "pool": None}

    def opened(self) -> OnnxPool:
        """Return a new pool on the export."""
        o = self.options
        return OnnxPool(self.folder, batch_size=o.batch_size, max_bytes=o.max_bytes, prepack=self.prepack)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[list[Request]], Answers]]:
        """Yield the function from requests to answers."""
        yield partial(answers_of, self.pool or self.opened(), self.skip_bad)


class OnnxAnswering(Answering):
    """Rows, and the exported adapters that answer them; `registry` is an `ExportedAdapters`."""

    registry: Any

    def _read(self, reference: str) -> Adapter:
        manifest = self.registry.manifest
        task = task_of(manifest.adapters[reference.partition("@")[0]])
        entry = {"base": {"name": manifest.base.name, "fingerprint": manifest.base.fingerprint}}
        return _Stored(task, entry)  # type: ignore[return-value]

    def open(self, options: PoolOptions, watch: Watch, before: Answering | None) -> OnnxWorker:
        """Return the worker that answers requests; its pool is that of the answering `before`."""
        for option, value in (("--base", options.base), ("--device", options.device)):
            if value is not None:
                raise OptionError(
                    f"{option} {value} is for --runtime torch; the export has its base, and runs on the CPU"
                )
        self._watch = watch
        several = bool(self.source.name)  # else typed texts, whose answer is to come soon
        worker = OnnxWorker(self.registry.folder, options, self.source.skip_bad, prepack=several)
        if before is None:
            worker.pool = worker.opened()
            self._tokenizer = worker.pool.tokenizer
        else:
            self._tokenizer = before._tokenizer
        return worker
