"""From requests to batches and back: texts tokenised once, passes of a size, each row's answer in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import AdapterkitError, DataError, PoolError, unknown
from ..evaluation.outputs import check_room
from ..probe.model import pooled
from ..tasks import Task
from ..tasks.columns import Columns, columns_of
from .expansion import Expansion
from .loaded_adapter import Resident
from .routed_base import Served, Template, say
from .routing import Rows, running, take

Text = tuple[tuple[int, ...], tuple[int, ...]]
"""What the base reads: token ids, and token type ids where there are any."""


@dataclass
class Asked:
    """Rows that one adapter is asked about."""

    resident: Resident
    rows: list[Any]


@dataclass
class Item:
    """One feature of a request."""

    resident: Resident
    feature: dict[str, Any]
    at: tuple[int, int]  # which request, and which of its features
    texts: tuple[Text, ...]  # one; for a choice among endings, one for each


@dataclass
class _Request:
    """What one adapter is asked, as columns and as features, and what its model says of each feature."""

    resident: Resident
    rows: Columns
    features: Columns
    said: list[Any]


def answers(
    served: Served, asked: Sequence[Asked], batch_size: int, options: Mapping[str, Any]
) -> list[list[dict[str, Any]]]:
    """Return for each request an answer for each of its rows."""
    found = []
    for r in _said(served, asked, batch_size, options):
        task = r.resident.task
        if task.generates:
            found.append([{"generated_text": text} for text in r.said])
        else:
            found.append(task.answers(task.predictions(r.said, r.features, r.rows), r.rows, served.tokenizer))
    return found


def outputs(served: Served, asked: Sequence[Asked], batch_size: int, options: Mapping[str, Any]) -> list[list[Any]]:
    """Return for each request what its model says of each row. Raises `PoolError` for an adapter that generates."""
    for one in asked:
        if one.resident.task.generates:
            raise PoolError(f"adapter '{one.resident.name}' generates texts; use generate")
    found = []
    for r in _said(served, asked, batch_size, options):
        if "row" not in r.features.column_names:
            found.append(list(r.said))
            continue
        rows: list[list[Any]] = [[] for _ in range(len(r.rows))]
        for row, value in zip(r.features["row"], r.said, strict=True):
            rows[row].append(value)
        found.append(rows)
    return found


def texts_generated(
    served: Served, asked: Sequence[Asked], batch_size: int, options: Mapping[str, Any]
) -> list[list[str]]:
    """Return for each request the text that its adapter generates. Raises `PoolError` for one that doesn't."""
    for one in asked:
        if not (task := one.resident.task).generates:
            raise PoolError(f"adapter '{one.resident.name}' is for {task.name}, which generates nothing; use predict")
    return [r.said for r in _said(served, asked, batch_size, options)]


def _said(served: Served, asked: Sequence[Asked], batch_size: int, options: Mapping[str, Any]) -> list[_Request]:
    requests = _read(served, asked)
    items = [
        Item(r.resident, feature, (n, i), _texts(feature))
        for n, r in enumerate(requests)
        for i, feature in enumerate(_rows(r.features))
    ]
    whole = [item for item in items if item.resident.template.whole]
    with torch.inference_mode():
        for item, value in (
            *_through_trunk(served, [item for item in items if not item.resident.template.whole], batch_size),
            *_through_whole(served, whole, batch_size, options),
        ):
            request, feature = item.at
            requests[request].said[feature] = value
    return requests


def _read(served: Served, asked: Sequence[Asked]) -> list[_Request]:
    """Return requests with their rows tokenised; tasks that read alike share the work where they are asked the same."""
    known: dict[Any, tuple[Columns, Columns]] = {}
    requests = []
    for one in asked:
        task, rows = one.resident.task, one.rows
        key = (task.tokenize_key, tuple(rows)) if all(isinstance(row, str) for row in rows) else id(one)
        if key not in known:
            columns = columns_of(task, rows)
            with served.tokenizing:
                known[key] = (columns, _features(task, columns, served.tokenizer))
        columns, features = known[key]
        requests.append(_Request(one.resident, columns, features, [None] * len(features)))
    return requests


def _features(task: Task, columns: Columns, tokenizer: Any) -> Columns:
    try:
        return Columns(task.prompts(columns.values, tokenizer))
    except AdapterkitError:
        raise
    except Exception as error:  # a tokenizer says what it can't cut with an Exception
        raise DataError(f"{task.name} can't read these rows: {type(error).__name__}: {error}") from error


def _rows(columns: Columns) -> Iterator[dict[str, Any]]:
    for i in range(len(columns)):
        yield {name: values[i] for name, values in columns.values.items()}


