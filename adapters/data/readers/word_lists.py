"""Read tables whose cells hold the words and the tags of a sentence: as lists, or joined by spaces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

from ..listed import listed
from .conll_layout import TAG
from .source import BadRow, NumberedRows, Row, Source

PEEK = 1000
_WORDS = ("tokens", "words", "sentence", "text")
_TAGS = ("ner_tags", "tags", "slots", "pos_tags", "chunk_tags", "bio_tags", "ner", "iob_tags", "upos", "pos", "labels")
_RENAMED = ("tag", "ner_tag", "entities", "label")
_LABELS = {"label", "intent", "category", "class"}
"""Columns beside tags that make a table one of labelled texts, unless the task is named."""
_NEARLY_ALL = 0.9


def with_word_lists(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Return rows with lists of words and tags, where nearly all first rows have as many tags as words in two cells.

    Rows of other tables, of other tasks and of a stream are returned as they are.
    """
    if not source.repeatable or source.options.task not in (None, "token-classification"):
        yield from numbered
        return
    head = list(islice(numbered, PEEK))
    read = [row for _, row in head if not isinstance(row, BadRow)]
    columns, words = _columns(source, read), _words_alone(source, read)
    rows = chain(head, numbered)
    if columns is None:
        yield from rows if words is None else _with_words(source, rows, words)
        return
    for line, row in rows:
        yield line, row if isinstance(row, BadRow) else _unfolded(row, *columns)
    source.notes.append(f"columns '{columns[0]}' and '{columns[1]}' hold words and tags as texts: read as lists")


def _words_alone(source: Source, rows: Sequence[Row]) -> str | None:
    """Return the column of a table to predict whose cells are lists of words as texts, or None."""
    name = next((name for name in (rows[0] if rows else ()) if name.lower() in ("tokens", "words")), None)
    if name is None or not source.options.every_row:
        return None
    cells = [row.get(name) or "[]" for row in rows]
    lists = [listed(cell) if isinstance(cell, str) else None for cell in cells]
    return name if None not in lists and any(lists) else None


def _with_words(source: Source, rows: NumberedRows, column: str) -> NumberedRows:
    for line, row in rows:
        yield line, row if isinstance(row, BadRow) else {**row, column: _items(row.get(column, ""))}
    source.notes.append(f"column '{column}' holds words as texts: read as lists")


def _unfolded(row: Row, words: str, tags: str) -> Row:
    """Return a row with lists of words and tags; a text of words stays beside them."""
    items, named = _items(row[tags]), "ner_tags" if tags.lower() in _RENAMED else tags
    read: Row = {words if words.lower() in ("tokens", "words") else "tokens": _items(row[words])}
    if listed(row[words]) is None:
        read["text"] = row[words]
    return {**read, named: items, **{name: cell for name, cell in row.items() if name not in (*read, words, tags)}}


def _items(cell: str) -> list[str]:
    """Return the items of a list that a cell holds, or else its words."""
    items = listed(cell)
    return cell.split() if items is None else items


def _columns(source: Source, rows: Sequence[Row]) -> tuple[str, str] | None:
    """Return the columns of the words and of the tags, or None."""
    by_lower = {name.lower(): name for name in rows[0]} if rows else {}
    for tags in (by_lower[name] for name in (*_TAGS, *_RENAMED) if name in by_lower):
        if source.options.task is None and {*by_lower} & _LABELS - {tags.lower()}:
            continue
        cells = [cell if isinstance(cell := row.get(tags), str) else "" for row in rows]
        several = 2 * sum(len(_items(cell)) > 1 for cell in cells) > len(cells)  # else a word a row
        items = [tag for cell in cells for tag in _items(cell)]
        are_tags = bool(items) and all(map(TAG.fullmatch, items)) and any("-" in tag for tag in items)
        for words in (by_lower[name] for name in _WORDS if name in by_lower):
            texts = [cell if isinstance(cell := row.get(words), str) else "" for row in rows]
            lists = all(listed(cell) is not None for cell in (*cells, *texts))
            as_many = sum(len(_items(text)) == len(_items(cell)) for text, cell in zip(texts, cells, strict=True))
            if several and (lists or are_tags) and as_many >= _NEARLY_ALL * len(rows):
                return words, tags
    return None
