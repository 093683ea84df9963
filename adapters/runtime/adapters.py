"""The adapters of an export in memory: tensors by name, the least recently used evicted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from ..errors import PoolMemoryError
from ..options import build
from ..tasks import Task, task_class
from .folder import HEAD, ExportFolder
from .manifest import AdapterRecord


def task_of(record: AdapterRecord) -> Task:
    """Return the task of an exported adapter, with its labels."""
    stored = record.task
    return build(task_class(stored.name), stored.options, source=f"task '{stored.name}'")


@dataclass(frozen=True, eq=False)
class ExportedAdapter:
    """One adapter, ready to run."""

    name: str
    task: Task
    head: str  # the file of its head's graph
    head_tensors: dict[str, np.ndarray]  # by the names of the graph's inputs
    factors: dict[str, tuple[np.ndarray, np.ndarray]]  # (inputs, r) and (r, outputs), by module
    labels: int | None = None  # None where the task has none

    @property
    def changes_base(self) -> bool:
        """Whether the base's outputs differ with this adapter."""
        return bool(self.factors)

    @property
    def rank(self) -> int:
        """The largest rank of its updates; 0 where it doesn't change the base."""
        return max((a.shape[1] for a, _ in self.factors.values()), default=0)

    @property
    def nbytes(self) -> int:
        """The memory of its tensors."""
        factors = (array for pair in self.factors.values() for array in pair)
        return sum(array.nbytes for array in (*self.head_tensors.values(), *factors))


class AdapterCache:
    """Loads adapters on first use and evicts the least recently used where `max_bytes` would be exceeded."""

    def __init__(self, folder: ExportFolder, max_bytes: int | None) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._loaded: OrderedDict[str, ExportedAdapter] = OrderedDict()
        self._tasks: dict[str, Task] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The memory of the loaded adapters."""
        return sum(adapter.nbytes for adapter in tuple(self._loaded.values()))

    def names(self) -> list[str]:
        """Return the names of the loaded adapters."""
        with self._lock:
            return list(self._loaded)

    def is_loaded(self, name: str) -> bool:
        """Return whether an adapter is in memory."""
        return name in self._loaded

    def remove(self, name: str) -> None:
        """Remove an adapter from memory, if it is there."""
        with self._lock:
            self._loaded.pop(name, None)

    def clear(self) -> None:
        """Remove all adapters from memory."""
        with self._lock:
            self._loaded.clear()

    def task(self, name: str) -> Task:
        """Return an adapter's task, with its labels; no tensor is read."""
        if name not in self._tasks:
            self._tasks[name] = task_of(self.folder.manifest.adapters[name])
        return self._tasks[name]

    def get(self, name: str) -> ExportedAdapter:
        """Return an adapter. Raises `PoolMemoryError` where it alone exceeds `max_bytes`."""
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return self._loaded[name]
            adapter = self._load(name)
            if self.max_bytes is not None:
                if adapter.nbytes > self.max_bytes:
                    raise PoolMemoryError(
                        f"adapter '{name}' has {adapter.nbytes:,} bytes, but max_bytes={self.max_bytes:,}"
                    )
                while self._loaded and self.nbytes + adapter.nbytes > self.max_bytes:
                    self._loaded.popitem(last=False)
            self._loaded[name] = adapter
            return adapter

    def _load(self, name: str) -> ExportedAdapter:
        record, tensors = self.folder.manifest.adapters[name], self.folder.tensors(name)
        head = {key.removeprefix(HEAD): value for key, value in tensors.items() if key.startswith(HEAD)}
        factors = {module: (tensors[f"{module}.A"], tensors[f"{module}.B"]) for module in record.modules}
        task = self.task(name)
        return ExportedAdapter(name, task, record.head, head, factors, task.config().get("num_labels"))
