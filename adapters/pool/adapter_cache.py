"""The adapters of a pool: where each comes from, and which are loaded, within a limit of bytes."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..adapter.adapter import Adapter
from ..adapter.manifest import TENSORS
from ..display import size
from ..errors import AdapterkitError, PoolError, PoolMemoryError, unknown
from ..io.untrusted import opened
from ..store.registry import Registry
from .loaded_adapter import LoadedAdapter
from .routed_base import RoutedBase
from .sources import Source


@dataclass(eq=False)
class _Loading:
    """An adapter that a thread is loading; others that need it wait for the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    nbytes: int = 0
    threads: int = 0  # that load it or wait for it


@dataclass(repr=False)
class Stats:
    """The counts of a pool: cache hits, misses and evictions, loaded adapters and their bytes, and rows by adapter."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    loaded: int = 0
    bytes: int = 0
    max_bytes: int | None = None
    rows: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        limit = "" if self.max_bytes is None else f" of {size(self.max_bytes)}"
        counts = f"{self.hits} hits, {self.misses} misses, {self.evictions} evictions"
        loaded = f"{self.loaded} loaded, {size(self.bytes)}{limit}"
        return f"<Stats {counts}; {loaded}; {sum(self.rows.values())} rows of {len(self.rows)} adapters>"


class AdapterCache:
    """Adapters by name, loaded on first use; the least recently used are evicted where `max_bytes` is exceeded.

    Threads may share a cache. Adapters of a registry are cached by version, so that a new version is used at once.
    """

    def __init__(
        self,
        base: RoutedBase,
        sources: Mapping[str, Source],
        registry: Registry | None,
        max_bytes: int | None,
        allow_base_mismatch: bool,
    ) -> None:
        self.base, self.sources, self.registry = base, dict(sources), registry
        self.max_bytes, self.allow_base_mismatch = max_bytes, allow_base_mismatch
        self.loaded: OrderedDict[str, LoadedAdapter] = OrderedDict()
        """Loaded adapters by key, the most recently used last."""
        self._lock = threading.RLock()
        self._loading: dict[str, _Loading] = {}  # adapters that threads are loading, by key
        self._pinned: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._stats = Stats(max_bytes=max_bytes)
        self._rows: Counter[str] = Counter()

    def names(self) -> list[str]:
        """Return the names of all adapters, loaded or not, sorted."""
        registered = () if self.registry is None else self.registry.index()
        return sorted({*self.sources, *registered})

    def get(self, names: Sequence[str]) -> list[LoadedAdapter]:
        """Return adapters, loading those that aren't loaded.

        Raises `PoolError` for an unknown name, or where they exceed `max_bytes`, and what loading raises, with the
        adapter's name.
        """
        adapters = [self._loaded(name) for name in names]
        if None not in adapters:
            return adapters  # type: ignore[return-value]
        keys = [self._key(name) for name in names]
        requested = {key for key, _ in keys}
        return [
            adapter or self._load(key, source, name, requested)
            for adapter, (key, source), name in zip(adapters, keys, names, strict=True)
        ]

    def _loaded(self, name: str) -> LoadedAdapter | None:
        """Return an adapter that is in memory, as the most recently used one; None for any other.

        A version by its full name is its key, so the registry isn't read for it.
        """
        adapter = self.loaded.get(name)
        key = name if adapter is not None and (adapter.version or name in self.sources) else self._key(name)[0]
        with self._lock:
            adapter = self.loaded.get(key)
            if adapter is not None:
                self.loaded.move_to_end(key)
                self._stats.hits += 1
        return adapter

    def groups(self, names: list[str]) -> Iterator[list[str]]:
        """Yield the names in groups that fit into `max_bytes` together, loaded ones first."""
        if self.max_bytes is None:
            yield names
            return
        with self._lock:
            loaded = [name for name in names if self._key(name)[0] in self.loaded]
            room = self.max_bytes - sum(a.nbytes for key, a in self.loaded.items() if self._is_fixed(key))
        group: list[str] = []
        used = 0
        for name in dict.fromkeys([*loaded, *names]):
            nbytes = self._size(name)
            if group and used + nbytes > room:
                yield group
                group, used = [], 0
            group.append(name)
            used += nbytes
        if group:
            yield group

    def unload(self, name: str) -> None:
        """Unload an adapter; requests in progress keep it until they are answered."""
        with self._lock:
            for key in self._keys(name):
                self._pinned.discard(key)
                self.loaded.pop(key, None)

    def pin(self, name: str) -> None:
        """Load an adapter and never evict it."""
        adapter = self.get([name])[0]
        key, _ = self._key(name)
        with self._lock:
            self._pinned.add(key)
            self.loaded[key] = adapter

    def unpin(self, name: str) -> None:
        """Allow an adapter to be evicted again."""
        with self._lock:
            self._pinned.difference_update(self._keys(name))

    def count_rows(self, rows: Mapping[str, int]) -> None:
        """Add answered rows by adapter to the statistics."""
        with self._lock:
            self._rows.update(rows)

    def stats(self) -> Stats:
        """Return the counts up to now."""
        with self._lock:
            stats = copy.copy(self._stats)
            stats.loaded = len(self.loaded)
            stats.bytes = sum(a.nbytes for a in self.loaded.values())
            stats.rows = dict(self._rows)
        return stats

    def clear(self) -> None:
        """Unload all adapters."""
        with self._lock:
            self.loaded.clear()

    def _keys(self, name: str) -> list[str]:
        """Return the keys of an adapter's loaded versions: of the named one, or of all."""
        key, _ = self._key(name)
        return [k for k in self.loaded if k == key or ("@" not in name and k.startswith(f"{name}@"))]

    def _key(self, name: str) -> tuple[str, Source]:
        """Return the key of an adapter's content, and its source."""
        if name in self.sources:
            return name, self.sources[name]
        if self.registry is None:
            raise PoolError(unknown("adapter", name, self.sources, known_as="in the pool"))
        resolved, version = self.registry.resolve(name)
        return f"{resolved}@{version}", self.registry.folder(resolved, version)

    def _size(self, name: str) -> int:
        """Return the bytes of an adapter's tensors in the pool's dtype, from its file's header."""
        key, source = self._key(name)
        if isinstance(source, Adapter):
            return 0
        if key not in self._sizes:
            if name not in self.sources and self.registry is not None:
                self.registry.fetched(*key.split("@"))  # fetches it from the Hub where it isn't in the store
            stored: int = self.base.original.model.dtype.itemsize
            try:
                with opened(source / TENSORS) as file:
                    header = int.from_bytes(file.read(8), "little") + 8
                    nbytes = os.fstat(file.fileno()).st_size - header
            except OSError:
                return 0  # loading it reports the error
            self._sizes[key] = nbytes * self.base.dtype.itemsize // stored
        return self._sizes[key]

    def _load(self, key: str, source: Source, name: str, requested: set[str]) -> LoadedAdapter:
        """Load an adapter, after evicting others where it needs room, but none that is `requested`."""
        with self._loading_alone(key) as loading:
            with self._lock:
                if key in self.loaded:  # another thread has loaded it meanwhile
                    self._stats.hits += 1
                    return self.loaded[key]
            if not isinstance(source, Adapter):
                incoming = self._size(name)
                with self._lock:
                    loading.nbytes = incoming
                    self._evict(requested, sum(other.nbytes for other in self._loading.values()))
            try:
                version = "" if name in self.sources else key.partition("@")[2]
                adapter = source if isinstance(source, Adapter) else Adapter.load(source, version=version or None)
                adapter = adapter.moved_to(self.base.base) if self.allow_base_mismatch else adapter
                loaded = LoadedAdapter(name, adapter, self.base, version)
            except AdapterkitError as error:
                raise type(error)(f"adapter '{name}': {error}") from error
            with self._lock:
                self._check_room(name, loaded)
                self._stats.misses += 1
                self.loaded[key] = loaded
                loading.nbytes = 0
                if self.max_bytes is not None:
                    self.base.folding.limit(self.max_bytes - sum(a.nbytes for a in self.loaded.values()))
        return loaded

    @contextlib.contextmanager
    def _loading_alone(self, key: str) -> Iterator[_Loading]:
        """Let one thread at a time load an adapter; different adapters are loaded at the same time."""
        with self._lock:
            loading = self._loading.setdefault(key, _Loading())
            loading.threads += 1
        try:
            with loading.lock:
                yield loading
        finally:
            with self._lock:
                loading.threads -= 1
                if not loading.threads:
                    self._loading.pop(key, None)

    def is_loaded(self, name: str) -> bool:
        """Return whether an adapter is in memory."""
        return name in self.loaded or self._key(name)[0] in self.loaded

    def _check_room(self, name: str, adapter: LoadedAdapter) -> None:
        fixed = sum(a.nbytes for key, a in self.loaded.items() if self._is_fixed(key))
        if self.max_bytes is not None and adapter.nbytes + fixed > self.max_bytes:
            beside = f" and {fixed:,} bytes of the pool are pinned or in memory" if fixed else ""
            raise PoolMemoryError(
                f"adapter '{name}' has {adapter.nbytes:,} bytes, but max_bytes={self.max_bytes:,}{beside}"
            )

    def _is_fixed(self, key: str) -> bool:
        """Return whether an adapter is never evicted: pinned, or without a folder to load it from again."""
        return key in self._pinned or isinstance(self.sources.get(key), Adapter)

    def _evict(self, requested: set[str], incoming: int) -> None:
        """Evict the least recently used adapters until `incoming` bytes fit."""
        if self.max_bytes is None:
            return
        total = sum(a.nbytes for a in self.loaded.values()) + incoming
        for key in [k for k in self.loaded if not self._is_fixed(k) and k not in requested]:
            if total <= self.max_bytes:
                return
            total -= self.loaded.pop(key).nbytes
            self._stats.evictions += 1