def _texts(feature: Mapping[str, Any]) -> tuple[Text, ...]:
    ids, types = feature["input_ids"], feature.get("token_type_ids")
    if _is_choice(feature):
        kinds = types or [()] * len(ids)
        return tuple((tuple(i), tuple(t)) for i, t in zip(ids, kinds, strict=True))
    return ((tuple(ids), tuple(types or ())),)


def _chunks(items: Iterable[Item], batch_size: int) -> Iterator[list[Item]]:
    """Yield items of like length, those of one text together, in batches."""
    ordered = sorted(items, key=lambda item: (max(len(ids) for ids, _ in item.texts), item.texts))
    chunk: list[Item] = []
    for item in ordered:
        full = len(chunk) >= batch_size and item.texts != chunk[-1].texts
        if full or len(chunk) >= 4 * batch_size:
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk


def _through_trunk(served: Served, items: list[Item], batch_size: int) -> Iterator[tuple[Item, Any]]:
    """Yield what the heads say of what the base says, the base run once for all that can share it."""
    alone: dict[Resident | None, list[Item]] = {}
    for item in items:
        alone.setdefault(item.resident if item.resident.alone else None, []).append(item)
    for resident, own in alone.items():
        for chunk in _chunks(own, batch_size):
            texts = {text: i for i, text in enumerate(dict.fromkeys(t for item in chunk for t in item.texts))}
            by = [None if resident else r if (r := item.resident).changes_base else None for item in chunk]
            entries = [(texts[text], r) for item, r in zip(chunk, by, strict=True) for text in item.texts]
            count = len(served.trace.blocks)
            forms = [item.resident.template.form for item in chunk]
            read = {k for form in forms for k in (form.layers if form else (count,))}
            layers, whole = frozenset(read - {count}), count in read
            expansion = Expansion(entries, served.trace, served.device, layers, whole=whole)
            by_place = list(texts)
            ids, others = _padded(served, [by_place[i] for i in expansion.texts])
            model = served.model if resident is None else resident.by_itself(served)
            said = expansion.run(model, ids, **others)
            row_of = {text: i for i, text in enumerate(expansion.texts)}
            places = [
                [(expansion.place[texts[text], r], row_of[texts[text]]) for text in item.texts]
                for item, r in zip(chunk, by, strict=True)
            ]
            batch = {"input_ids": ids, **others}
            heads = [i for i, form in enumerate(forms) if form is None]
            yield from _heads(served, [chunk[i] for i in heads], [places[i] for i in heads], said, batch)
            probes = [i for i, form in enumerate(forms) if form is not None]
            asked = [
                [(texts[text], row) for text, (_, row) in zip(chunk[i].texts, places[i], strict=True)] for i in probes
            ]
            yield from _probes(served, [chunk[i] for i in probes], asked, expansion, said, batch)


def embeddings(
    served: Served, texts: Sequence[str], batch_size: int, layer: int, pooling: str, max_length: int | None
) -> Tensor:
    """Return the base's own hidden states of a layer, pooled over each text's tokens, (texts, features)."""
    with served.tokenizing:
        features = served.tokenizer(list(texts), truncation=max_length is not None, max_length=max_length)
    found: dict[Text, Tensor] = {}
    wanted = list(dict.fromkeys(_texts(f)[0] for f in _rows(Columns(features))))
    ordered = sorted(wanted, key=lambda text: len(text[0]))
    with torch.inference_mode():
        for start in range(0, len(ordered), batch_size):
            some = ordered[start : start + batch_size]
            top = layer == len(served.trace.blocks)
            layers = frozenset() if top else frozenset({layer})
            entries = [(i, None) for i in range(len(some))]
            expansion = Expansion(entries, served.trace, served.device, layers, whole=top)
            ids, others = _padded(served, some)
            said = expansion.run(served.model, ids, **others)
            hidden = said[0] if top else expansion.hidden[layer][0]
            found |= dict(zip(some, pooled(hidden, others["attention_mask"], pooling), strict=True))
    return torch.stack([found[_texts(f)[0]] for f in _rows(Columns(features))])


