"""The pool of an export: many adapters on one base, run by onnxruntime."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base.tokens import Text, has_choices, texts_of
from ..errors import AdapterError, AdapterkitError, DataError, PoolError, unknown, warn
from ..features.lengths import count_cut, cut_note
from ..tasks import Task
from ..tasks.columns import Columns, columns_of
from ..tasks.feature_rows import features_of
from .adapters import AdapterCache, ExportedAdapter, stacked
from .folder import ExportFolder
from .generation import greedy
from .manifest import BASE_GRAPH
from .requests import Names, by_text, outputs_by_row
from .session import Session, import_onnxruntime

_MOST_TOKENS = 1 << 14  # of a pass, padding included


@dataclass(frozen=True, eq=False)
class _Request:
    """The rows of one adapter, tokenized."""

    adapter: ExportedAdapter
    columns: Columns
    features: Columns


@dataclass(frozen=True, eq=False)
class _Example:
    """One feature of a request, and the texts of it: one, or one for each choice."""

    request: int
    index: int
    adapter: ExportedAdapter
    texts: tuple[Text, ...]
    choosing: bool


_Reader = Callable[[_Request, list[Any]], list[Any]]


class OnnxPool:
    """An export of `adapt export --format onnx`, which answers as a `Pool` does, without torch.

    >>> [answer] = OnnxPool("exported").predict(["I'd stay here again."], adapter="reviews")
    >>> sorted(answer)
    ['label', 'score']

    Rows of different adapters, tasks and ranks share a batch. Adapters are loaded on first use, and the least recently
    used are evicted where `max_bytes` would be exceeded. Threads may share a pool.
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
        self._base = self.folder.session_of(BASE_GRAPH, graph.result(), threads=threads, prepack=prepack)
        self._heads: dict[str, Session] = {}
        self._cut_reported: set[str] = set()
        self._lock, self._tokenizing = threading.Lock(), threading.Lock()

    def names(self) -> list[str]:
        """Return the names of the adapters, sorted."""
        return sorted(self.manifest.adapters)

    def task(self, name: str) -> Task:
        """Return an adapter's task, with its labels. Raises `PoolError` for an unknown one."""
        return self._cache.task(self._checked(name))

    @property
    def nbytes(self) -> int:
        """The memory of the loaded adapters."""
        return self._cache.nbytes

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

    def _answers(self, request: _Request, outputs: list[Any]) -> list[Any]:
        task = request.adapter.task
        if task.generates:
            return [{"generated_text": text} for text in outputs]
        predictions = task.predictions(outputs, request.features, request.columns)
        return task.answers(predictions, request.columns, self.tokenizer)

    def _candidates(self, request: _Request, outputs: list[Any]) -> list[Any]:
        if request.adapter.task.generates:
            return [[answer] for answer in self._answers(request, outputs)]
        return request.adapter.task.candidates(outputs, request.features, request.columns, self.tokenizer)

    def _each(self, texts: Any, names: Names, reader: _Reader) -> Any:
        return by_text(texts, names, self.names, "the export", lambda pairs: self._answered(pairs, reader))

    def _checked(self, name: str) -> str:
        if name not in self.manifest.adapters:
            raise PoolError(unknown("adapter", str(name), self.names(), known_as="the export has"))
        return name

    def _answered(self, pairs: list[tuple[Any, str]], reader: _Reader) -> list[Any]:
        """Return the value of each pair of a row and an adapter's name, in their order."""
        by_name: dict[str, list[int]] = {}
        for i, (_, name) in enumerate(pairs):
            by_name.setdefault(self._checked(name), []).append(i)
        requests = [self._request(name, [pairs[i][0] for i in rows]) for name, rows in by_name.items()]
        outputs = self._computed(requests)
        values: list[Any] = [None] * len(pairs)
        for request, of_request, rows in zip(requests, outputs, by_name.values(), strict=True):
            for i, value in zip(rows, reader(request, of_request), strict=True):
                values[i] = value
        return values

    def _request(self, name: str, rows: Sequence[Any]) -> _Request:
        adapter = self._cache.get(name)
        columns = columns_of(adapter.task, rows)
        try:
            with self._tokenizing:
                features = Columns(adapter.task.prompts(columns.values, self.tokenizer))
                cut = 0
                if name not in self._cut_reported:
                    cut = count_cut(adapter.task, columns.values, self.tokenizer, features.values)
        except AdapterkitError:
            raise
        except Exception as error:  # tokenizers raise a bare Exception for rows that they can't truncate
            raise DataError(f"{adapter.task.name} can't read these rows: {type(error).__name__}: {error}") from error
        if cut:
            self._cut_reported.add(name)
            warn(f"adapter '{name}': {cut_note(adapter.task, cut, len(columns))}; later ones aren't reported")
        return _Request(adapter, columns, features)

    # ---- passes

    def _computed(self, requests: Sequence[_Request]) -> list[list[Any]]:
        """Return the outputs of the features of each request, in batches that these share."""
        outputs: list[list[Any]] = [[None] * len(request.features) for request in requests]
        examples = [
            _Example(n, i, request.adapter, texts_of(feature), has_choices(feature))
            for n, request in enumerate(requests)
            for i, feature in enumerate(features_of(request.features))
        ]
        groups: dict[ExportedAdapter | None, list[_Example]] = {}
        for example in examples:
            apart = _changing(example.adapter) if self.manifest.base.one_adapter_a_pass else None
            groups.setdefault(apart, []).append(example)
        compute = self._batch_outputs if self.manifest.generation is None else self._generated
        for batch in (batch for group in groups.values() for batch in _batches(group, self.batch_size)):
            for example, value in compute(batch):
                outputs[example.request][example.index] = value
        return outputs

    def _batch_outputs(self, batch: list[_Example]) -> Iterator[tuple[_Example, Any]]:
        """Yield the output of each example: the base runs once for each text and update, then each adapter's head."""
        place: dict[tuple[Text, ExportedAdapter | None], int] = {}
        for example in batch:
            for text in example.texts:
                place.setdefault((text, _changing(example.adapter)), len(place))
        inputs = self._padded([text for text, _ in place])
        updates = list(dict.fromkeys(adapter for _, adapter in place))
        feeds = stacked(updates, self.manifest.modules)
        feeds["adapter_of_row"] = np.array([updates.index(adapter) for _, adapter in place], np.int64)
        values = {**inputs, **self._base.run({**inputs, **feeds})}
        groups: dict[tuple[ExportedAdapter, int, bool], list[_Example]] = {}
        for example in batch:
            groups.setdefault((example.adapter, len(example.texts), example.choosing), []).append(example)
        for (adapter, choices, choosing), group in groups.items():
            rows = [place[text, _changing(adapter)] for example in group for text in example.texts]
            selected = {name: value[rows] for name, value in values.items()}
            results = self._head(adapter.head).run({**selected, **adapter.head_tensors})
            self._check_labels(adapter, results)
            if choosing:  # in the graph, each choice or text of a row is a row
                shape = (len(group), choices)
                results = {name: value.reshape(*shape, *value.shape[2:]) for name, value in results.items()}
            yield from zip(group, adapter.task.outputs_of(results), strict=True)

    def _generated(self, batch: list[_Example]) -> Iterator[tuple[_Example, str]]:
        """Yield the text that follows each example's."""
        assert self.manifest.generation is not None
        updates = list(dict.fromkeys(_changing(example.adapter) for example in batch))
        feeds = stacked(updates, self.manifest.modules)
        rows = np.array([updates.index(_changing(example.adapter)) for example in batch], np.int64)
        limits = [int(example.adapter.task.generation["max_new_tokens"]) for example in batch]
        prompts = [example.texts[0][0] for example in batch]
        generated = greedy(self._base, self.manifest.generation, prompts, limits, {**feeds, "adapter_of_row": rows})
        for example, ids in zip(batch, generated, strict=True):
            yield example, self.tokenizer.decode(ids, skip_special_tokens=True).strip()

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


def _changing(adapter: ExportedAdapter) -> ExportedAdapter | None:
    """Return an adapter that changes the base's outputs, else None."""
    return adapter if adapter.factors else None


def _batches(examples: Sequence[_Example], batch_size: int) -> Iterator[list[_Example]]:
    """Yield examples in batches of similar lengths, those with equal texts beside each other."""
    batch: list[_Example] = []
    count = 0
    for example in sorted(examples, key=lambda e: (max(len(ids) for ids, _ in e.texts), e.texts)):
        longest = max(len(ids) for ids, _ in example.texts)
        if batch and (len(batch) >= batch_size or (count + len(example.texts)) * longest > _MOST_TOKENS):
            yield batch
            batch, count = [], 0
        batch.append(example)
        count += len(example.texts)
    if batch:
        yield batch


def _outputs_by_row(request: _Request, outputs: list[Any]) -> list[Any]:
    return outputs_by_row(request.adapter.task, request.features, len(request.columns), outputs)
