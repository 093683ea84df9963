"""Infer how the cells of a text table are separated and quoted, by trying; and cut lines into cells."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

LONGEST_CELL = 1 << 30
"""The most characters of a cell in a csv file."""
SEPARATORS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}
"""The separators that are tried, with their names."""
SAMPLE, SAMPLE_ROWS = 1 << 20, 2000
"""The characters and the rows from which a dialect is inferred."""
_RETURN = "\ufdd0"
"""A code point that no text has, in the place of a carriage return inside of a cell."""


@dataclass(frozen=True)
class Dialect:
    """How the rows of a table are written."""

    separator: str = ","
    quoted: bool = True  # cells in quotes may hold separators and line ends
    spaced: bool = False  # spaces follow separators, also before quotes
    escaped: bool = False  # a quote inside a cell has a backslash before it
    quote: str = '"'
    first_line: bool = False  # the first line is "sep=;"

    def describe(self) -> str:
        """Return the dialect in words."""
        spaces = ", spaces after them removed" if self.spaced else ""
        escapes = ", quotes escaped by backslashes" if self.escaped else ""
        quotes = ", quoted by apostrophes" if self.quote == "'" else ""
        return f"separated by {SEPARATORS.get(self.separator, repr(self.separator))}{spaces}{escapes}{quotes}"


CSV, TSV = Dialect(), Dialect("\t", quoted=False)


class _Lines(Iterator[str]):
    """The lines of a file for csv.reader, which can be read again where a quote isn't closed on the consumed lines."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines, self.returned = iter(lines), deque[str]()
        self.consumed: list[str] = []  # since the last row ended

    def __next__(self) -> str:
        line = self.returned.popleft() if self.returned else next(self.lines)
        if not self.consumed and "\r" in line[:-2] and '"' not in line:  # csv takes it for the end of a row
            line = re.sub("\r(?!\n|$)", _RETURN, line)
        self.consumed.append(line)
        return line

    def return_all_but_first(self) -> None:
        """Yield all but the first of the consumed lines again."""
        self.returned.extendleft(reversed(self.consumed[1:]))
        del self.consumed[1:]


@dataclass(frozen=True)
class TextRow:
    """The cells of a row, with its line and its text; `error` where it can't be cut."""

    line: int
    text: str
    cells: list[str]
    error: str = ""


def text_rows(lines: Iterable[str], dialect: Dialect, *, blank: bool = False) -> Iterator[TextRow]:
    """Cut lines into rows of cells, without blank lines, or with `blank` ones as rows without cells."""
    numbered = _quoted_rows(lines, dialect) if dialect.quoted else _split_lines(lines, dialect)
    for row in numbered:
        if (row.cells or row.error or blank) and not (dialect.first_line and row.line == 1):
            yield row


def _split_lines(lines: Iterable[str], dialect: Dialect) -> Iterator[TextRow]:
    """Cut each line at its separators.

    Not by `csv`: most tsv files are written without quotes, and to it a quote at the start of a cell opens a cell of
    several lines.
    """
    for number, text in enumerate(lines, start=1):
        line = text.rstrip("\r\n")
        yield TextRow(number, text, [_unquoted(cell) for cell in line.split(dialect.separator)] if line else [])


def _unquoted(cell: str) -> str:
    """Remove quotes that enclose a cell; tsv files are written with them and without."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _quoted_rows(lines: Iterable[str], dialect: Dialect) -> Iterator[TextRow]:
    source = _Lines(lines)
    table = csv.reader(
        source,
        strict=True,
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        skipinitialspace=dialect.spaced,
        escapechar="\\" if dialect.escaped else None,
    )
    line = 1  # a quoted cell may hold line ends, so a row begins where the one before ended
    while True:
        source.consumed.clear()
        try:
            cells, error = _next_cells(table), ""
        except StopIteration:
            return
        except csv.Error as failure:
            source.return_all_but_first()
            cells, error = [], str(failure)
        yield TextRow(line, "".join(source.consumed), cells, error)
        line += len(source.consumed)


def _next_cells(table: Iterator[list[str]]) -> list[str]:
    """Return the cells of the next row; the limit of their length is the whole process's, so it is restored."""
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        cells = next(table)
        return [cell.replace(_RETURN, "\r") for cell in cells] if any(_RETURN in cell for cell in cells) else cells
    finally:
        csv.field_size_limit(before)


