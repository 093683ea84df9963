"""Read the answers of a question in the forms that data sets have: SQuAD's, lists of objects, texts, tables' cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any, cast

from ..data.blank import is_blank
from ..data.column_types import number_text
from .cells import from_cell

Answer = tuple[str, int | None]
"""An answer's text, and its first character in the context where that is written."""


def answers_of(value: Any, start: Any = None) -> list[Answer]:
    """Return the answers of a row, none where the question has no answer; empty texts are no answers.

    `value` is a text, {"text": ..., "answer_start": ...} with texts or lists, or a list of texts or such objects; in a
    cell of a table, also what pandas writes for one of these. `start` is the place of an answer that is a text. Raises
    `ValueError` for anything else.
    """
    if isinstance(value, str):
        value = from_cell(value, _fits)
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return []
    return [(text, place) for text, place in _answers(value, start) if not is_blank(text)]


def is_form(cell: str) -> bool:
    """Return whether a text is the JSON, or Python's notation, of answers."""
    return not isinstance(from_cell(cell, _fits), str)


def _answers(value: Any, start: Any) -> Iterator[Answer]:
    if isinstance(value, str):
        yield value, _place(start)
    elif isinstance(value, bool) or not isinstance(value, int | float | list | tuple | Mapping):
        raise ValueError(f"a text or a list of answers was expected, got {_shown(value)}")
    elif isinstance(value, int | float):
        yield number_text(cast(Number, value)), _place(start)
    elif isinstance(value, Mapping):
        yield from _object(value)
    else:
        starts = start if isinstance(start, list | tuple) else [start] * len(value)
        if len(starts) != len(value):
            raise ValueError(f"{len(value)} answers, but {len(starts)} places")
        for item, place in zip(value, starts, strict=True):
            if isinstance(item, list | tuple):
                raise ValueError(f"a text or an object with 'text' was expected as an answer, got {_shown(item)}")
            yield from () if item is None else _answers(item, place)


def _object(value: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the answers of {"text": ..., "answer_start": ...}, each a value or a list."""
    if "text" not in value and isinstance(value.get("value"), str):  # Argilla's
        yield value["value"], _place(value.get("answer_start"))
        return
    if "text" not in value:
        raise ValueError(f"an answer is an object with 'text' and 'answer_start', got {_shown(dict(value))}")
    texts, starts = value["text"], value.get("answer_start")
    if texts is None:
        return
    if isinstance(texts, Mapping) or (isinstance(texts, list | tuple) and any(isinstance(t, Mapping) for t in texts)):
        raise ValueError(f"a text was expected as 'text' of an answer, got {_shown(texts)}")
    if isinstance(texts, str) and isinstance(starts, list | tuple):
        starts = next(iter(starts), None)
    yield from _answers(texts, starts)


def _place(value: Any) -> int | None:
    """Return a written place: a whole number, also as a table has it, '12' or 12.0; None where there is none."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        place = float(value)
    except (TypeError, ValueError):
        place = math.nan
    if isinstance(value, bool) or not place.is_integer():
        raise ValueError(f"a whole number was expected as 'answer_start', got {_shown(value)}")
    return None if place == -1 else int(place)  # cdQA's annotator writes -1 where it found no place


def _fits(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str) or (isinstance(item, dict) and "text" in item) for item in items)


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:60]
