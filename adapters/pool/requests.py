"""Compute prepared rows in batches and turn outputs into answers: equal items are computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..base.modality import Item
from ..base.pooling import pooled
from ..base.tokens import Tokens
from ..errors import PoolError, unknown
from ..evaluation.outputs import check_room
from ..runtime.requests import outputs_by_row as by_row
from ..tasks import Task
from ..tasks.beginnings import beginning
from ..tasks.columns import Columns
from ..tasks.feature_rows import features_of
from .context import PassContext, entered
from .expansion import Expansion, origin
from .loaded_adapter import LoadedAdapter
from .prepared import Prepared
from .routed_base import RoutedBase
from .rows import RowAdapter, Rows, take
from .task_heads import SharedProbe, TaskHead

_MOST_TOKENS = 1 << 14  # of a pass, padding included
_MOST_PADDING = 1 << 10  # tokens of padding in a pass, unless they are fewer than a quarter of its tokens


@dataclass(frozen=True)
class Example:
    """One feature of prepared rows."""

    adapter: LoadedAdapter
    task: Task
    generation: Mapping[str, Any]
    feature: dict[str, Any]
    request: int  # the index of its `Prepared`
    index: int  # its index among the features of that
    items: tuple[Item, ...]  # the base's inputs: one; for a choice among endings, one for each
    lengths: tuple[int, ...]  # of these, in tokens or other hidden states
    has_choices: bool


Reader = Callable[[Prepared, list[Any]], list[Any]]
"""Turn the outputs of the features of prepared rows into a value for each row."""


def answers(prepared: Prepared, outputs: list[Any]) -> list[dict[str, Any]]:
    """Return the task's answer for each row."""
    task = prepared.task
    if task.generates:
        return [{"generated_text": text} for text in outputs]
    predictions = task.predictions(outputs, prepared.features, prepared.columns)
    return task.answers(predictions, prepared.columns, prepared.adapter.base.tokenizer)


def candidates(prepared: Prepared, outputs: list[Any]) -> list[list[dict[str, Any]]]:
    """Return each row's possible answers with their scores, the best first."""
    if prepared.task.generates:
        return [[answer] for answer in answers(prepared, outputs)]
    tokenizer = prepared.adapter.base.tokenizer
    return prepared.task.candidates(outputs, prepared.features, prepared.columns, tokenizer)


def outputs_by_row(prepared: Prepared, outputs: list[Any]) -> list[Any]:
    """Return the model's outputs for each row."""
    return by_row(prepared.task, prepared.features, len(prepared.columns), outputs)


def check_generates(adapter: LoadedAdapter, generates: bool) -> None:
    """Raise `PoolError` where an adapter's task generates texts and shouldn't, or the other way round."""
    if adapter.task.generates and not generates:
        raise PoolError(f"adapter '{adapter.name}' generates texts; use generate")
    if generates and not adapter.task.generates:
        raise PoolError(f"adapter '{adapter.name}' is for {adapter.task.name}, which generates no text; use predict")


def computed(requests: Sequence[Prepared], batch_size: int) -> list[list[Any]]:
    """Return the outputs of the features of each of `requests`, in batches that these share.

    Adapters that add tokens run apart, on modules of their own.
    """
    outputs: list[list[Any]] = [[None] * len(prepared.features) for prepared in requests]
    by_base: dict[RoutedBase, list[Example]] = {}
    for n, p in enumerate(requests):
        for i, feature in enumerate(features_of(p.features)):
            by_base.setdefault(p.adapter.base, []).append(_example(p, feature, n, i))
    with torch.inference_mode():
        for base, examples in by_base.items():
            with_base = [example for example in examples if example.adapter.head.includes_base]
            with_heads = [example for example in examples if not example.adapter.head.includes_base]
            for example, value in (
                *_run_heads(base, with_heads, batch_size),
                *_run_task_models(base, with_base, batch_size),
            ):
                outputs[example.request][example.index] = value
    return outputs


def _example(prepared: Prepared, feature: dict[str, Any], request: int, index: int) -> Example:
    adapter, modality = prepared.adapter, prepared.adapter.base.modality
    items = modality.items(feature)
    return Example(
        adapter,
        prepared.task,
        prepared.generation,
        feature,
        request,
        index,
        items,
        tuple(map(modality.length, items)),
        modality.has_choices(feature),
    )


