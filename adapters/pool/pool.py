"""The pool: one base in memory and many adapters on it, for requests that name their adapters."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..data.rows import as_rows
from ..display import size
from ..errors import AdapterkitError, PoolError
from ..runtime.requests import Names, by_text, distinct
from ..store.registry import Registry
from ..tasks import Task
from ..watch import Watch
from .adapter_cache import AdapterCache, Stats
from .loaded_adapter import LoadedAdapter
from .prepared import Prepared, Preparer, raised_or_value, until
from .requests import (
    Reader,
    answers,
    candidates,
    check_generates,
    check_generation,
    computed,
    embeddings,
    outputs_by_row,
)
from .routed_base import RoutedBase, device_of, dtype_of, kernels_of
from .sources import base_and_registry, named_sources


class Pool:
    """One base and many adapters on it.

    >>> pool = ak.Pool("registry.json")
    >>> pool.predict(["lovely food"], adapter="reviews")
    [{'label': 'positive', 'score': 0.9...}]

    Rows of different adapters, tasks and head shapes share a batch, and texts share the computation below the lowest
    block that their adapters change. `predict`, `outputs` and `generate` take a text, a dict of columns, or a list,
    data frame or data set of them; a single text or dict has a single result. They name adapters in one of three ways:
    `adapter` answers every row, `adapters` each answer every row, and the results are dicts by adapter, and
    `adapter_of_each` has one name for each row. Without any, the pool's only adapter answers.

    Adapters are loaded on first use, and the least recently used are evicted where `max_bytes` would be exceeded.
    Threads may share a pool. The base doesn't change, and can't be trained while a pool serves from it. Methods raise
    `PoolError` for an unknown adapter or a closed pool, `AdapterError` for an adapter that doesn't fit the base, and
    `DataError` for a row without the columns that the adapter's task reads.
    """

    def __init__(
        self,
        source: Base | Registry | str | os.PathLike[str] | None = None,
        adapters: Mapping[str, Adapter | str | os.PathLike[str]] | Iterable[str | os.PathLike[str]] = (),
        *,
        base: Base | str | os.PathLike[str] | None = None,
        registry: Registry | None = None,
        max_bytes: int | None = None,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        allow_base_mismatch: bool = False,
    ) -> None:
        """Open a pool on a registry.json, or on a base with `adapters`.

        `source` is a `Registry`, the path of a registry.json, a `Base`, or what `Base.load` takes. A registry's pool
        has all its adapters, by `name`, `name@tag` and `name@version`, on the base that they were trained on, or on
        `base`. `adapters` are further ones: in memory or in folders by name, or folders, named as they are. `dtype`
        and `device` are the base's by default; any other needs a copy of the base, or, for a float32 base on CPUs
        without bfloat16, "float16-weights" and "int8", other forms of its linear maps' weights beside it. `batch_size`
        is the maximum number of rows in a pass. Raises `PoolError` where the base isn't determined, or an option is
        invalid.
        """
        for option, value in (("batch_size", batch_size), ("max_bytes", 1 if max_bytes is None else max_bytes)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise PoolError(f"{option} must be an integer >= 1, got {value!r}")
        sources = named_sources(adapters)
        to_device = None if device is None else device_of(device)
        to_dtype = None if dtype is None else dtype_of(dtype)
        kind, to_dtype = (to_dtype, None) if isinstance(to_dtype, str) else (None, to_dtype)
        self.base, self.registry = base_and_registry(source, base, registry)
        self.batch_size = batch_size
        model = self.base.model
        to = (to_device or model.device, to_dtype or model.dtype)
        self._routed = RoutedBase(self.base, *to, None if kind is None else kernels_of(kind, *to))
        self._cache = AdapterCache(self._routed, sources, self.registry, max_bytes, allow_base_mismatch)
        self._lock = threading.Lock()
        self._closed, self._requests = False, 0
        try:
            self._cache.get([name for name, adapter in sources.items() if isinstance(adapter, Adapter)])
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_registry(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        base: Base | str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Pool:
        """Open a pool on the registry at `path`, by default $ADAPT_REGISTRY or ./registry.json."""
        return cls(Registry.at(path), base=base, **options)

    # ---- requests

    def predict(
        self,
        texts: Any,
        adapter: str | None = None,
        *,
        adapters: Sequence[str] | None = None,
        adapter_of_each: Sequence[str] | None = None,
        all_scores: bool = False,
        watch: Watch | None = None,
    ) -> Any:
        """Return an answer for each text, as `adapterkit.predict` does, such as {"label": "positive", "score": 0.98}.

        An adapter that generates returns {"generated_text": ...}. With `all_scores`, each text has a list of its
        possible answers, the best first, with the keys of transformers' pipelines: label and score of every label,
        entity_group, word, start, end and score of entities, answer, start, end and score of spans, token, token_str,
        sequence and score of masked words.
        """
        reader = candidates if all_scores else answers
        return self._each(texts, (adapter, adapters, adapter_of_each), reader, watch)

    def outputs(
        self,
        texts: Any,
        adapter: str | None = None,
        *,
        adapters: Sequence[str] | None = None,
        adapter_of_each: Sequence[str] | None = None,
    ) -> Any:
        """Return the model's outputs for each text, such as logits, (labels,), as numpy values.

        A text that is cut into several features, such as a long context, has a list of them. Raises `PoolError` for an
        adapter that generates.
        """
        return self._each(texts, (adapter, adapters, adapter_of_each), outputs_by_row, None, generates=False)

    def generate(
        self,
        texts: Any,
        adapter: str | None = None,
        *,
        adapters: Sequence[str] | None = None,
        adapter_of_each: Sequence[str] | None = None,
        watch: Watch | None = None,
        **options: Any,
    ) -> Any:
        """Return the generated text for each text; `options` are those of transformers' generate, such as num_beams.

        Raises `PoolError` for an adapter whose task doesn't generate, and for an invalid option.
        """
        check_generation(options)
        names = (adapter, adapters, adapter_of_each)
        return self._each(texts, names, lambda _, outputs: outputs, watch, options, generates=True)

    def annotate(
        self, texts: Any, adapters: Sequence[str] | None = None, *, watch: Watch | None = None
    ) -> dict[str, Any]:
        """Return the answers of each of `adapters`, by default all, to each text: a list by adapter."""
        names = distinct(self.names() if adapters is None else adapters)
        if not names:
            return {}
        results = self.predict(texts, adapters=names, watch=watch)
        return results if isinstance(results, dict) else {name: [r[name] for r in results] for name in names}

    def embed(self, texts: Sequence[str] | str, *, layer: int | None = None, pooling: str = "mean") -> torch.Tensor:
        """Return the base's hidden states of a layer without any adapter, pooled by mean, max or cls.

        The result is (texts, features), or (features,) for a single text. Layer 0 is the embeddings, layer k the output
        of block k; by default the last, after the base's last norm. Blocks above the layer don't run. Raises
        `PoolError` for an unknown layer or pooling, and for an encoder-decoder.
        """
        rows, single = as_rows(texts)
        with self._in_use() as base:
            vectors = embeddings(base, rows, self.batch_size, layer, pooling)
        return vectors[0] if single else vectors

    def _each(
        self,
        texts: Any,
        names: Names,
        reader: Reader,
        watch: Watch | None,
        options: Mapping[str, Any] | None = None,
        generates: bool | None = None,
    ) -> Any:
        """Return what `reader` returns for each text, and dicts of answers where each text has several adapters."""
        return by_text(
            texts,
            names,
            self.names,
            "the pool",
            lambda pairs: self._answered(pairs, reader, watch or Watch(), options or {}, generates),
        )

    def _answered(
        self,
        pairs: list[tuple[Any, str]],
        reader: Reader,
        watch: Watch,
        options: Mapping[str, Any],
        generates: bool | None,
    ) -> list[Any]:
        """Return the value of each pair of a row and an adapter's name, in their order."""
        by_name: dict[str, list[int]] = {}
        for i, (_, name) in enumerate(pairs):
            by_name.setdefault(name, []).append(i)
        values: list[Any] = [None] * len(pairs)
        with self._in_use(), watch.bar("answering", len(pairs)) as bar:
            for group in self._cache.groups(list(by_name)):
                adapters, preparer = self._cache.get(group), Preparer(report_cut=True)
                for adapter in adapters if generates is not None else ():
                    check_generates(adapter, bool(generates))
                prepared = [
                    preparer.prepare(adapter, [pairs[i][0] for i in by_name[name]], options)
                    for name, adapter in zip(group, adapters, strict=True)
                ]
                outputs = computed(prepared, self.batch_size)
                for name, p, of_rows in zip(group, prepared, outputs, strict=True):
                    for i, value in zip(by_name[name], reader(p, of_rows), strict=True):
                        values[i] = value
                    bar.advance(len(by_name[name]))
        self._cache.count_rows({name: len(indices) for name, indices in by_name.items()})
        return values

    # ---- rows of several callers

    def prepare(self, row: Any, adapter: str, **options: Any) -> Prepared:
        """Return a row, a text or a dict of columns, ready for `answer`: checked and tokenized, of one version.

        `options` are options of generate for an adapter that generates, else options of the task that its outputs
        depend on, such as top_k of fill-mask. Raises what `predict` raises.
        """
        return raised_or_value(self.prepare_each([(row, adapter)], **options)[0])

    def prepare_each(
        self, pairs: Sequence[tuple[Any, str]], *, requested: bool = False, **options: Any
    ) -> list[Prepared | AdapterkitError]:
        """Return each pair of a row and an adapter's name ready for `answer`, or the error that `prepare` raises.

        A text that several adapters read is tokenized once. `requested` rows are anyone's: no file is opened for them.
        """
        preparer = Preparer()
        adapters: dict[str, LoadedAdapter | AdapterkitError] = {}
        prepared: list[Prepared | AdapterkitError] = []
        with self._in_use():
            for row, name in pairs:
                try:
                    if name not in adapters:
                        adapters[name] = self._cache.get([name])[0]
                    adapter = raised_or_value(adapters[name])
                    if adapter.task.generates:
                        check_generation(options)
                    checked = adapter.task.requested(row) if requested else row
                    prepared.append(preparer.prepare(adapter, [checked], options))
                except AdapterkitError as error:
                    adapters.setdefault(name, error)
                    prepared.append(error)
        return prepared

    def answer(
        self,
        prepared: Sequence[Prepared],
        *,
        all_scores: bool | Sequence[bool] = False,
        stopped: Callable[[], bool] | None = None,
    ) -> list[Any]:
        """Return the answer to each prepared row, as `predict` does, in shared batches; `all_scores` may differ by row.

        Where a row fails, its error is in the place of its answer. Generated texts end once `stopped` returns true.
        """
        scored = [all_scores] * len(prepared) if isinstance(all_scores, bool) else all_scores
        if stopped is not None:
            prepared = until(prepared, stopped)
        with self._in_use():
            values = self._values(prepared, [candidates if scores else answers for scores in scored])
        self._cache.count_rows(Counter(p.adapter.name for p in prepared))
        return values

    def _values(self, prepared: Sequence[Prepared], readers: Sequence[Reader]) -> list[Any]:
        """Return the value of each prepared row, or its error; rows of a batch that fails run one by one."""
        rows = list(zip(prepared, readers, strict=True))
        try:
            outputs = computed(prepared, self.batch_size)
            return [read(p, of_row)[0] for (p, read), of_row in zip(rows, outputs, strict=True)]
        except Exception as error:
            return [error] if len(rows) == 1 else [value for p, read in rows for value in self._values([p], [read])]

    # ---- adapters

    def names(self) -> list[str]:
        """Return the names of the pool's adapters, loaded or not."""
        return self._cache.names()

    def is_loaded(self, name: str) -> bool:
        """Return whether an adapter is in memory. Raises `PoolError` or `RegistryError` for an unknown name."""
        return self._cache.is_loaded(name)

    def loaded(self) -> list[str]:
        """Return the adapters in memory, by name or as name@version."""
        return list(self._cache.loaded)

    def load(self, name: str) -> None:
        """Load an adapter now rather than on first use."""
        with self._in_use():
            self._cache.get([name])

    def task(self, name: str) -> Task:
        """Return the task of an adapter, which is loaded for it."""
        with self._in_use():
            return self._cache.get([name])[0].task

    def is_tokenizing(self) -> bool:
        """Return whether a thread tokenizes now, for which another would wait."""
        return self._routed.tokenizing.locked()

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of texts."""
        with self._routed.tokenizing:
            return sum(map(len, self._routed.tokenizer(list(texts), verbose=False)["input_ids"]))

    def unload(self, name: str) -> None:
        """Remove an adapter from memory until the next request for it. Requests in progress are unaffected."""
        self._cache.unload(name)

    def pin(self, name: str, pinned: bool = True) -> None:
        """Load an adapter and never evict it; with pinned=False, allow its eviction again."""
        if not pinned:
            self._cache.unpin(name)
            return
        with self._in_use():
            self._cache.pin(name)

    def stats(self) -> Stats:
        """Return the pool's counts up to now."""
        return self._cache.stats()

    # ---- closing

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[RoutedBase]:
        """Keep the base for a request, which is answered in full even if the pool is closed meanwhile."""
        with self._lock:
            if self._closed:
                raise PoolError("the pool is closed")
            self._requests += 1
        try:
            yield self._routed
        finally:
            with self._lock:
                self._requests -= 1
                self._release_if_idle()

    def close(self) -> None:
        """Close the pool; its memory and the base are released once requests in progress are answered."""
        with self._lock:
            self._closed = True
            self._release_if_idle()

    def _release_if_idle(self) -> None:
        if self._closed and not self._requests:
            self._cache.clear()
            self._routed.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self._closed else f"{stats.loaded} adapters loaded, {size(stats.bytes)}"
        return f"<Pool on {self.base.name}: {state}>"
