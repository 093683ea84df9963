"""Turn requests into batches and outputs back into answers: texts are tokenized and computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import AdapterkitError, DataError, PoolError, unknown, warn
from ..evaluation.outputs import check_room
from ..features.lengths import count_cut, cut_note
from ..probe.model import pooled
from ..tasks import Task
from ..tasks.columns import Columns, columns_of
from .context import PassContext, entered
from .expansion import Expansion
from .loaded_adapter import LoadedAdapter
from .routed_base import RoutedBase
from .rows import Rows, take
from .task_heads import SharedProbe, TaskHead

Text = tuple[tuple[int, ...], tuple[int, ...]]
"""The base's input for a text: token ids, and token type ids where the tokenizer gives some."""


@dataclass(frozen=True)
class Request:
    """Rows, texts or dicts of columns, for one adapter."""

    adapter: LoadedAdapter
    rows: list[Any]


@dataclass(frozen=True)
class TokenizedRequest:
    """A request's rows as columns and as features; `outputs` holds the model's output for each feature."""

    adapter: LoadedAdapter
    columns: Columns
    features: Columns
    outputs: list[Any]


@dataclass(frozen=True)
class Example:
    """One feature of a request."""

    adapter: LoadedAdapter
    feature: dict[str, Any]
    request: int  # the index of its request
    index: int  # its index among the request's features
    texts: tuple[Text, ...]  # one; for a choice among endings, one for each


Answer = Callable[[RoutedBase, Sequence[Request], int, Mapping[str, Any]], list[list[Any]]]
"""Compute for each request a value for each of its rows, in batches of a size; for generation with options."""


def answers(
    base: RoutedBase, requests: Sequence[Request], batch_size: int, options: Mapping[str, Any]
) -> list[list[dict[str, Any]]]:
    """Return for each request the task's answer for each row."""
    results = []
    for r in _computed(base, requests, batch_size, options):
        task = r.adapter.task
        if task.generates:
            results.append([{"generated_text": text} for text in r.outputs])
        else:
            predictions = task.predictions(r.outputs, r.features, r.columns)
            results.append(task.answers(predictions, r.columns, base.tokenizer))
    return results


def outputs(
    base: RoutedBase, requests: Sequence[Request], batch_size: int, options: Mapping[str, Any]
) -> list[list[Any]]:
    """Return for each request the model's outputs for each row. Raises `PoolError` for an adapter that generates."""
    for request in requests:
        if request.adapter.task.generates:
            raise PoolError(f"adapter '{request.adapter.name}' generates texts; use generate")
    results = []
    for r in _computed(base, requests, batch_size, options):
        if "row" not in r.features.column_names:
            results.append(list(r.outputs))
            continue
        rows: list[list[Any]] = [[] for _ in range(len(r.columns))]
        for row, value in zip(r.features["row"], r.outputs, strict=True):
            rows[row].append(value)
        single = not r.adapter.task.always_windows
        results.append([values[0] if single and len(values) == 1 else values for values in rows])
    return results


def generated_texts(
    base: RoutedBase, requests: Sequence[Request], batch_size: int, options: Mapping[str, Any]
) -> list[list[str]]:
    """Return for each request the generated text for each row. Raises `PoolError` for a task that doesn't generate."""
    for request in requests:
        if not (task := request.adapter.task).generates:
            name = request.adapter.name
            raise PoolError(f"adapter '{name}' is for {task.name}, which generates no text; use predict")
    return [r.outputs for r in _computed(base, requests, batch_size, options)]


def _computed(
    base: RoutedBase, requests: Sequence[Request], batch_size: int, options: Mapping[str, Any]
) -> list[TokenizedRequest]:
    """Return requests with the outputs of their features."""
    tokenized = _tokenized(base, requests)
    examples = [
        Example(r.adapter, feature, n, i, _texts(feature))
        for n, r in enumerate(tokenized)
        for i, feature in enumerate(_rows(r.features))
    ]
    with_base = [example for example in examples if example.adapter.head.includes_base]
    with_heads = [example for example in examples if not example.adapter.head.includes_base]
    with torch.inference_mode():
        for example, value in (
            *_run_heads(base, with_heads, batch_size),
            *_run_task_models(base, with_base, batch_size, options),
        ):
            tokenized[example.request].outputs[example.index] = value
    return tokenized


