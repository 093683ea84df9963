"""Read tables with a word a row: a column names its sentence, as in the NER corpus on Kaggle, or empty rows end it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from .dialect import SAMPLE
from .source import BadRow, NumberedRows, Row, Source

_SENTENCE = ("sentence #", "sentence_id", "sentence id", "sent_id", "sentence_number")
_WORD, _TAG = ("word", "token"), ("tag", "ner_tag", "ner")
_WORDS, _TAGS = (*_WORD, "words", "tokens"), (*_TAG, "tags", "ner_tags", "label", "labels", "bio", "iob", "entity")
"""The names of columns where empty rows end sentences."""
Columns = tuple[str, str, str]


def by_sentence(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Return a row of words and tags for each sentence of such a table; rows of other tables as they are.

    A sentence begins where its column has another value; it may be empty on the rows after the first.
    """
    head = list(islice(numbered, 1))
    columns = _columns(head[0][1]) if head and source.repeatable else None
    rows = chain(head, numbered)
    if columns is None:
        pair = _pair(head[0][1]) if head and source.repeatable else None
        yield from rows if pair is None or not _has_gaps(source) else _between_gaps(source, rows, pair)
        return
    words = sentences = 0
    for line, row in _sentences(rows, columns):
        if not isinstance(row, BadRow):
            words, sentences = words + len(row["tokens"]), sentences + 1
        yield line, row
    source.notes.append(f"{words:,} rows of a word each read as {sentences:,} sentences, by column '{columns[0]}'")


def _columns(row: Row | BadRow) -> Columns | None:
    """Return the columns of the sentence, the word and the tag, or None."""
    if isinstance(row, BadRow):
        return None
    by_lower = {name.lower(): name for name in row}
    sentence, word, tag = (
        next((by_lower[name] for name in names if name in by_lower), None) for names in (_SENTENCE, _WORD, _TAGS)
    )
    return None if sentence is None or word is None or tag is None else (sentence, word, tag)


def _pair(row: Row | BadRow) -> tuple[str, str] | None:
    """Return the columns of the word and the tag, or None."""
    if isinstance(row, BadRow):
        return None
    by_lower = {name.lower(): name for name in row}
    word, tag = (next((by_lower[name] for name in names if name in by_lower), None) for names in (_WORDS, _TAGS))
    return None if word is None or tag is None else (word, tag)


def _has_gaps(source: Source) -> bool:
    """Return whether an empty row is between others, among the first ones."""
    filled = [bool(line.strip(' \t\r\n,;|"')) for line in source.sample(SAMPLE)]
    return any(not filled[i] and filled[i + 1] for i in range(1, len(filled) - 1))


def _between_gaps(source: Source, rows: NumberedRows, pair: tuple[str, str]) -> NumberedRows:
    """Yield a row of words, tags and lists of the other cells for each run of rows on neighbouring lines."""
    word, tag = pair
    current: Row = {}
    start = behind = words = sentences = 0
    for line, row in rows:
        if isinstance(row, BadRow):
            yield line, row
            continue
        empty = not any(row.values())
        if current and (line > behind or empty):
            yield start, current
            current = {}
        if empty:
            continue
        if not current:
            start, sentences = line, sentences + 1
        for name, cell in row.items():
            column = {word: "tokens", tag: "tags"}.get(name, name)
            current.setdefault(column, []).append(cell)
        words += 1
        behind = line + 1 + sum(str(cell).count("\n") for cell in row.values())
    if current:
        yield start, current
    source.notes.append(f"{words:,} rows of a word each read as {sentences:,} sentences, which empty rows end")


def _sentences(rows: NumberedRows, columns: Columns) -> Iterator[tuple[int, Row | BadRow]]:
    sentence, word, tag = columns
    current: Row = {}
    start = 0
    for line, row in rows:
        if isinstance(row, BadRow):
            yield line, row
            continue
        name = row.get(sentence) or current.get(sentence, "")
        if not current or name != current[sentence]:
            if current:
                yield start, current
            current, start = {sentence: name, "tokens": [], "tags": []}, line
        current["tokens"].append(row.get(word, ""))
        current["tags"].append(row.get(tag, ""))
    if current:
        yield start, current