# ---- inference


class Fit(NamedTuple):
    """How well a dialect fits a sample; of two, the greater fits better."""

    several: bool  # whether the table has several columns
    share: float  # of rows with as many cells as the header
    tight: bool  # whether any separator isn't followed by a space, as in a text's punctuation


def inferred(sample: Sequence[str], usual: Dialect, separator: str | None = None) -> Dialect:
    """Return the dialect in which the most rows of a sample have as many cells as the header.

    `usual` is preferred where others fit as well; `separator` is the one to use, where the user chose it.
    """
    first = re.fullmatch(r'"?sep=(.)"?\s*', sample[0], re.IGNORECASE) if sample else None
    usual = replace(usual, first_line=bool(first))
    if separator is None and first:
        separator = first[1]
    if separator is not None:
        tried = _dialects(separator, usual, sample)
    else:
        others = [d for mark in SEPARATORS if mark != usual.separator for d in _dialects(mark, usual, sample)]
        tried = [usual, *(d for d in _dialects(usual.separator, usual, sample) if d != usual), *others]
    best, least = tried[0], Fit(False, 0.0, False)
    for dialect in tried:
        fit = _fit(sample, dialect)
        if dialect is best or (fit.several and fit > least):
            best, least = dialect, fit
        if least == Fit(True, 1.0, True):
            break
    return _refined(sample, best, least)


def _dialects(separator: str, usual: Dialect, sample: Sequence[str]) -> list[Dialect]:
    """Return the dialects of a separator, one with apostrophes as quotes where lines look so."""
    quoted = replace(usual, separator=separator, quoted=True)
    plain = [replace(quoted, quoted=False)] if separator == "\t" else []
    return [*plain, quoted, *([replace(quoted, quote="'")] if _has_apostrophes(sample, separator) else [])]


def _has_apostrophes(sample: Sequence[str], separator: str) -> bool:
    """Return whether most lines have a cell that begins with an apostrophe and ends with one, and no quotes."""
    mark = re.escape(separator)
    cell = re.compile(rf"(^|{mark}) *'([^']|'')*'\s*({mark}|$)")
    return sum('"' not in line and cell.search(line) is not None for line in sample) > len(sample) / 2


def _refined(sample: Sequence[str], dialect: Dialect, fit: Fit) -> Dialect:
    """Return the dialect with spaces before quotes, or with escaped quotes, where the sample has them."""
    if not dialect.quoted:
        return dialect
    rows = list(islice(text_rows(sample, dialect), SAMPLE_ROWS))
    variants = []
    if any(re.match(' +"', cell) for row in rows for cell in row.cells):
        variants.append(replace(dialect, spaced=True))
    if any('\\"' in row.text for row in rows if row.error or fit.share < 1):
        variants.append(replace(dialect, escaped=True))
    if _has_apostrophes(sample, dialect.separator):
        variants.append(replace(dialect, quote="'"))
    for variant in variants:
        other = _fit(sample, variant)
        if other[:2] > fit[:2] or (not variant.escaped and other[:2] == fit[:2]):
            return variant
    return dialect


def _fit(sample: Sequence[str], dialect: Dialect) -> Fit:
    rows = list(islice(text_rows(sample, dialect), SAMPLE_ROWS))
    if sum(map(len, sample)) >= SAMPLE:
        rows.pop()  # the sample may end inside of it
    if not rows or rows[0].error:
        return Fit(False, 0.0, False)
    width = len(rows[0].cells)
    good = sum(not row.error and len(row.cells) >= width and not any(row.cells[width:]) for row in rows)
    share = good / len(rows)
    return Fit(width > 1 and share >= 0.5, share, not all(cell.startswith(" ") for r in rows for cell in r.cells[1:]))
