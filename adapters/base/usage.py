"""Track who uses a base: one thread at a time to change it, any number of pools to serve from it."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from ..errors import BaseModelError


class Usage:
    """The lock on a base's tensors, and the open pools that serve from them.

    A base and its views over the same tensors share one. No pool opens while a thread holds the lock, so a training
    that holds it and found no pool has the tensors to itself until it releases the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None  # identity of the thread that holds the lock
        self._pools: weakref.WeakSet[Any] = weakref.WeakSet()  # so that a pool that nobody closed counts no longer

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock; other threads wait. Raises `BaseModelError` where this thread holds it already."""
        if self._holder == threading.get_ident():
            raise BaseModelError(f"base '{name}' is in use: an adapter is attached to it, or it is being trained on")
        with self._lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    @property
    def serving(self) -> int:
        """The number of open pools."""
        return len(self._pools)

    def acquire_serving(self, name: str, pool: object) -> None:
        """Add a pool, after any thread that holds the lock has released it. Raises as `locked` does."""
        with self.locked(name):
            self._pools.add(pool)

    def release_serving(self, pool: object) -> None:
        """Remove a pool; no effect where it was removed."""
        self._pools.discard(pool)
