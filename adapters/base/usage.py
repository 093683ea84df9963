"""Track who uses a base: one thread at a time to change it, any number of pools to serve from it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ..errors import BaseModelError


class Usage:
    """The lock on a base's tensors, and the number of open pools that serve from them.

    A base and its views over the same tensors share one. No pool opens while a thread holds the lock, so a training
    that holds it and found no pool has the tensors to itself until it releases the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None  # identity of the thread that holds the lock
        self._counting = threading.Lock()  # of its own, so that a pool can close while an adapter is attached
        self._serving = 0

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
        return self._serving

    def acquire_serving(self, name: str) -> None:
        """Count a pool in, after any thread that holds the lock has released it. Raises as `held` does."""
        with self.locked(name), self._counting:
            self._serving += 1

    def release_serving(self) -> None:
        """Count a pool out."""
        with self._counting:
            self._serving -= 1