def _tokenized(base: RoutedBase, requests: Sequence[Request]) -> list[TokenizedRequest]:
    """Tokenize rows; tasks that tokenize the same way share the work for the same texts."""
    cache: dict[Any, tuple[Columns, Columns]] = {}
    tokenized = []
    for request in requests:
        task, rows = request.adapter.task, request.rows
        key = (task.tokenize_key, tuple(rows)) if all(isinstance(row, str) for row in rows) else id(request)
        if key not in cache:
            columns = columns_of(task, rows)
            with base.tokenizing:
                cache[key] = (columns, _features(task, columns, base.tokenizer))
        columns, features = cache[key]
        _report_cut(request.adapter, columns, features, base)
        tokenized.append(TokenizedRequest(request.adapter, columns, features, [None] * len(features)))
    return tokenized


def _report_cut(adapter: LoadedAdapter, columns: Columns, features: Columns, base: RoutedBase) -> None:
    """Issue a warning for the first request of an adapter with texts that are cut; a server would repeat it."""
    if adapter.cut_reported:
        return
    with base.tokenizing:
        cut = count_cut(adapter.task, columns.values, base.tokenizer, features.values)
    if cut:
        adapter.cut_reported = True
        warn(f"adapter '{adapter.name}': {cut_note(adapter.task, cut, len(columns))}; later ones aren't reported")


def _features(task: Task, columns: Columns, tokenizer: Any) -> Columns:
    try:
        return Columns(task.prompts(columns.values, tokenizer))
    except AdapterkitError:
        raise
    except Exception as error:  # tokenizers raise a bare Exception for rows that they can't truncate
        raise DataError(f"{task.name} can't read these rows: {type(error).__name__}: {error}") from error


def _rows(columns: Columns) -> Iterator[dict[str, Any]]:
    for i in range(len(columns)):
        yield {name: values[i] for name, values in columns.values.items()}


def _texts(feature: Mapping[str, Any]) -> tuple[Text, ...]:
    ids, types = feature["input_ids"], feature.get("token_type_ids")
    if _has_choices(feature):
        kinds = types or [()] * len(ids)
        return tuple((tuple(i), tuple(t)) for i, t in zip(ids, kinds, strict=True))
    return ((tuple(ids), tuple(types or ())),)


def _has_choices(feature: Mapping[str, Any]) -> bool:
    return bool(feature["input_ids"]) and isinstance(feature["input_ids"][0], list)


def _batches(examples: Iterable[Example], batch_size: int) -> Iterator[list[Example]]:
    """Yield examples in batches of similar lengths; those of one text stay together, up to four times the size."""
    ordered = sorted(examples, key=lambda e: (max(len(ids) for ids, _ in e.texts), e.texts))
    batch: list[Example] = []
    for example in ordered:
        is_full = len(batch) >= batch_size and example.texts != batch[-1].texts
        if is_full or len(batch) >= 4 * batch_size:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


# ---- heads on a shared pass of the base


@dataclass(frozen=True)
class _BasePass:
    """A pass of the base over the distinct texts of some examples, and its results."""

    expansion: Expansion
    inputs: dict[str, Tensor]  # what the base was called with, a row for each text
    output: Any  # the base's model output, a row for each text and set of weights
    index: dict[Text, int]  # of each text among the batch's distinct ones
    row: dict[int, int]  # the row of each of these in `inputs`

    def output_rows(self, example: Example, adapter: LoadedAdapter | None) -> list[int]:
        """Return the rows of an example's texts in the output, computed with the weights of `adapter`."""
        return [self.expansion.place[self.index[text], adapter] for text in example.texts]

    def input_rows(self, example: Example) -> list[int]:
        """Return the rows of an example's texts in the inputs."""
        return [self.row[self.index[text]] for text in example.texts]


