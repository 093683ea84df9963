"""Read the choices of a question and which is right, in the forms that data sets have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .cells import from_cell
from .values import is_empty, text_of

_TEXTS, _KEYS = ("text", "texts", "choices", "endings"), ("label", "labels", "key", "keys")
_NUMBERED = re.compile(r"(?:ending|choice|option|sol|hyp|answer|op)_?[a-e\d]")
_LISTED = ("endings", "choices", "options", "choice")
_DISTRACTORS = re.compile(r"distractor_?\d")
_RIGHT = ("correct_answer", "correct")
"""The column of the right choice beside those of the wrong ones, as in SciQ."""


def choice_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return the column of a list of choices, or the columns of one each; empty where there are none.

    >>> choice_columns(["goal", "sol2", "sol1", "label"])
    ('sol1', 'sol2')
    """
    by_lower = {name.lower(): name for name in names}
    if listed := next((by_lower[name] for name in _LISTED if name in by_lower), None):
        return (listed,)
    numbered = sorted(name for name in names if _NUMBERED.fullmatch(name.lower()))
    letters = [letter for letter in "ABCDE" if letter in names]
    wrong = sorted(name for name in names if _DISTRACTORS.fullmatch(name.lower()))
    right = [by_lower[name] for name in _RIGHT if wrong and name in by_lower][:1]
    beside = [*right, *wrong] if right else []
    return next((tuple(columns) for columns in (numbered, letters, beside) if len(columns) > 1), ())


def right_choice(columns: Sequence[str]) -> str | None:
    """Return which of the columns of choices is always the right one, as in SciQ, or None."""
    return next((name for name in columns if name.lower() in _RIGHT), None)


def choices_of(value: Any) -> tuple[list[str], list[str]]:
    """Return the texts of choices, and their keys, such as A to D, where they have some.

    `value` is a list of texts, {"text": [...], "label": [...]}, a list of such objects of one choice each, or {"A": "a
    text", ...}; in a cell of a table, what JSON, Python or numpy write for one. Raises `ValueError` for anything else.
    """
    if isinstance(value, str):
        value = from_cell(value, lambda inner: isinstance(inner, dict | list))
    if isinstance(value, Mapping):
        value = {key: inner for key, inner in value.items() if inner is not None}
        texts = next((value[key] for key in _TEXTS if key in value), None)
        keys = next((value[key] for key in _KEYS if key in value), None)
        if texts is None and value and all(isinstance(key, str) and len(key) <= 2 for key in value):
            keys, texts = zip(*value.items(), strict=True)
    elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
        texts = [next((item[key] for key in _TEXTS if key in item), None) for item in value]
        keys = [next((item[key] for key in _KEYS if key in item), None) for item in value]
        keys = None if any(key is None for key in keys) else keys
    else:
        texts, keys = value, None
    if not isinstance(texts, list | tuple) or any(isinstance(text, Mapping | list | tuple) for text in texts):
        raise ValueError(f"is {str(value)[:60]}, but a list of at least 2 endings was expected")
    if any(map(is_empty, texts)):
        raise ValueError("an ending is empty or no text")
    if len(texts) < 2:
        raise ValueError(f"{len(texts)} endings, but at least 2, were expected")
    if keys is not None and (not isinstance(keys, list | tuple) or len({*map(text_of, keys)}) != len(texts)):
        raise ValueError(
            f"{len(texts)} endings with the labels {str(keys)[:40]}, but a different one for each was expected"
        )
    return [text_of(text) for text in texts], [text_of(key) for key in keys or ()]


def chosen(label: Any, texts: Sequence[str], keys: Sequence[str], first: int) -> int | None:
    """Return the number, from 0, of the choice that a label names, or None where it names none.

    A label is a key of the choices, a number from `first` on, the text of one choice, or a letter from A on.
    """
    if is_empty(label) or isinstance(label, list | tuple | Mapping):
        return None
    text = text_of(label).strip()
    if text in keys:
        return list(keys).index(text)
    if re.fullmatch(r"\d+", text):
        number = int(text) - first
        return number if 0 <= number < len(texts) else None
    if texts.count(text) == 1:
        return list(texts).index(text)
    number = ord(text.upper()) - ord("A") if re.fullmatch("[A-Za-z]", text) else -1
    return number if 0 <= number < len(texts) else None


def names_another(label: Any, texts: Sequence[str], keys: Sequence[str], first: int) -> bool:
    """Return whether a label that numbers a choice is the text of another choice, so that it may be meant as a text."""
    text = "" if is_empty(label) or isinstance(label, list | tuple | Mapping) else text_of(label).strip()
    number = chosen(label, texts, keys, first)
    return text not in keys and number is not None and text in texts and texts[number] != text


def counts_from_1(labels: Sequence[Any], counts: Sequence[int]) -> bool:
    """Return whether labels are numbers of choices from 1 on: none is 0, and one is the number of choices."""
    texts = [text_of(label).strip() for label in labels if not is_empty(label)]
    numbers = [(int(text), count) for text, count in zip(texts, counts, strict=False) if re.fullmatch(r"\d+", text)]
    if len(numbers) < len(texts) or not numbers:
        return False
    return all(number > 0 for number, _ in numbers) and any(number == count for number, count in numbers)