def _batches(examples: Iterable[Example], batch_size: int) -> Iterator[list[Example]]:
    """Yield examples in batches of similar lengths; those of equal items stay together, up to four times the size."""
    ordered = sorted(examples, key=lambda e: (max(e.lengths), e.items))
    batch: list[Example] = []
    count = tokens = 0  # of the distinct items of the batch
    for example in ordered:
        lengths = example.lengths
        repeated = bool(batch) and example.items == batch[-1].items
        total = (count + len(lengths)) * max(lengths)  # padded to this example, the longest up to now
        padding = total - tokens - sum(lengths)
        wide = total > _MOST_TOKENS or (padding > _MOST_PADDING and 4 * padding > total)
        if batch and (len(batch) >= 4 * batch_size or (not repeated and (wide or len(batch) >= batch_size))):
            yield batch
            batch, count, tokens, repeated = [], 0, 0, False
        batch.append(example)
        count += 0 if repeated else len(lengths)
        tokens += 0 if repeated else sum(lengths)
    if batch:
        yield batch


# ---- heads on a shared pass of the base


@dataclass(frozen=True)
class _BasePass:
    """A pass of the base over the distinct items of some examples, and its results."""

    expansion: Expansion
    inputs: dict[str, Tensor]  # what the base was called with, a row for each item
    output: Any  # the base's model output, a row for each item and set of weights
    index: dict[Item, int]  # of each item among the batch's distinct ones
    row: dict[int, int]  # the row of each of these in `inputs`

    def output_rows(self, example: Example, adapter: RowAdapter | None) -> list[int]:
        """Return the rows of an example's items in the output, computed with the weights of `adapter`."""
        return [self.expansion.place[self.index[item], adapter] for item in example.items]

    def input_rows(self, example: Example) -> list[int]:
        """Return the rows of an example's items in the inputs."""
        return [self.row[self.index[item]] for item in example.items]


def _run_heads(base: RoutedBase, examples: list[Example], batch_size: int) -> Iterator[tuple[Example, Any]]:
    """Yield the outputs of heads; examples of all adapters that can share a pass of the base do."""
    groups: dict[LoadedAdapter | None, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.adapter if example.adapter.exclusive else None, []).append(example)
    for exclusive, group in groups.items():
        model = base.model if exclusive is None else exclusive.exclusive_model()
        for batch in _batches(group, batch_size):
            weights = _weights(base, batch, exclusive)
            done = _base_pass(base, model, batch, weights)
            heads = [(e, w) for e, w in zip(batch, weights, strict=True) if e.adapter.head.form is None]
            yield from _head_outputs(base, heads, done)
            probes = [(e, w) for e, w in zip(batch, weights, strict=True) if e.adapter.head.form is not None]
            yield from _probe_outputs(base, probes, done)


def _weights(base: RoutedBase, batch: list[Example], exclusive: LoadedAdapter | None) -> list[RowAdapter | None]:
    """Return the adapter whose weights the base needs for each example, folded where it is the batch's only one."""
    weights: list[RowAdapter | None] = [None if exclusive or not e.adapter.changes_base else e.adapter for e in batch]
    first = batch[0].adapter
    if all(adapter is first for adapter in weights):
        tokens = sum(length for e in batch for length in e.lengths)
        return [base.folding.weights(first, tokens)] * len(batch)
    return weights


def _base_pass(base: RoutedBase, model: Any, batch: list[Example], weights: Sequence[RowAdapter | None]) -> _BasePass:
    index = {item: i for i, item in enumerate(dict.fromkeys(item for example in batch for item in example.items))}
    entries = [(index[item], w) for example, w in zip(batch, weights, strict=True) for item in example.items]
    depth = len(base.trace.blocks)
    layers = {k for e in batch for k in (e.adapter.head.form.layers if e.adapter.head.form else (depth,))}
    items = list(index)
    lengths = list(map(base.modality.length, items))
    packs = model is base.model and base.packs([lengths[i] for i, _ in dict.fromkeys(entries)])
    expansion = Expansion(
        entries,
        base.trace,
        base.device,
        frozenset(layers - {depth}),
        all_blocks=depth in layers,
        packed_lengths=lengths if packs else None,
    )
    inputs = base.modality.tensors([items[i] for i in expansion.items], base.device)
    output = expansion.run(model, inputs)
    row = {item: i for i, item in enumerate(expansion.items)}
    return _BasePass(expansion, inputs, output, index, row)


def _head_outputs(
    base: RoutedBase, examples: list[tuple[Example, RowAdapter | None]], done: _BasePass
) -> Iterator[tuple[Example, Any]]:
    """Yield the output of each example's head; each comes with the adapter whose weights the base has for it."""
    groups: dict[Any, list[tuple[Example, RowAdapter | None]]] = {}
    for example, weights in examples:
        adapter = example.adapter
        key = (adapter.head, example.task.outputs_key, len(example.items), example.has_choices)
        groups.setdefault(key, []).append((example, weights))
    for (head, _, choices, choosing), group in groups.items():
        rows = Rows([example.adapter for example, _ in group], base.device)
        places = rows.select([row for example, weights in group for row in done.output_rows(example, weights)])
        items = rows.select([row for example, _ in group for row in done.input_rows(example)])
        values = {key: take(value, places) for key, value in done.output.items() if isinstance(value, Tensor)}
        batch = {key: take(value, items) for key, value in done.inputs.items()}
        if choosing:
            batch = {key: value.view(len(group), choices, -1) for key, value in batch.items()}
        task = group[0][0].task
        results = head.outputs(task, batch, rows, type(done.output)(**values))
        yield from zip((example for example, _ in group), results, strict=True)