def _padded(served: Served, texts: Sequence[Text]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return token ids, (texts, longest), and mask and token types as further arguments."""
    longest = max(1, *(len(ids) for ids, _ in texts))
    pad = served.tokenizer.pad_token_id or 0

    def filled(rows: Iterable[Sequence[int]], value: int) -> Tensor:
        return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], device=served.device)

    others = {"attention_mask": filled(([1] * len(ids) for ids, _ in texts), 0)}
    if any(types for _, types in texts):
        others["token_type_ids"] = filled((types or [0] * len(ids) for ids, types in texts), 0)
    return filled((ids for ids, _ in texts), pad), others


def _heads(
    served: Served, chunk: list[Item], places: list[list[tuple[int, int]]], said: Any, read: Mapping[str, Tensor]
) -> Iterator[tuple[Item, Any]]:
    """Yield what each item's head makes of what the base said; `read` is what the base read, text by text."""
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(chunk):
        key = (item.resident.template, item.resident.task.outputs_key, len(item.texts), _is_choice(item.feature))
        groups.setdefault(key, []).append(i)
    for (template, _, choices, is_choice), indices in groups.items():
        items = [chunk[i] for i in indices]
        rows = Rows([item.resident for item in items], served.device)
        where = rows.select([place for i in indices for place, _ in places[i]])
        text = rows.select([row for i in indices for _, row in places[i]])
        given = {key: take(value, where) for key, value in said.items() if isinstance(value, Tensor)}
        batch = {key: take(value, text) for key, value in read.items()}
        if is_choice:
            batch = {key: value.view(len(items), choices, -1) for key, value in batch.items()}
        yield from zip(items, say(template, items[0].resident.task, batch, rows, type(said)(**given)), strict=True)


def _probes(
    served: Served,
    chunk: list[Item],
    asked: list[list[tuple[int, int]]],
    expansion: Expansion,
    said: Any,
    read: Mapping[str, Tensor],
) -> Iterator[tuple[Item, Any]]:
    """Yield what each item's probe makes of hidden states; `asked` is, for each, its texts and their rows in `read`."""
    groups: dict[Any, list[int]] = {}
    for i, item in enumerate(chunk):
        groups.setdefault((item.resident.template, item.resident.task.outputs_key, len(item.texts)), []).append(i)
    for (template, _, choices), indices in groups.items():
        items = [chunk[i] for i in indices]
        rows = Rows([item.resident for item in items], served.device)
        hidden = {}
        for k in template.form.layers:
            values, place = said[0], expansion.place
            if k in expansion.hidden:
                values, step = expansion.hidden[k]
                place = step.place
            hidden[k] = take(values, rows.select([place[text, None] for i in indices for text, _ in asked[i]]))
        mask = take(read["attention_mask"], rows.select([row for i in indices for _, row in asked[i]]))
        several = choices if _is_choice(items[0].feature) else None
        yield from zip(
            items, template.say(items[0].resident.task, template.form.read(hidden), mask, several, rows), strict=True
        )


def _is_choice(feature: Mapping[str, Any]) -> bool:
    return bool(feature["input_ids"]) and isinstance(feature["input_ids"][0], list)


def _through_whole(
    served: Served, items: list[Item], batch_size: int, options: Mapping[str, Any]
) -> Iterator[tuple[Item, Any]]:
    """Yield what whole models say or generate: encoder-decoders, and whatever generates."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        r = item.resident
        how = {**r.task.generation, **options} if r.task.generates else {}
        groups.setdefault((r.template, r.task.outputs_key, repr(how), r if r.alone else None), []).append(item)
    for (template, *_, resident), own in groups.items():
        model = template.model if resident is None else resident.by_itself(served)
        task = own[0].resident.task
        for chunk in _chunks(own, batch_size):
            batch = task.collate(served.tokenizer, model)([dict(item.feature) for item in chunk])
            batch = {key: value.to(served.device) for key, value in batch.items()}
            rows = Rows([None if resident else item.resident for item in chunk], served.device)
            with running(rows):
                if task.generates:
                    check_room(served.base, task, batch, options)
                    said = _generated(template, model, task, batch, served.tokenizer, options)
                else:
                    said = task.outputs(model, batch)
            yield from zip(chunk, said, strict=True)


def _generated(
    template: Template, model: Any, task: Task, batch: Mapping[str, Tensor], tokenizer: Any, options: Mapping[str, Any]
) -> list[str]:
    with template.generating:
        try:
            return task.generate(model, batch, tokenizer, **options)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            if not options:
                raise
            given = ", ".join(f"{name}={value!r}" for name, value in options.items())
            raise PoolError(f"can't generate with {given}: {' '.join(str(error).split())[:200]}") from error


def check_generation(options: Mapping[str, Any]) -> None:
    """Raise `PoolError` for what is no option of transformers' generation, or gives no one text for each row."""
    from transformers import GenerationConfig

    known = vars(GenerationConfig())
    for name, value in options.items():
        if name not in known:
            raise PoolError(unknown("option of generate", name, known))
        if name == "max_length":
            raise PoolError(f"max_length={value}: give max_new_tokens, the tokens to generate")
        if (name == "num_return_sequences" and value != 1) or (name == "return_dict_in_generate" and value):
            raise PoolError(f"{name}={value}: generate gives one text for each row")
        if name in ("max_new_tokens", "num_beams") and (not isinstance(value, int) or value < 1):
            raise PoolError(f"{name}={value!r}, but a whole number from 1 on was expected")