def _run_heads(base: RoutedBase, examples: list[Example], batch_size: int) -> Iterator[tuple[Example, Any]]:
    """Yield the outputs of heads; examples of all adapters that can share a pass of the base do."""
    groups: dict[LoadedAdapter | None, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.adapter if example.adapter.exclusive else None, []).append(example)
    for exclusive, group in groups.items():
        model = base.model if exclusive is None else exclusive.exclusive_model()
        for batch in _batches(group, batch_size):
            weights = [None if exclusive or not e.adapter.changes_base else e.adapter for e in batch]
            done = _base_pass(base, model, batch, weights)
            heads = [(e, w) for e, w in zip(batch, weights, strict=True) if e.adapter.head.form is None]
            yield from _head_outputs(base, heads, done)
            yield from _probe_outputs(base, [e for e in batch if e.adapter.head.form is not None], done)


def _base_pass(
    base: RoutedBase, model: Any, batch: list[Example], weights: Sequence[LoadedAdapter | None]
) -> _BasePass:
    index = {text: i for i, text in enumerate(dict.fromkeys(t for example in batch for t in example.texts))}
    entries = [(index[text], w) for example, w in zip(batch, weights, strict=True) for text in example.texts]
    depth = len(base.trace.blocks)
    layers = {k for e in batch for k in (e.adapter.head.form.layers if e.adapter.head.form else (depth,))}
    expansion = Expansion(entries, base.trace, base.device, frozenset(layers - {depth}), all_blocks=depth in layers)
    texts = list(index)
    ids, others = _padded(base, [texts[i] for i in expansion.texts])
    output = expansion.run(model, ids, **others)
    row = {text: i for i, text in enumerate(expansion.texts)}
    return _BasePass(expansion, {"input_ids": ids, **others}, output, index, row)


