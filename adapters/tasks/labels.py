"""The labels of a cell: one, several or a number; lists written as texts, joined labels, a column for each label."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from numbers import Number
from typing import Any, Final, Literal

from ..data.listed import listed
from .values import is_empty

SINGLE: Final = "single_label_classification"
MULTI: Final = "multi_label_classification"
NUMBER: Final = "regression"
Kind = Literal["single_label_classification", "multi_label_classification", "regression"]

ESCAPES = {"\\n": "\n", "\\t": "\t"}
"""Separators as they are written on a command line."""
_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
_MINUS = "\u2212"
_FLAGS = {"0", "1", "0.0", "1.0"}
_INVISIBLE = "\u200b\u2060\ufeff"
_LOCALE = re.compile(  # 1,123.50, 4,5 with a decimal comma (1,234 may be either) and 85 %
    r"(?P<thousands>[+-]?\d{1,3}(,\d{3})+\.\d+)|(?P<comma>[+-]?(\d+,(\d{1,2}|\d{4,})|0,\d+))|"
    r"(?P<percent>[+-]?\d+([.,]\d+)?)[ \u00a0]?%"
)
_DECIMAL = re.compile(r"[+-].*|0,\d+|\d+,\d{2,}|(\d+),\1")
"""A pair of numbers that is no list of two labels: signed, with a zero before, two digits behind, or equal halves."""
_MOST_NUMBERS = 0.9
"""The share of numbers from which a column holds numbers, and its other cells are faults."""
_DIFFERENT = 10
"""The number of different numbers from which that is assumed."""


def label_text(value: Any, trained_labels: Collection[str] = ()) -> str:
    """Return a label as a text without the spaces around it (see `without_ends`), or as `trained_labels` has it.

    A whole number of a column of fractions, 1.0, is the label of `trained_labels` without a point.
    """
    text = str(value)
    if text in trained_labels:
        return text
    text = without_ends(text)
    integer, point, zeros = text.partition(".")
    return integer if point and integer in trained_labels and zeros and not zeros.strip("0") else text


def without_ends(text: str) -> str:
    """Return a label without the spaces and invisible characters at its ends."""
    return text.strip().strip(_INVISIBLE).strip()


def labels_in(cell: Any, separator: str | None, trained_labels: Collection[str] = ()) -> list[str]:
    """Return the labels of a cell that may hold several. Raises `ValueError` where it holds no list of labels."""
    if isinstance(cell, str):
        parts: Sequence[Any] | None = listed(cell)
        if parts is None and separator:
            parts = [part for part in cell.split(separator) if part.strip()]
    else:
        parts = [cell] if separator and is_scalar(cell) else cell
    if separator and is_empty(cell):
        parts = []
    if isinstance(parts, list) and _is_vector(parts) and _names_flags(parts, trained_labels):
        return flagged(list(trained_labels), parts)
    if not isinstance(parts, list | tuple) or not all(is_scalar(part) and not is_empty(part) for part in parts):
        raise ValueError(f"is {str(cell)[:60]}, but a list of labels was expected")
    return list(dict.fromkeys(label_text(part, trained_labels) for part in parts))


def _is_vector(parts: Sequence[Any]) -> bool:
    """Return whether a list is one of zeros and ones, also as fractions."""
    return len(parts) > 1 and all(is_scalar(part) and str(part) in _FLAGS for part in parts)


def _names_flags(parts: Sequence[Any], labels: Collection[str]) -> bool:
    return len(parts) == len(labels) and not _FLAGS & set(labels)


def vector_length(cells: Iterable[Any]) -> int:
    """Return the length of lists of zeros and ones with one for each label; 0 where cells hold other lists.

    Lists of the labels 0 and 1 have none of them twice.
    """
    lists = [listed(cell) if isinstance(cell, str) else cell for cell in cells]
    lengths = {len(cell) if isinstance(cell, list) and _is_vector(cell) else 0 for cell in lists}
    repeated = any(isinstance(cell, list) and len(set(map(str, cell))) < len(cell) for cell in lists)
    return lengths.pop() if len(lengths) == 1 and repeated else 0


def are_probabilities(cells: Iterable[Any]) -> bool:
    """Return whether lists hold fractions, of which some are neither 0 nor 1: no labels, but their probabilities."""
    parts = [part for cell in cells if isinstance(cell, list) for part in cell]
    return bool(parts) and all(isinstance(part, float) for part in parts) and any(part % 1 for part in parts)


def flagged(names: Sequence[str], cells: Sequence[Any]) -> list[str]:
    """Return the names of the columns, one for each label, that hold 1. Raises `ValueError` for another value."""
    for name, cell in zip(names, cells, strict=True):
        if str(cell).strip().lower() not in _YES | _NO:
            shown = "empty" if is_empty(cell) else str(cell)[:60]
            raise ValueError(f"{name} is {shown}, but 0 or 1 was expected")
    return [name for name, cell in zip(names, cells, strict=True) if str(cell).strip().lower() in _YES]


def is_scalar(value: Any) -> bool:
    """Return whether a value can be a label: a text, a number, true or false."""
    return isinstance(value, str | Number)


def number_in(cell: Any) -> float | None:
    """Return a cell as a finite number, also one with a decimal comma or a percent sign; None for any other."""
    number = _parsed(cell)
    return number if number is not None and math.isfinite(number) else None


def kind_of(cells: Iterable[Any]) -> Kind:
    """Return what a column of labels holds: lists of labels, numbers with a point, or a label a cell.

    A column of many different numbers is one of numbers although a few cells aren't, such as n/a or inf.
    """
    filled = [cell for cell in cells if not is_empty(cell) or isinstance(cell, list)]
    if any(isinstance(cell, list | tuple) for cell in filled):
        return MULTI
    if 2 * sum(isinstance(cell, str) and listed(cell) is not None for cell in filled) > len(filled):
        return MULTI
    if _are_decimal_commas(filled):
        return NUMBER
    numbers = [number for cell in filled if (number := _parsed(cell)) is not None]
    pointed = any(
        isinstance(cell, float | Decimal)
        or (isinstance(cell, str) and set(".%") & set(cell) and number_in(cell) is not None)
        for cell in filled
    )
    most = len(numbers) >= _MOST_NUMBERS * len(filled) and len(set(numbers)) >= _DIFFERENT
    return NUMBER if numbers and pointed and (most or len(numbers) == len(filled)) else SINGLE


def _parsed(cell: Any) -> float | None:
    """Return a cell as a number, which may be infinite or NaN; None where it is none."""
    try:
        return float(cell.replace(_MINUS, "-") if isinstance(cell, str) else cell)
    except (TypeError, ValueError, OverflowError):
        return _in_a_locale(cell) if isinstance(cell, str) else None


def _in_a_locale(cell: str) -> float | None:
    """Return a number as spreadsheets write it in some countries, or None."""
    match = _LOCALE.fullmatch(cell.strip())
    if match is None:
        return None
    if match["thousands"]:
        return float(match["thousands"].replace(",", ""))
    return float((match["comma"] or match["percent"]).replace(",", "."))


def has_decimal_comma(cell: Any) -> bool:
    """Return whether a cell is a number with a decimal comma or a percent sign."""
    return isinstance(cell, str) and (match := _LOCALE.fullmatch(cell.strip())) is not None and not match["thousands"]


def has_thousands(cell: Any) -> bool:
    """Return whether a cell is a number whose thousands are separated by commas, 1,123.50."""
    return isinstance(cell, str) and (match := _LOCALE.fullmatch(cell.strip())) is not None and bool(match["thousands"])


def _are_decimal_commas(cells: Sequence[Any]) -> bool:
    """Return whether cells are whole numbers and numbers with a decimal comma, and clearly no lists of two labels."""
    texts = [cell.strip() for cell in cells if isinstance(cell, str)]
    if len(texts) < len(cells) or not all(re.fullmatch(r"[+-]?\d+(,\d+)?", text) for text in texts):
        return False
    commas = [text for text in texts if "," in text]
    return 2 * len(commas) > len(texts) and all(map(has_decimal_comma, commas)) and any(map(_DECIMAL.fullmatch, commas))
