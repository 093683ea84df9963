"""Read text files: a text per line, or what their lines show to be fastText's or CoNLL's format."""

from __future__ import annotations

from typing import Literal

from ...errors import DataError
from ..blank import is_blank
from .conll import read_conll
from .conll_layout import SAMPLE, looks_like_conll
from .dialect import CSV, SEPARATORS
from .document_spans import looks_like_pubtator, read_pubtator
from .fasttext import looks_like_fasttext, read_fasttext
from .separated import read_table
from .slashed_words import looks_like_slashed, read_slashed
from .source import BadRow, NumberedRows, Source

TextFormat = Literal["texts", "conll", "fasttext", "table", "pubtator", "slashed"]


def text_format(source: Source) -> TextFormat:
    """Return the format of a .txt file: by the options and the named task, else by its first lines."""
    task = source.options.task
    if not source.repeatable:
        return "texts"
    if source.options.separator or source.options.column_names:
        return "table"
    if task in (None, "token-classification"):
        lines = source.sample(SAMPLE)
        if looks_like_pubtator(lines):
            return "pubtator"
        if looks_like_slashed(lines):
            return "slashed"
    if task == "token-classification":
        return "conll"
    if task not in (None, "text-classification"):
        return "texts"
    lines = source.sample(SAMPLE)
    if looks_like_fasttext(lines):
        return "fasttext"
    return "conll" if task is None and looks_like_conll(lines) else "texts"


def read_txt(source: Source) -> NumberedRows:
    """Read a text file in its format."""
    form = text_format(source)
    if form == "conll":
        if source.options.task is None:
            source.notes.append("read as CoNLL: a word and its tag per line")
        return read_conll(source)
    if form == "fasttext":
        return read_fasttext(source)
    if form == "pubtator":
        return read_pubtator(source)
    if form == "slashed":
        return read_slashed(source)
    if form == "table":
        return read_table(source, CSV)
    if not source.options.every_row and source.repeatable and source.options.task in (None, "text-classification"):
        _check_no_table(source)
    return _texts(source)


def _check_no_table(source: Source) -> None:
    """Raise `DataError` where all lines have as many tabs, or bars, and so are the cells of a table."""
    lines = [line for line in source.sample(SAMPLE) if not is_blank(line)]
    for mark, name in (("\t", "tab"), ("|", "pipe")):
        if len(lines) > 1 and len({line.count(mark) for line in lines}) == 1 and mark in lines[0]:
            raise DataError(
                f"{source.name}: a text per line was expected, but all lines are cells between {SEPARATORS[mark]}; "
                f"--separator {name} reads them as a table, --task text-generation as texts",
                suggestion=("--separator", name),
            )


def _texts(source: Source) -> NumberedRows:
    """Read each line that isn't blank as a text."""
    for number, line in enumerate(source.lines(), start=1):
        if not is_blank(line):
            error = source.undecoded(line)
            yield number, BadRow(error) if error else {"text": line.rstrip("\r\n")}
