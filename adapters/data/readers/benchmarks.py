"""Read benchmarks whose files nest the choices of a question, or several questions, in an object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .source import BadRow, Row

_LISTS = ("questions", "options", "answers")
"""The lists of RACE's articles, with a value for each question."""


def has_stem(row: Row) -> bool:
    """Return whether the question of an object holds the stem and the choices, as in ARC."""
    question = row.get("question")
    return isinstance(question, Mapping) and isinstance(question.get("stem"), str) and "choices" in question


def with_stem(row: Row, left_out: Counter[tuple[str, str]], every: bool) -> Iterator[Row | BadRow]:
    """Yield the row of such a question."""
    question: Mapping[str, Any] = row["question"]
    more = {key: value for key, value in question.items() if key not in ("stem", "choices") and key not in row}
    yield {**row, "question": question["stem"], "choices": question["choices"], **more}


def is_article(row: Row) -> bool:
    """Return whether an object is one of RACE's articles, with lists of questions, options and answers."""
    lists = [row.get(name) for name in _LISTS]
    return isinstance(row.get("article"), str) and all(isinstance(values, list) for values in lists)


def article_questions(row: Row, left_out: Counter[tuple[str, str]], every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each question of an article."""
    lists = [row[name] for name in _LISTS]
    if len({*map(len, lists)}) != 1:
        counts = ", ".join(f"{len(values)} {name}" for name, values in zip(_LISTS, lists, strict=True))
        yield BadRow(f"an article with {counts}; the same number was expected")
        return
    others = {key: value for key, value in row.items() if key not in _LISTS}
    for question, options, answer in zip(*lists, strict=True):
        yield {**others, "question": question, "options": options, "answer": answer}