def _probe_outputs(
    base: RoutedBase, examples: list[tuple[Example, RowAdapter | None]], done: _BasePass
) -> Iterator[tuple[Example, Any]]:
    """Yield the output of each example's probe; each comes with the adapter whose weights the base has for it."""
    groups: dict[tuple[Any, Hashable, int], list[tuple[Example, RowAdapter | None]]] = {}
    for example, weights in examples:
        key = (example.adapter.head, example.task.outputs_key, len(example.items))
        groups.setdefault(key, []).append((example, weights))
    for (head, _, choices), pairs in groups.items():
        group = [example for example, _ in pairs]
        assert isinstance(head, SharedProbe)
        assert head.form is not None
        rows = Rows([example.adapter for example in group], base.device)
        entries = [(done.index[item], weights) for example, weights in pairs for item in example.items]
        hidden = {}
        for layer in head.form.layers:
            values, place = done.output[0], done.expansion.place
            if layer in done.expansion.hidden:
                values, step = done.expansion.hidden[layer]
                place = step.place
            hidden[layer] = take(values, rows.select([origin(entry, place) for entry in entries]))
        mask = take(base.modality.mask(done.inputs).long(), rows.select([done.row[item] for item, _ in entries]))
        several = choices if group[0].has_choices else None
        task = group[0].task
        yield from zip(group, head.probe_outputs(task, head.form.read(hidden), mask, several, rows), strict=True)


def embeddings(base: RoutedBase, texts: Sequence[Any], batch_size: int, layer: int | None, pooling: str) -> Tensor:
    """Return the base's hidden states of a layer, pooled over each text's tokens, (texts, features).

    Raises `PoolError` for an unknown layer, for what isn't a text, for an encoder-decoder, and for a base that reads
    no tokens.
    """
    depth, name = len(base.trace.blocks), base.original.name
    if base.model.config.is_encoder_decoder:
        raise PoolError(f"base '{name}' is an encoder-decoder, which has no single hidden state of a text")
    if not isinstance(base.modality, Tokens):
        raise PoolError(f"embed takes texts, and base '{name}' reads {base.modality.name}")
    if layer is not None and not (isinstance(layer, int) and 0 <= layer <= depth):
        raise PoolError(f"layer={layer!r}, but the base has layers 0 to {depth}")
    if not texts or not all(isinstance(text, str) for text in texts):
        raise PoolError(f"embed takes at least one text, got {type(texts[0]).__name__ if texts else 'none'}")
    layer, max_length = depth if layer is None else layer, base.original.max_length
    with base.tokenizing:
        if max_length is not None:
            texts = [beginning(base.tokenizer, text, max_length) for text in texts]
        features = base.tokenizer(list(texts), truncation=max_length is not None, max_length=max_length)
    tokenized = [base.modality.items(feature)[0] for feature in features_of(Columns(features))]
    ordered = sorted(dict.fromkeys(tokenized), key=lambda text: len(text[0]))
    vectors: dict[Item, Tensor] = {}
    with torch.inference_mode():
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            is_top = layer == len(base.trace.blocks)
            layers = frozenset() if is_top else frozenset({layer})
            entries = [(i, None) for i in range(len(batch))]
            lengths = [len(ids) for ids, _ in batch]
            packed = lengths if base.packs(lengths) else None
            expansion = Expansion(entries, base.trace, base.device, layers, all_blocks=is_top, packed_lengths=packed)
            inputs = base.modality.tensors(batch, base.device)
            output = expansion.run(base.model, inputs)
            hidden = output[0] if is_top else expansion.hidden[layer][0]
            vectors |= dict(zip(batch, pooled(hidden, inputs["attention_mask"], pooling), strict=True))
    return torch.stack([vectors[text] for text in tokenized])


# ---- task models that include the base


def _run_task_models(base: RoutedBase, examples: list[Example], batch_size: int) -> Iterator[tuple[Example, Any]]:
    """Yield outputs or generated texts of encoder-decoders, and of all tasks that generate."""
    groups: dict[Any, list[Example]] = {}
    for example in examples:
        adapter, task = example.adapter, example.task
        settings = {**task.generation, **example.generation} if task.generates else {}
        key = (adapter.head, task.outputs_key, repr(settings), adapter if adapter.exclusive else None)
        groups.setdefault(key, []).append(example)
    for (head, *_, exclusive), group in groups.items():
        model = head.model if exclusive is None else exclusive.exclusive_model()
        task, options = group[0].task, group[0].generation
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
