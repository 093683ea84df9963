"""Read objects with a text and spans: doccano, Prodigy, spaCy, Label Studio's JSON_MIN, DataTurks and others."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from .source import BadRow, NumberedRows, Row, Source
from .spans import Span, Tagger

PEEK = 1000
"""The most rows that are looked at to find out which column holds spans."""
_STARTS = ("start", "start_offset", "begin", "start_char", "startOffset", "startIndex", "start_index", "offset")
_ENDS = ("end", "end_offset", "stop", "end_char", "endOffset", "endIndex", "end_index")
_LABELS = (
    "label",
    "labels",
    "type",
    "entity",
    "entity_type",
    "entity_group",
    "tag",
    "class",
    "category",
    "displayName",
    "entityType",
)
_PAIRS = ("pos", "position", "span", "offsets", "range")
"""Where an annotation has its start and end as a list of two."""
_USUAL = ("spans", "entities", "label", "labels", "annotations", "annotation", "ents", "textSegmentAnnotations")
"""The columns that usually hold spans, the first that does is read."""
_TEXTS = ("text", "content", "sentence", "document", "data", "textContent", "source")


def with_words(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Replace a text and its spans by words and tags in every row, where any of the first rows has spans."""
    head = list(islice(numbered, PEEK))
    rows = chain(head, numbered)
    columns = _columns(row for _, row in head if not isinstance(row, BadRow))
    if columns is None:
        yield from rows
        return
    text, spans = columns
    tagger = Tagger()
    for number, row in rows:
        yield number, row if isinstance(row, BadRow) else _tagged(row, text, spans, tagger)
    tagger.finish(source, f"column '{spans}'")


