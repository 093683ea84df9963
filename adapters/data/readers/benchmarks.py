"""Read benchmarks whose files nest the choices of a question, or several questions, in an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .source import BadRow, NumberedRows, Row, Source

_LISTS = ("questions", "options", "answers")
"""The lists of RACE's articles, with a value for each question."""


def unnested(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Return rows with a text as the question and a question each, where the file has ARC's or RACE's objects."""
    stems = articles = 0
    for line, row in numbered:
        if isinstance(row, BadRow):
            yield line, row
        elif _has_stem(row):
            stems += 1
            yield line, _with_stem(row)
        elif is_article(row):
            articles += 1
            yield from ((line, question) for question in _questions(row))
        else:
            yield line, row
    source.count(
        stems,
        "question with a stem: read as question and choices",
        "questions with a stem: read as question and choices",
    )
    source.count(
        articles, "article with several questions: a row for each", "articles with several questions: a row for each"
    )


def _has_stem(row: Row) -> bool:
    question = row.get("question")
    return isinstance(question, Mapping) and isinstance(question.get("stem"), str) and "choices" in question


def _with_stem(row: Row) -> Row:
    question: Mapping[str, Any] = row["question"]
    more = {key: value for key, value in question.items() if key not in ("stem", "choices") and key not in row}
    return {**row, "question": question["stem"], "choices": question["choices"], **more}


def is_article(row: Row) -> bool:
    """Return whether an object is one of RACE's articles, with lists of questions, options and answers."""
    lists = [row.get(name) for name in _LISTS]
    return isinstance(row.get("article"), str) and all(isinstance(values, list) for values in lists)


def _questions(row: Row) -> Iterator[Row | BadRow]:
    lists = [row[name] for name in _LISTS]
    if len({*map(len, lists)}) != 1:
        counts = ", ".join(f"{len(values)} {name}" for name, values in zip(_LISTS, lists, strict=True))
        yield BadRow(f"an article with {counts}; the same number was expected")
        return
    others = {key: value for key, value in row.items() if key not in _LISTS}
    for question, options, answer in zip(*lists, strict=True):
        yield {**others, "question": question, "options": options, "answer": answer}
