"""Read text files: a text per line, or what their lines show to be fastText's or CoNLL's format."""

from __future__ import annotations

from typing import Literal

from ..blank import is_blank
from .conll import read_conll
from .conll_layout import SAMPLE, looks_like_conll
from .dialect import CSV
from .fasttext import looks_like_fasttext, read_fasttext
from .separated import read_table
from .source import BadRow, NumberedRows, Source

TextFormat = Literal["texts", "conll", "fasttext", "table"]


def text_format(source: Source) -> TextFormat:
    """Return the format of a .txt file: by the options and the named task, else by its first lines."""
    task = source.options.task
    if not source.repeatable:
        return "texts"
    if source.options.separator or source.options.column_names:
        return "table"
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
    return read_table(source, CSV) if form == "table" else _texts(source)


def _texts(source: Source) -> NumberedRows:
    """Read each line that isn't blank as a text."""
    for number, line in enumerate(source.lines(), start=1):
        if not is_blank(line):
            error = source.undecoded(line)
            yield number, BadRow(error) if error else {"text": line.rstrip("\r\n")}
