"""The values of cells: which are empty, and which are texts or can be read as texts."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

from ..data.blank import is_blank
from ..data.column_types import SURROGATE, number_text


def is_missing(value: Any) -> bool:
    """Return whether a cell has no value: None, or NaN, which pandas writes for it."""
    return value is None or (isinstance(value, float) and value != value)


def is_empty(value: Any) -> bool:
    """Return whether a cell holds nothing: no value, nothing visible, an empty list or object, empty texts."""
    if isinstance(value, str):
        return is_blank(value)
    if isinstance(value, list | tuple):
        return all(isinstance(part, str) and is_blank(part) for part in value)
    return is_missing(value) or value == {}


def is_list_of_texts(value: Any) -> bool:
    """Return whether a cell is a list of texts, such as words, sentences or paragraphs."""
    return isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)


def text_of(value: Any) -> str:
    """Return a cell as a text: a number in digits, a list of texts joined by spaces, nothing as the empty text.

    A whole number is the same text whether its column is one of integers or of fractions. Raises `ValueError`, with
    what was expected, for any other value.
    """
    if isinstance(value, str):
        if not value.isascii() and SURROGATE.search(value):
            raise ValueError("holds half of a surrogate pair, which is no character")
        return value
    if is_missing(value):
        return ""
    if isinstance(value, Number):
        return number_text(value)
    if is_list_of_texts(value):
        return text_of(" ".join(value))
    raise ValueError(f"is {str(value)[:60]}, but a text was expected")


def single_text_of(value: Any) -> str:
    """Return a cell as a text, as `text_of` does; of a list, its only text, since several may be alternatives.

    Raises `ValueError` for a list of several and for what is no text.
    """
    if isinstance(value, list | tuple) and len(value) != 1:
        raise ValueError(f"is a list of {len(value)} texts, but one text was expected")
    return text_of(value)


def texts_of(values: Sequence[Any]) -> list[str]:
    """Return a column as texts, as `text_of` reads each cell."""
    return [value if isinstance(value, str) else text_of(value) for value in values]
