"""The pool: one base in memory and many adapters on it, answering requests that each name their adapter."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from ..adapter.adapter import Adapter
from ..adapter.manifest import TENSORS
from ..base.base import Base
from ..data.rows import as_rows
from ..errors import AdapterkitError, PoolError, unknown
from ..io.untrusted import opened
from ..store.registry import Registry, check_name
from ..watch import Watch
from .loaded_adapter import Resident
from .requests import Asked, answers, check_generation, embeddings, outputs, texts_generated
from .routed_base import Served, device_of, dtype_of

Texts = Sequence[Any]
"""Texts, or rows as dicts of columns."""


@dataclass
class Stats:
    """What a pool has done: adapters found in memory and not, read and dropped, and rows by adapter."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    resident: int = 0
    bytes: int = 0
    max_bytes: int | None = None
    rows: dict[str, int] = field(default_factory=dict)


class Pool:
    """One base and many adapters on it.

    A request names its adapter, or one for each row; rows of different adapters, tasks and head shapes share a batch,
    and texts share the trunk below the lowest block that their adapters change. Adapters are read when they are first
    asked for, and the least recently used are dropped where `max_bytes` would be passed. Threads may share a pool. The
    base itself is never changed; it can't be trained on while a pool stands on it.
    """

    def __init__(
        self,
        base: Base | str,
        adapters: Mapping[str, Adapter | str | os.PathLike[str]] | Iterable[str | os.PathLike[str]] = (),
        *,
        registry: Registry | None = None,
        max_bytes: int | None = None,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        allow_base_mismatch: bool = False,
    ) -> None:
        """Open a pool on `base` with `adapters`: by name in memory or in a folder, or folders, named as they are.

        Those of `registry` are there by name, `name@version` too. `dtype` and `device` are by default the base's;
        another costs a copy of it. `batch_size` is the most rows of a pass. Raises an `AdapterkitError` where an
        adapter that is given in memory is another base's, unless that is allowed and shapes fit.
        """
        if batch_size < 1 or (max_bytes is not None and max_bytes < 1):
            raise PoolError(f"batch_size={batch_size} and max_bytes={max_bytes}, but both are at least 1")
        given = _named(adapters)
        where = None if device is None else device_of(device)
        precision = None if dtype is None else dtype_of(dtype)
        self.base = base if isinstance(base, Base) else Base.load(base)
        self.registry, self.max_bytes, self.batch_size = registry, max_bytes, batch_size
        self.allow_base_mismatch = allow_base_mismatch
        model = self.base.model
        self.base.acquire_serving()  # before its modules are copied, so that no training begins meanwhile
        self._holds = True
        try:
            self._served: Served | None = Served(self.base, where or model.device, precision or model.dtype)
        except BaseException:
            self.base.release_serving()
            raise
        if not self._served.shares:
            self._holds = False
            self.base.release_serving()
        self._lock, self._reading = threading.RLock(), threading.Lock()
        self._asking = 0
        self._sources: dict[str, Adapter | Path] = {}
        self._resident: OrderedDict[str, Resident] = OrderedDict()
        self._pinned: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._stats = Stats(max_bytes=max_bytes)
        self._rows: Counter[str] = Counter()
        try:
            for name, source in given.items():
                self._sources[name] = source
                if isinstance(source, Adapter):
                    self.load(name)
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_registry(
        cls, path: str | os.PathLike[str] | None = None, *, base: Base | str | None = None, **options: Any
    ) -> Pool:
        """Open a pool with all adapters of a registry.json, on the base that they name, or on `base`.

        Raises `PoolError` where they have several bases and none is given.
        """
        registry = Registry.at(path)
        if base is None:
            known = [entry["versions"][entry["current"]]["base"] for entry in registry.adapters().values()]
            names = {b["fingerprint"]: b["name"] for b in known}
            if len(names) != 1:
                there = ", ".join(sorted(names.values())) or "none"
                raise PoolError(f"{registry.path}: a pool has one base, and the adapters' are: {there}; give base=")
            base = registry.locate(next(iter(names.values())))
        return cls(base, registry=registry, **options)

    # ---- asking

    def predict(
        self, texts: Texts | str, adapter: str | Sequence[str] | None = None, *, watch: Watch | None = None
    ) -> Any:
        """Return an answer for each text from the adapter `adapter`, or from that of its row.

        A text alone gives its answer alone. Answers are those of `adapterkit.predict`; an adapter that generates says
        {"generated_text": ...}. Raises `PoolError` for an adapter that isn't there, and what the task raises for a text
        that doesn't hold what it needs.
        """
        rows, one = as_rows(texts)
        found = self._each(rows, self._names(adapter, len(rows)), answers, watch)
        return found[0] if one else found

    def outputs(self, texts: Texts, adapter: str | Sequence[str] | None = None) -> list[Any]:
        """Return for each text what its task's model says, such as logits, as numpy values; not for generating tasks.

        A text that is cut into several features, as a long context is, has a list of them.
        """
        rows = list(texts)
        return self._each(rows, self._names(adapter, len(rows)), outputs, None)

    def annotate(
        self, texts: Texts | str, adapters: Sequence[str] | None = None, *, watch: Watch | None = None
    ) -> dict[str, Any]:
        """Return the answers of each of `adapters` (by default all) to each text, by adapter; the trunk is run once."""
        rows, one = as_rows(texts)
        adapters = [adapters] if isinstance(adapters, str) else adapters
        names = list(dict.fromkeys(self.names() if adapters is None else adapters))
        found = self._each([r for r in rows for _ in names], names * len(rows), answers, watch)
        by_name = {name: found[i :: len(names)] for i, name in enumerate(names)}
        return {name: said[0] for name, said in by_name.items()} if one else by_name

    def generate(
        self,
        texts: Texts | str,
        adapter: str | Sequence[str] | None = None,
        *,
        watch: Watch | None = None,
        **options: Any,
    ) -> Any:
        """Return the text that each row's adapter generates; `options` are generate's, such as num_beams.

        Raises `PoolError` where an adapter's task doesn't generate.
        """
        rows, one = as_rows(texts)
        check_generation(options)
        found = self._each(rows, self._names(adapter, len(rows)), texts_generated, watch, options)
        return found[0] if one else found

    def embed(self, texts: Sequence[str] | str, *, layer: int | None = None, pooling: str = "mean") -> torch.Tensor:
        """Return what the base itself makes of texts, (texts, features): no adapter, pooled by mean, max or cls.

        `layer` counts blocks, 0 being the embeddings; by default the last, after the base's own last norm. Blocks above
        it aren't run. Raises `PoolError` where there is no such layer or pooling.
        """
        served = self._open()
        blocks = len(served.trace.blocks)
        if served.base.model.config.is_encoder_decoder:
            raise PoolError(f"base '{self.base.name}' is an encoder-decoder, which has no one hidden state of a text")
        if layer is not None and not (isinstance(layer, int) and 0 <= layer <= blocks):
            raise PoolError(f"layer={layer!r}, but the base has layers 0 to {blocks}")
        rows = [texts] if isinstance(texts, str) else list(texts)
        if not rows or not all(isinstance(row, str) for row in rows):
            raise PoolError(f"embed takes texts, at least one, not {type(rows[0]).__name__ if rows else 'none'}")
        wanted = blocks if layer is None else layer
        with self._answering():
            found = embeddings(served, rows, self.batch_size, wanted, pooling, self.base.max_length)
        return found[0] if isinstance(texts, str) else found

    def _names(self, adapter: str | Sequence[str] | None, count: int) -> list[str]:
        if adapter is None:
            names = self.names()
            if len(names) != 1:
                raise PoolError(f"which adapter? there are {', '.join(names) or 'none'}")
            adapter = names[0]
        if isinstance(adapter, str):
            return [adapter] * count
        listed = list(adapter)
        if len(listed) != count or not all(isinstance(name, str) for name in listed):
            raise PoolError(f"{len(listed)} adapters for {count} texts; a name for all, or one for each, was expected")
        return listed

    def _each(
        self, rows: list[Any], names: list[str], ask: Any, watch: Watch | None, options: Mapping[str, Any] | None = None
    ) -> list[Any]:
        by_name: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            by_name.setdefault(name, []).append(i)
        found: list[Any] = [None] * len(rows)
        with self._answering() as served, (watch or Watch()).bar("answering", len(rows)) as bar:
            for wave in self._waves(list(by_name)):
                asked = [
                    Asked(resident, [rows[i] for i in by_name[name]])
                    for name, resident in zip(wave, self._acquire(wave), strict=True)
                ]
                for name, said in zip(wave, self._said(served, asked, ask, options or {}), strict=True):
                    for i, value in zip(by_name[name], said, strict=True):
                        found[i] = value
                    bar.advance(len(said))
        with self._lock:
            self._rows.update({name: len(indices) for name, indices in by_name.items()})
        return found

    def _said(self, served: Served, asked: list[Asked], ask: Any, options: Mapping[str, Any]) -> list[Any]:
        """Return what is said to each request; those of adapters that add tokens run apart, on modules of their own."""
        found: list[Any] = [None] * len(asked)
        for own in dict.fromkeys([served, *(one.resident.served for one in asked)]):
            mine = [i for i, one in enumerate(asked) if one.resident.served is own]
            said = ask(own, [asked[i] for i in mine], self.batch_size, options) if mine else []
            for i, value in zip(mine, said, strict=True):
                found[i] = value
        return found

    def _waves(self, names: list[str]) -> Iterator[list[str]]:
        """Yield the names in groups whose adapters fit into `max_bytes` together."""
        if self.max_bytes is None:
            yield names
            return
        with self._lock:
            there = [name for name in names if self._key(name)[0] in self._resident]
        names = [*there, *(name for name in names if name not in set(there))]
        wave: list[str] = []
        room, used = self.max_bytes, 0
        with self._lock:
            room -= sum(r.nbytes for key, r in self._resident.items() if self._stays(key))
        for name in names:
            size = self._size(name)
            if wave and used + size > room:
                yield wave
                wave, used = [], 0
            wave.append(name)
            used += size
        if wave:
            yield wave

    # ---- adapters

    def names(self) -> list[str]:
        """Return the names of the adapters that can be asked for."""
        known = {} if self.registry is None else self.registry.adapters()
        return sorted({*self._sources, *known})

    def load(self, name: str) -> None:
        """Read an adapter now rather than when it is first asked for."""
        self._acquire([name])

    def unload(self, name: str) -> None:
        """Drop an adapter from memory; the next request reads it again. What is being answered is not disturbed."""
        with self._lock:
            for key in self._keys(name):
                self._pinned.discard(key)
                self._resident.pop(key, None)

    def pin(self, name: str, pinned: bool = True) -> None:
        """Read an adapter and keep it in memory whatever else is asked for; or, with pinned=False, no longer."""
        if not pinned:
            with self._lock:
                self._pinned.difference_update(self._keys(name))
            return
        resident = self._acquire([name])[0]
        key, _ = self._key(name)
        with self._lock:
            self._pinned.add(key)
            self._resident[key] = resident

    def stats(self) -> Stats:
        """Return the pool's counts up to now."""
        with self._lock:
            found = copy.copy(self._stats)
            found.resident = len(self._resident)
            found.bytes = sum(r.nbytes for r in self._resident.values())
            found.rows = dict(self._rows)
        return found

    def _keys(self, name: str) -> list[str]:
        """Return the keys of an adapter in memory: of that version, or of all where none is named."""
        key, _ = self._key(name)
        return [k for k in self._resident if k == key or ("@" not in name and k.startswith(f"{name}@"))]

    def _key(self, name: str) -> tuple[str, Adapter | Path]:
        """Return what stands for an adapter's content, and where that is."""
        if name in self._sources:
            return name, self._sources[name]
        if self.registry is None:
            raise PoolError(unknown("adapter", name, self._sources, known_as="in the pool"))
        named, version = self.registry.resolve(name)
        return f"{named}@{version}", self.registry.folder(named, version)

    def _size(self, name: str) -> int:
        """Return the bytes that an adapter's tensors take in the pool, as its file's first bytes say."""
        key, source = self._key(name)
        if isinstance(source, Adapter):
            return 0
        if key not in self._sizes:
            if name not in self._sources and self.registry is not None:
                self.registry.fetched(*key.split("@"))  # it may have to be fetched
            own: int = self.base.model.dtype.itemsize
            try:
                with opened(source / TENSORS) as file:
                    header = int.from_bytes(file.read(8), "little") + 8
                    self._sizes[key] = (os.fstat(file.fileno()).st_size - header) * self._open().dtype.itemsize // own
            except OSError:
                return 0  # reading it says what is wrong
        return self._sizes[key]

    def _acquire(self, names: Sequence[str]) -> list[Resident]:
        """Return adapters, read where they aren't in memory, and drop others where there are too many."""
        self._open()
        keys = [self._key(name) for name in names]
        found = []
        for (key, source), name in zip(keys, names, strict=True):
            with self._lock:
                resident = self._resident.get(key)
                if resident is not None:
                    self._resident.move_to_end(key)
                    self._stats.hits += 1
            if resident is None:
                resident = self._read(key, source, name, {key for key, _ in keys})
            found.append(resident)
        return found

    def _read(self, key: str, source: Adapter | Path, name: str, wanted: set[str]) -> Resident:
        """Read an adapter, others dropped before where it would be too many; those that are `wanted` stay."""
        with self._reading:
            with self._lock:
                if key in self._resident:  # another thread was quicker
                    self._stats.hits += 1
                    return self._resident[key]
            if not isinstance(source, Adapter):
                size = self._size(name)
                with self._lock:
                    self._drop(wanted, size)
            try:
                version = None if name in self._sources else key.partition("@")[2]
                adapter = source if isinstance(source, Adapter) else Adapter.load(source, version=version)
                adapter = adapter.moved_to(self.base) if self.allow_base_mismatch else adapter
                resident = Resident(name, adapter, self._open())
            except AdapterkitError as error:
                raise type(error)(f"adapter '{name}': {error}") from error
            with self._lock:
                fixed = [r.nbytes for k, r in self._resident.items() if self._stays(k)]
                if self.max_bytes is not None and resident.nbytes + sum(fixed) > self.max_bytes:
                    beside = f" beside {sum(fixed):,} that stay" if fixed else ""
                    raise PoolError(
                        f"adapter '{name}' has {resident.nbytes:,} bytes; the pool holds {self.max_bytes:,}{beside}"
                    )
                self._stats.misses += 1
                self._resident[key] = resident
        return resident

    def _stays(self, key: str) -> bool:
        """Tell whether an adapter is pinned, or was given in memory and can't be read again."""
        return key in self._pinned or isinstance(self._sources.get(key), Adapter)

    def _drop(self, wanted: set[str], coming: int) -> None:
        """Drop the least recently used adapters until `coming` bytes have room."""
        if self.max_bytes is None:
            return
        total = sum(r.nbytes for r in self._resident.values()) + coming
        for key in [k for k in self._resident if not self._stays(k) and k not in wanted]:
            if total <= self.max_bytes:
                return
            total -= self._resident.pop(key).nbytes
            self._stats.evictions += 1

    # ---- its end

    def _open(self) -> Served:
        if self._served is None:
            raise PoolError("the pool is closed")
        return self._served

    @contextlib.contextmanager
    def _answering(self) -> Iterator[Served]:
        """Have the base in use; it is let go of when the last answer is given, even if the pool is closed before."""
        with self._lock:
            served = self._open()
            self._asking += 1
        try:
            yield served
        finally:
            with self._lock:
                self._asking -= 1
                self._let_go()

    def close(self) -> None:
        """Let go of all adapters, and of the base as soon as what is being answered is."""
        with self._lock:
            self._served = None
            self._resident.clear()
            self._let_go()

    def _let_go(self) -> None:
        if self._served is None and not self._asking and self._holds:
            self._holds = False
            self.base.release_serving()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _named(adapters: Any) -> dict[str, Adapter | Path]:
    """Return adapters by name: a mapping as it is, folders by their own names.

    Raises `PoolError` where something is neither an adapter nor a folder, or two have one name, `RegistryError` for
    what is no name.
    """
    if isinstance(adapters, str | os.PathLike):
        adapters = [adapters]
    if isinstance(adapters, Adapter) or not isinstance(adapters, Iterable):
        raise PoolError(f"adapters are given by name, or as folders, not as {type(adapters).__name__}")
    pairs = list(adapters.items()) if isinstance(adapters, Mapping) else [(None, a) for a in adapters]
    named: dict[str, Adapter | Path] = {}
    for name, source in pairs:
        if not isinstance(source, str | os.PathLike) and not (isinstance(source, Adapter) and name is not None):
            raise PoolError(f"'{name}': an adapter or its folder was expected, not {type(source).__name__}")
        own = check_name(Path(source).name if name is None else str(name))  # type: ignore[arg-type]
        if own in named:
            raise PoolError(f"two adapters are named '{own}'; give them by name: {{'{own}': folder, ...}}")
        named[own] = source if isinstance(source, Adapter) else Path(source)
    return named
