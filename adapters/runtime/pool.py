"""The pool of an export: many adapters on one base, run by onnxruntime."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.tokens import Text
from ..errors import AdapterError, AdapterkitError, PoolError, unknown
from ..tasks import Task
from .adapters import AdapterCache, ExportedAdapter
from .examples import Example, batches, changing, examples_of
from .folder import ExportFolder
from .generation import greedy
from .manifest import BASE_GRAPH
from .prepared import Prepared, most_new_tokens
from .requests import Names, by_text, outputs_by_row
from .session import Session, import_onnxruntime
from .stacks import Stacks
from .tokenized_rows import RowTokenizer, warn_of_cut, with_options

_Reader = Callable[[Prepared, list[Any]], list[Any]]
_Stopped = Callable[[], bool]


class Stats(NamedTuple):
    """The adapters in memory."""

    loaded: int
    bytes: int


class OnnxPool:
    """An export of `adapt export --format onnx`, which answers as a `Pool` does, without torch.

    >>> [answer] = OnnxPool("exported").predict(["I'd stay here again."], adapter="reviews")
    >>> sorted(answer)
    ['label', 'score']

    Rows of different adapters, tasks and ranks share a batch. Adapters are loaded on first use, and the least recently
    used are evicted where `max_bytes` would be exceeded; the updates of the last batches are held once more, in at most
    64 MiB, and at most `max_bytes`. Threads may share a pool.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        max_bytes: int | None = None,
        batch_size: int = 64,
        threads: int | None = None,
        prepack: bool = True,
        fingerprint: str | None = None,
    ) -> None:
        """Open an export; `threads` are those of one operator, by default one for each core.

        Without `prepack`, it is open sooner, and answers take longer: for a process that answers a few texts.

        Raises `AdapterError` where it is damaged, or its base has another `fingerprint`.
        """
        for option, value in (("batch_size", batch_size), ("max_bytes", max_bytes), ("threads", threads)):
            if value is not None and (type(value) is not int or value < 1):
                raise PoolError(f"{option} must be an integer >= 1, got {value!r}")
        self.folder, self.batch_size, self.threads = ExportFolder(folder), batch_size, threads
        self.manifest = self.folder.manifest
        if fingerprint is not None and fingerprint != self.manifest.base.fingerprint:
            raise PoolError(
                f"{folder} is an export of base '{self.manifest.base.name}' ({self.manifest.base.fingerprint[:12]}), "
                f"expected a base of fingerprint {fingerprint[:12]}"
            )
        with ThreadPoolExecutor(1) as thread:  # hashes the base, which takes as long as the imports that it needs
            graph = thread.submit(self.folder.graph, BASE_GRAPH)
            import_onnxruntime()
            self.tokenizer = self.folder.tokenizer()
        self._cache = AdapterCache(self.folder, max_bytes)
        self._stacks = Stacks(self.manifest.modules, max_bytes)
        self._base = self.folder.session_of(BASE_GRAPH, graph.result(), threads=threads, prepack=prepack)
        self._heads: dict[str, Session] = {}
        self._cut_reported: set[str] = set()
        self._lock, self.tokenizing = threading.Lock(), threading.Lock()

    # ---- adapters

    def names(self) -> list[str]:
        """Return the names of the adapters, sorted."""
        return sorted(self.manifest.adapters)

    def task(self, name: str) -> Task:
        """Return an adapter's task, with its labels. Raises `PoolError` for an unknown one."""
        return self._cache.task(self.name_of(name))

    def name_of(self, reference: str) -> str:
        """Return the name of an adapter that is named by NAME or NAME@VERSION.

        Raises `PoolError` where the export lacks it, or has another version of it.
        """
        name, at, wanted = str(reference).partition("@")
        if name not in self.manifest.adapters or (at and not wanted):
            raise PoolError(unknown("adapter", str(reference), self.names(), known_as="the export has"))
        version = self.manifest.adapters[name].version
        if not version.startswith(wanted):
            raise PoolError(f"the export has version {version} of '{name}', expected {wanted}")
        return name

    def is_loaded(self, name: str) -> bool:
        """Return whether an adapter is in memory. Raises `PoolError` for an unknown name."""
        return self._cache.is_loaded(self.name_of(name))

    def loaded(self) -> list[str]:
        """Return the adapters in memory."""
        return self._cache.names()

    def load(self, name: str) -> None:
        """Load an adapter and the graph of its head now rather than on first use."""
        self._head(self._cache.get(self.name_of(name)).head)

    def unload(self, name: str) -> None:
        """Remove an adapter from memory until the next request for it. Requests in progress are unaffected."""
        self._cache.remove(self.name_of(name))
        self._stacks.clear()

    @property
    def nbytes(self) -> int:
        """The memory of the loaded adapters."""
        return self._cache.nbytes

    def stats(self) -> Stats:
        """Return the number of adapters in memory, and their bytes."""
        return Stats(len(self._cache.names()), self._cache.nbytes)

    def is_tokenizing(self) -> bool:
        """Return whether a thread tokenizes now, for which another would wait."""
        return self.tokenizing.locked()

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of texts."""
        with self.tokenizing:
            return sum(map(len, self.tokenizer(list(texts))["input_ids"]))

    def close(self) -> None:
        """Remove the adapters from memory; the base's graph goes with the pool."""
        self._cache.clear()
        self._stacks.clear()

    # ---- requests

    def predict(
        self,
        texts: Any,
        adapter: str | None = None,
        *,
        adapters: Sequence[str] | None = None,
        adapter_of_each: Sequence[str] | None = None,
        all_scores: bool = False,
    ) -> Any:
        """Return an answer for each text, as `Pool.predict` does; of a single text, its answer."""
        return self._each(
            texts, (adapter, adapters, adapter_of_each), self._candidates if all_scores else self._answers
        )

    def outputs(
        self,
        texts: Any,
        adapter: str | None = None,
        *,
        adapters: Sequence[str] | None = None,
        adapter_of_each: Sequence[str] | None = None,
    ) -> Any:
        """Return the model's outputs for each feature of each text's adapter, such as logits, as `Pool.outputs`."""
        if self.manifest.generation is not None:
            raise PoolError("the export's adapters generate texts; use predict")
        return self._each(texts, (adapter, adapters, adapter_of_each), _outputs_by_row)

    def _answers(self, request: Prepared, outputs: list[Any]) -> list[Any]:
        task = request.task
        if task.generates:
            return [{"generated_text": text} for text in outputs]
        predictions = task.predictions(outputs, request.features, request.columns)
        return task.answers(predictions, request.columns, self.tokenizer)

    def _candidates(self, request: Prepared, outputs: list[Any]) -> list[Any]:
        if request.task.generates:
            return [[answer] for answer in self._answers(request, outputs)]
        return request.task.candidates(outputs, request.features, request.columns, self.tokenizer)

    def _each(self, texts: Any, names: Names, reader: _Reader) -> Any:
        return by_text(texts, names, self.names, "the export", lambda pairs: self._answered(pairs, reader))

    def _answered(self, pairs: list[tuple[Any, str]], reader: _Reader) -> list[Any]:
        """Return the value of each pair of a row and an adapter's name, in their order."""
        by_name: dict[str, list[int]] = {}
        for i, (_, name) in enumerate(pairs):
            by_name.setdefault(self.name_of(name), []).append(i)
        tokenizer = RowTokenizer()
        requests = [
            self._prepared(name, [pairs[i][0] for i in rows], {}, tokenizer, report_cut=True)
            for name, rows in by_name.items()
        ]
        outputs = self._computed(requests)
        values: list[Any] = [None] * len(pairs)
        for request, of_request, rows in zip(requests, outputs, by_name.values(), strict=True):
            for i, value in zip(rows, reader(request, of_request), strict=True):
                values[i] = value
        return values

    def _prepared(
        self,
        name: str,
        rows: Sequence[Any],
        options: Mapping[str, Any],
        tokenizer: RowTokenizer,
        *,
        report_cut: bool = False,
    ) -> Prepared:
        adapter = self._cache.get(name)
        task = adapter.task if adapter.task.generates else with_options(adapter.task, options)
        most = most_new_tokens(task, options) if task.generates else 0
        columns, features = tokenizer.read(task, rows, self)
        if report_cut and name not in self._cut_reported and warn_of_cut(name, task, columns, features, self):
            self._cut_reported.add(name)
        return Prepared(adapter, task, columns, features, most)

    # ---- rows of several callers

    def prepare_each(
        self, pairs: Sequence[tuple[Any, str]], *, requested: bool = False, **options: Any
    ) -> list[Prepared | AdapterkitError]:
        """Return each pair of a row and an adapter's name ready for `answer`, or the error of the row.

        `options` are max_new_tokens for an adapter that generates, else options of the task that its outputs depend
        on, such as top_k of fill-mask. `requested` rows are anyone's: no file is opened for them.
        """
        tokenizer = RowTokenizer()
        prepared: list[Prepared | AdapterkitError] = []
        for row, reference in pairs:
            try:
                name = self.name_of(reference)
                checked = self._cache.task(name).requested(row) if requested else row
                prepared.append(self._prepared(name, [checked], options, tokenizer))
            except AdapterkitError as error:
                prepared.append(error)
        return prepared

    def answer(
        self,
        prepared: Sequence[Prepared],
        *,
        all_scores: bool | Sequence[bool] = False,
        stopped: _Stopped | None = None,
    ) -> list[Any]:
        """Return the answer to each prepared row, as `predict` does, in shared batches; `all_scores` may differ by row.

        Where a row fails, its error is in the place of its answer. Generated texts end once `stopped` returns true.
        """
        scored = [all_scores] * len(prepared) if isinstance(all_scores, bool) else all_scores
        return self._values(prepared, [self._candidates if s else self._answers for s in scored], stopped)

    def _values(self, prepared: Sequence[Prepared], readers: Sequence[_Reader], stopped: _Stopped | None) -> list[Any]:
        """Return the value of each prepared row, or its error; rows of a batch that fails run one by one."""
        rows = list(zip(prepared, readers, strict=True))
        try:
            outputs = self._computed(prepared, stopped)
            return [read(p, of_row)[0] for (p, read), of_row in zip(rows, outputs, strict=True)]
        except Exception as error:
            if len(rows) == 1:
                return [error]
            return [value for p, read in rows for value in self._values([p], [read], stopped)]

    # ---- passes

    def _computed(self, requests: Sequence[Prepared], stopped: _Stopped | None = None) -> list[list[Any]]:
        """Return the outputs of the features of each request, in batches that these share."""
        outputs: list[list[Any]] = [[None] * len(request.features) for request in requests]
        groups: dict[ExportedAdapter | None, list[Example]] = {}
        for example in examples_of(requests):
            apart = changing(example.adapter) if self.manifest.base.one_adapter_a_pass else None
            groups.setdefault(apart, []).append(example)
        for batch in (batch for group in groups.values() for batch in batches(group, self.batch_size)):
            values = self._batch_outputs(batch) if self.manifest.generation is None else self._generated(batch, stopped)
            for example, value in values:
                for n, i in example.places:
                    outputs[n][i] = value
        return outputs

    def _batch_outputs(self, batch: list[Example]) -> Iterator[tuple[Example, Any]]:
        """Yield the output of each example: the base runs once for each text and update, then each adapter's head."""
        place: dict[tuple[Text, ExportedAdapter | None], int] = {}
        for example in batch:
            for text in example.texts:
                place.setdefault((text, changing(example.adapter)), len(place))
        inputs = self._padded([text for text, _ in place])
        feeds = self._updates([adapter for _, adapter in place])
        values = {**inputs, **self._base.run({**inputs, **feeds})}
        groups: dict[Any, list[Example]] = {}
        for example in batch:
            key = (example.adapter, example.prepared.task.outputs_key, len(example.texts), example.choosing)
            groups.setdefault(key, []).append(example)
        for (adapter, _, choices, choosing), group in groups.items():
            rows = [place[text, changing(adapter)] for example in group for text in example.texts]
            head = self._head(adapter.head)
            selected = {name: values[name][rows] for name in head.inputs if name in values}
            results = head.run({**selected, **adapter.head_tensors})
            self._check_labels(adapter, results)
            if choosing:  # in the graph, each choice or text of a row is a row
                shape = (len(group), choices)
                results = {name: value.reshape(*shape, *value.shape[2:]) for name, value in results.items()}
            yield from zip(group, group[0].prepared.task.outputs_of(results), strict=True)

    def _generated(self, batch: list[Example], stopped: _Stopped | None) -> Iterator[tuple[Example, str]]:
        """Yield the text that follows each example's."""
        assert self.manifest.generation is not None
        feeds = self._updates([changing(example.adapter) for example in batch])
        prompts = [example.texts[0][0] for example in batch]
        limits = [example.prepared.most_new_tokens for example in batch]

        def ended(row: int) -> bool:
            return batch[row].prepared.stopped() or (stopped is not None and stopped())

        generated = greedy(self._base, self.manifest.generation, prompts, limits, feeds, ended)
        for example, ids in zip(batch, generated, strict=True):
            yield example, self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _updates(self, adapters: Sequence[ExportedAdapter | None]) -> dict[str, np.ndarray]:
        """Return the low-rank updates of rows as inputs of the graph."""
        stack = self._stacks.of(adapters)
        return {**stack.feeds, "adapter_of_row": np.array([stack.slots[adapter] for adapter in adapters], np.int64)}

    def _check_labels(self, adapter: ExportedAdapter, results: Mapping[str, np.ndarray]) -> None:
        """Raise `AdapterError` where the manifest has more or fewer labels than the head has outputs."""
        outputs = results["logits"].shape[-1] if "logits" in results else None
        if adapter.labels is not None and outputs not in (None, adapter.labels):
            path = self.folder.path
            raise AdapterError(f"{path}: adapter '{adapter.name}' has {adapter.labels} labels, and its head {outputs}")

    def _head(self, name: str) -> Session:
        with self._lock:
            if name not in self._heads:
                self._heads[name] = self.folder.session(name, threads=self.threads)
            return self._heads[name]

    def _padded(self, texts: Sequence[Text]) -> dict[str, np.ndarray]:
        """Return token ids, mask and token type ids, (texts, longest) each."""
        longest = max(1, *(len(ids) for ids, _ in texts))
        ids = np.full((len(texts), longest), self.tokenizer.pad_token_id or 0, np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for i, (text, kinds) in enumerate(texts):
            ids[i, : len(text)], mask[i, : len(text)], types[i, : len(kinds)] = text, 1, kinds
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def _outputs_by_row(request: Prepared, outputs: list[Any]) -> list[Any]:
    return outputs_by_row(request.adapter.task, request.features, len(request.columns), outputs)