def _padded(base: RoutedBase, texts: Sequence[Text]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return token ids, (texts, longest), and mask and token type ids as further arguments."""
    longest = max(1, *(len(ids) for ids, _ in texts))
    pad = base.tokenizer.pad_token_id or 0

    def filled(rows: Iterable[Sequence[int]], value: int) -> Tensor:
        return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], device=base.device)

    others = {"attention_mask": filled(([1] * len(ids) for ids, _ in texts), 0)}
    if any(types for _, types in texts):
        others["token_type_ids"] = filled((types or [0] * len(ids) for ids, types in texts), 0)
    return filled((ids for ids, _ in texts), pad), others


def _head_outputs(
    base: RoutedBase, examples: list[tuple[Example, LoadedAdapter | None]], done: _BasePass
) -> Iterator[tuple[Example, Any]]:
    """Yield the output of each example's head; each comes with the adapter whose weights the base has for it."""
    groups: dict[Any, list[tuple[Example, LoadedAdapter | None]]] = {}
    for example, weights in examples:
        adapter = example.adapter
        key = (adapter.head, adapter.task.outputs_key, len(example.texts), _has_choices(example.feature))
        groups.setdefault(key, []).append((example, weights))
    for (head, _, choices, has_choices), group in groups.items():
        rows = Rows([example.adapter for example, _ in group], base.device)
        places = rows.select([row for example, weights in group for row in done.output_rows(example, weights)])
        texts = rows.select([row for example, _ in group for row in done.input_rows(example)])
        values = {key: take(value, places) for key, value in done.output.items() if isinstance(value, Tensor)}
        batch = {key: take(value, texts) for key, value in done.inputs.items()}
        if has_choices:
            batch = {key: value.view(len(group), choices, -1) for key, value in batch.items()}
        task = group[0][0].adapter.task
        results = head.outputs(task, batch, rows, type(done.output)(**values))
        yield from zip((example for example, _ in group), results, strict=True)


def _probe_outputs(base: RoutedBase, examples: list[Example], done: _BasePass) -> Iterator[tuple[Example, Any]]:
    """Yield the output of each example's probe."""
    groups: dict[tuple[Any, Hashable, int], list[Example]] = {}
    for example in examples:
        key = (example.adapter.head, example.adapter.task.outputs_key, len(example.texts))
        groups.setdefault(key, []).append(example)
    for (head, _, choices), group in groups.items():
        assert isinstance(head, SharedProbe)
        assert head.form is not None
        rows = Rows([example.adapter for example in group], base.device)
        texts = [done.index[text] for example in group for text in example.texts]
        hidden = {}
        for layer in head.form.layers:
            values, place = done.output[0], done.expansion.place
            if layer in done.expansion.hidden:
                values, step = done.expansion.hidden[layer]
                place = step.place
            hidden[layer] = take(values, rows.select([place[text, None] for text in texts]))
        mask = take(done.inputs["attention_mask"], rows.select([done.row[text] for text in texts]))
        several = choices if _has_choices(group[0].feature) else None
        task = group[0].adapter.task
        yield from zip(group, head.probe_outputs(task, head.form.read(hidden), mask, several, rows), strict=True)


def embeddings(
    base: RoutedBase, texts: Sequence[str], batch_size: int, layer: int, pooling: str, max_length: int | None
) -> Tensor:
    """Return the base's hidden states of a layer, pooled over each text's tokens, (texts, features)."""
    with base.tokenizing:
        features = base.tokenizer(list(texts), truncation=max_length is not None, max_length=max_length)
    tokenized = [_texts(feature)[0] for feature in _rows(Columns(features))]
    ordered = sorted(dict.fromkeys(tokenized), key=lambda text: len(text[0]))
    vectors: dict[Text, Tensor] = {}
    with torch.inference_mode():
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            is_top = layer == len(base.trace.blocks)
            layers = frozenset() if is_top else frozenset({layer})
            entries = [(i, None) for i in range(len(batch))]
            expansion = Expansion(entries, base.trace, base.device, layers, all_blocks=is_top)
            ids, others = _padded(base, batch)
            output = expansion.run(base.model, ids, **others)
            hidden = output[0] if is_top else expansion.hidden[layer][0]
            vectors |= dict(zip(batch, pooled(hidden, others["attention_mask"], pooling), strict=True))
    return torch.stack([vectors[text] for text in tokenized])


# ---- task models that include the base


def _run_task_models(
    base: RoutedBase, examples: list[Example], batch_size: int, options: Mapping[str, Any]
) -> Iterator[tuple[Example, Any]]:
    """Yield outputs or generated texts of encoder-decoders, and of all tasks that generate."""
    groups: dict[Any, list[Example]] = {}
    for example in examples:
        adapter, task = example.adapter, example.adapter.task
        settings = {**task.generation, **options} if task.generates else {}
        key = (adapter.head, task.outputs_key, repr(settings), adapter if adapter.exclusive else None)
        groups.setdefault(key, []).append(example)
    for (head, *_, exclusive), group in groups.items():
        model = head.model if exclusive is None else exclusive.exclusive_model()
        task = group[0].adapter.task
        for examples_of_batch in _batches(group, batch_size):
            batch = task.collate(base.tokenizer, model)([dict(e.feature) for e in examples_of_batch])
            batch = {key: value.to(base.device) for key, value in batch.items()}
            rows = Rows([None if exclusive else e.adapter for e in examples_of_batch], base.device)
            with entered(PassContext(rows)):
                if task.generates:
                    check_room(base.base, task, batch, options)
                    results = _generated(head, model, task, batch, base.tokenizer, options)
                else:
                    results = task.outputs(model, batch)
            yield from zip(examples_of_batch, results, strict=True)


def _generated(
    head: TaskHead, model: Any, task: Task, batch: Mapping[str, Tensor], tokenizer: Any, options: Mapping[str, Any]
) -> list[str]:
    with head.generating:
        try:
            return task.generate(model, batch, tokenizer, **options)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            if not options:
                raise
            values = ", ".join(f"{name}={value!r}" for name, value in options.items())
            raise PoolError(f"can't generate with {values}: {' '.join(str(error).split())[:200]}") from error


def check_generation(options: Mapping[str, Any]) -> None:
    """Raise `PoolError` for an unknown option of generate, or one that doesn't return one text for each row."""
    from transformers import GenerationConfig

    names = vars(GenerationConfig())
    for name, value in options.items():
        if name not in names:
            raise PoolError(unknown("option of generate", name, names))
        if name == "max_length":
            raise PoolError(f"max_length={value}: use max_new_tokens, the number of tokens to generate")
        if (name == "num_return_sequences" and value != 1) or (name == "return_dict_in_generate" and value):
            raise PoolError(f"{name}={value}: generate returns one text for each row")
        if name in ("max_new_tokens", "num_beams") and (not isinstance(value, int) or value < 1):
            raise PoolError(f"{name} must be an integer >= 1, got {value!r}")
