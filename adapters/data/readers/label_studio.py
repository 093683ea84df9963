"""Read Label Studio's JSON: a task's data with the spans and choices of its first annotation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

from .source import BadRow, NumberedRows, Row, Source

PEEK = 1000
"""The most tasks that are looked at to find out which choices allow several values."""

WORDS = {
    "none": ("task without an annotation left out", "tasks without an annotation left out"),
    "further": ("further annotation of a task not read", "further annotations of tasks not read, the first counts"),
    "other": ("result without a span or a choice not read", "results without a span or a choice not read"),
}
"""How tasks and results that aren't read are counted."""


def tasks(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Replace Label Studio's tasks by rows of their data; spans are a column `spans`, choices one by their name.

    Tasks without an annotation are left out, unless rows are to be predicted.
    """
    head = list(islice(numbered, PEEK))
    read = [(number, _flat(row)) for number, row in head]
    several = {name for _, row in read if isinstance(row, dict) for name, value in _choices(row) if len(value) > 1}
    counts: Counter[str] = Counter()
    columns: dict[str, None] = {}
    for number, row in chain(head, numbered):
        flat = _flat(row, counts)
        if flat is None and not source.options.every_row:
            counts["none"] += 1
            continue
        if flat is None:
            flat = dict(row["data"])  # type: ignore[index]
        if not isinstance(flat, BadRow):
            columns |= dict.fromkeys(name for name, _ in _choices(flat))
            flat = _with_labels(flat, several)
        yield number, flat
    for name in columns:
        source.notes.append(f"choices read as {'lists of labels' if name in several else 'labels'} ({name})")
    source.count(counts["none"], *WORDS["none"])
    source.count(counts["further"], *WORDS["further"])
    source.count(counts["other"], *WORDS["other"])


def choices_of_cells(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Return the rows of a table with lists of labels, where Label Studio wrote {"choices": [...]} in a cell.

    One choice is written as it is, so every cell of such a column is a list. Rows of a stream are returned unchanged.
    """
    if not source.repeatable:
        yield from numbered
        return
    head = list(islice(numbered, PEEK))
    cells = ((name, cell) for _, row in head if isinstance(row, dict) for name, cell in row.items())
    columns = {name for name, cell in cells if isinstance(cell, str) and _cell_choices(cell)}
    for number, row in chain(head, numbered):
        if isinstance(row, BadRow):
            yield number, row
        elif late := next((n for n, cell in row.items() if n not in columns and _cell_choices(cell)), None):
            yield number, BadRow(f"several choices in '{late}', after {PEEK:,} rows of one")
        else:
            yield number, {n: _choice_list(cell) if n in columns else cell for n, cell in row.items()}
    for name in sorted(columns):
        source.notes.append(f"choices read as lists of labels ({name})")


def _cell_choices(cell: Any) -> list[Any] | None:
    """Return the choices of a cell such as {"choices": ["a", "b"]}; None for any other."""
    if not isinstance(cell, str) or not cell.startswith('{"choices"'):
        return None
    try:
        value = json.loads(cell)
    except ValueError:
        return None
    return value["choices"] if isinstance(value.get("choices"), list) else None


def _choice_list(cell: Any) -> Any:
    choices = _cell_choices(cell)
    return choices if choices is not None else [cell] if str(cell).strip() else []


def _flat(row: Row | BadRow, counts: Counter[str] | None = None) -> Row | BadRow | None:
    """Return a task as a row, None for one without an annotation, and any other row as it is."""
    counts = Counter() if counts is None else counts
    if isinstance(row, BadRow):
        return row
    if not _is_task(row):
        return {name: _of_minimal(value) for name, value in row.items()} if "annotator" in row else row
    annotations = [a for a in _annotations(row) if isinstance(a, Mapping) and not a.get("was_cancelled")]
    annotations = [a for a in annotations if isinstance(a.get("result"), list)]
    if not annotations:
        return None
    counts["further"] += len(annotations) - 1
    flat: Row = {name: value for name, value in row["data"].items() if name != "spans"}
    spans: list[Any] = []
    for result in annotations[0]["result"]:
        value = result.get("value") if isinstance(result, Mapping) else None
        if not isinstance(value, Mapping):
            counts["other"] += 1
        elif (answer := _answer(value)) is not None:
            flat[str(result.get("from_name", "label"))] = answer
        elif isinstance(value.get("labels"), list):
            offsets = value.get("globalOffsets")
            spans.append({**value, **offsets} if isinstance(offsets, Mapping) else dict(value))
        else:
            counts["other"] += 1
    if spans or len(flat) == len(row["data"].keys() - {"spans"}):
        flat["spans"] = spans
    return flat


def _answer(value: Mapping[str, Any]) -> Any:
    """Return the answer of a result: choices, paths of a taxonomy, a rating, a number or a text; else None."""
    if isinstance(value.get("choices"), list):
        return {"choices": value["choices"]}
    paths = value.get("taxonomy")
    if isinstance(paths, list) and all(isinstance(path, list) for path in paths):
        return {"choices": [" / ".join(map(str, path)) for path in paths]}
    if isinstance(value.get("text"), list) and "start" not in value:
        return "\n".join(map(str, value["text"]))
    return next((value[key] for key in ("rating", "number") if isinstance(value.get(key), int | float)), None)


def _of_minimal(value: Any) -> Any:
    """Return the rating or the taxonomy that JSON-MIN has in a list of one object; any other value as it is."""
    single = value[0] if isinstance(value, list) and len(value) == 1 else None
    if isinstance(single, Mapping) and {*single} & {"taxonomy", "rating", "number"}:
        answer = _answer(single)
        return value if answer is None else answer
    return value


def _is_task(row: Row) -> bool:
    return isinstance(row.get("data"), Mapping) and isinstance(_annotations(row), list)


def _annotations(row: Row) -> Any:
    return row.get("annotations", row.get("completions"))


def _choices(row: Row) -> list[tuple[str, list[Any]]]:
    """Return the columns that hold {"choices": [...]}, as JSON_MIN has them too."""
    objects = [(name, value) for name, value in row.items() if isinstance(value, Mapping) and {*value} == {"choices"}]
    return [(name, value["choices"]) for name, value in objects if isinstance(value["choices"], list)]


def _with_labels(row: Row, several: set[str]) -> Row | BadRow:
    """Return a row with its choices as labels, or as lists where any task has several."""
    for name, labels in _choices(row):
        if name not in several and len(labels) > 1:
            return BadRow(f"{len(labels)} choices as '{name}', and one was expected, as in the rows before")
        row = {**row, name: labels if name in several else labels[0] if labels else None}
    return row