def with_words_of_cells(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Return the rows of a table with words and tags, where a column's cells hold spans as JSON or Python writes them.

    Rows of other tables, and of a stream, are returned as they are.
    """
    if not source.repeatable:
        yield from numbered
        return
    head = list(islice(numbered, PEEK))
    cells = ((name, cell) for _, row in head if isinstance(row, dict) for name, cell in row.items())
    lists = ((name, cell) for name, cell in cells if isinstance(cell, str) and cell.startswith("["))
    columns = {name for name, cell in lists if _are_spans(_value_of(cell))}
    rows = chain(head, numbered)
    if not columns:
        yield from rows
        return
    yield from with_words(source, ((number, _with_values(row, columns)) for number, row in rows))


def _with_values(row: Row | BadRow, columns: set[str]) -> Row | BadRow:
    if isinstance(row, BadRow):
        return row
    return {name: _value_of(cell) if name in columns else cell for name, cell in row.items()}


def _value_of(cell: str) -> Any:
    """Return the list that a cell holds, an empty list for an empty cell, and the cell itself where it holds none."""
    if not cell.strip():
        return []
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        return [list(part) if isinstance(part, tuple) else part for part in value] if isinstance(value, list) else cell
    return cell


def _columns(rows: Iterator[Row]) -> tuple[str, str] | None:
    """Return the columns of the text and of the spans; None where no row has both."""
    for row in rows:
        found_in = [name for name, value in row.items() if _are_spans(value)]
        texts = {name: value for name, value in row.items() if isinstance(value, str)}
        if found_in and texts and not {"paragraphs", "messages"} & {*row}:
            spans = next((name for name in _USUAL if name in found_in), found_in[0])
            text = next((name for name in _TEXTS if name in texts), max(texts, key=lambda name: len(texts[name])))
            return text, spans
    return None


def _are_spans(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = _ground_truth(value) or _by_type(value)
    return isinstance(value, list) and bool(value) and all(map(_spans_of, value))


def _by_type(value: Mapping[str, Any]) -> list[Any]:
    """Return the spans of an object of types, {"PER": [[0, 3]]} or CLUENER's {"name": {"Ann": [[0, 2]]}}, or none."""
    spans: list[Any] = []
    for label, places in value.items():
        texts = places if isinstance(places, Mapping) else {None: places}
        for text, pairs in texts.items():
            if isinstance(pairs, list) and pairs and all(isinstance(p, Mapping) and "indices" in p for p in pairs):
                pairs = [p["indices"] for p in pairs]  # GATE
            if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
                return []
            spans += [{"label": label, "start": start, "end": end, "text": text} for start, end in pairs]
    return spans


def _ground_truth(value: Mapping[str, Any]) -> list[Any] | None:
    """Return the entities of a job of SageMaker Ground Truth, or None."""
    annotations = value.get("annotations")
    entities = annotations.get("entities") if isinstance(annotations, Mapping) else None
    return entities if isinstance(entities, list) else None


def _tagged(row: Row, text: str, column: str, tagger: Tagger) -> Row | BadRow:
    value, annotations = row.get(text), row.get(column)
    if not isinstance(value, str):
        return BadRow(f"a text was expected as '{text}', not {type(value).__name__}")
    if annotations is not None and not isinstance(annotations, list | Mapping):
        return BadRow(f"a list of spans was expected as '{column}', not {type(annotations).__name__}")
    spans: list[Span] = []
    if isinstance(annotations, Mapping):
        annotations = _by_type(annotations) if (entities := _ground_truth(annotations)) is None else entities
    for annotation in annotations or []:
        read = _spans_of(annotation)
        spans += read
        tagger.counts["unreadable"] += not read
        tagger.counts["parts"] += len(read) > 1
        tagger.counts["labels"] += _further_labels(annotation)
    tagged = tagger.row(value, spans, _words(row.get("tokens"), value))
    if isinstance(tagged, BadRow):
        return tagged
    return tagged | {name: cell for name, cell in row.items() if name not in (*tagged, column, text)}


def _words(tokens: Any, text: str) -> list[tuple[int, int]] | None:
    """Return the places of Prodigy's tokens, or None where there are none or they don't fit the text."""
    if not isinstance(tokens, list) or not tokens:
        return None
    places, at = [], 0
    for token in tokens:
        if not isinstance(token, Mapping) or not _is_place(token.get("start"), token.get("end")):
            return None
        start, end = token["start"], token["end"]
        if start < at or text[start:end] != token.get("text", text[start:end]):
            return None
        at = end
        if text[start:end].strip():
            places.append((start, end))
    return places


def _is_place(start: Any, end: Any) -> bool:
    return all(isinstance(at, int) and not isinstance(at, bool) for at in (start, end))


def _spans_of(value: Any) -> list[Span]:
    """Return the spans of an annotation: [0, 9, "PER"] or an object; none where it is something else."""
    if isinstance(value, list):
        good = len(value) >= 3 and _is_place(value[0], value[1]) and isinstance(value[2], str)
        return [Span(value[0], value[1], value[2])] if good else []
    if not isinstance(value, Mapping):
        return []
    label = next((value[key] for key in _LABELS if value.get(key)), None)
    if isinstance(label, list):
        label = label[0]
    if isinstance(label, bool) or not isinstance(label, str | int):
        return []
    label = str(label)  # doccano before 1.4 writes the number of a label
    if isinstance(value.get("points"), list):  # DataTurks: the end is the last character
        points = [p for p in value["points"] if isinstance(p, Mapping) and _is_place(p.get("start"), p.get("end"))]
        return [Span(p["start"], p["end"] + 1, label) for p in points]
    start, end = (next((value[key] for key in keys if key in value), None) for keys in (_STARTS, _ENDS))
    if end is None and isinstance(start, int) and isinstance(value.get("length"), int):  # Azure, BioC
        end = start + value["length"]
    if start is None and end is None:
        pair: list[Any] = next((value[key] for key in _PAIRS if isinstance(value.get(key), list)), [])
        start, end = pair if len(pair) == 2 else (None, None)
    if isinstance(start, str) and isinstance(end, str) and start.isdecimal() and end.isdecimal():
        start, end = int(start), int(end)
    if not isinstance(start, int) or not isinstance(end, int) or not _is_place(start, end):
        return []
    text, hint = value.get("text"), value.get("value")
    if isinstance(text, str):
        return [Span(start, end, label, text)]
    return [Span(start, end, label, hint, hint=True) if isinstance(hint, str) else Span(start, end, label)]


def _further_labels(value: Any) -> int:
    labels = [value[key] for key in _LABELS if isinstance(value.get(key), list)] if isinstance(value, Mapping) else []
    return max(map(len, labels), default=1) - 1
