"""Read tables with a word a row and a column that names its sentence, as the NER corpus on Kaggle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from .source import BadRow, NumberedRows, Row, Source

_SENTENCE = ("sentence #", "sentence_id", "sentence id", "sent_id", "sentence_number")
_WORD, _TAG = ("word", "token"), ("tag", "ner_tag", "ner")
Columns = tuple[str, str, str]


def by_sentence(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Return a row of words and tags for each sentence of such a table; rows of other tables as they are.

    A sentence begins where its column has another value; it may be empty on the rows after the first.
    """
    head = list(islice(numbered, 1))
    columns = _columns(head[0][1]) if head and source.repeatable else None
    rows = chain(head, numbered)
    if columns is None:
        yield from rows
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
    found = [next((by_lower[name] for name in names if name in by_lower), None) for names in (_SENTENCE, _WORD, _TAG)]
    sentence, word, tag = found
    return None if sentence is None or word is None or tag is None else (sentence, word, tag)


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
