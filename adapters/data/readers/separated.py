"""Read rows from text with a row per line: csv, tsv and plain text."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator

from .source import UNDECODED, BadRow, NumberedRows, Row, Source, undecoded

LONGEST_CELL = 1 << 30
"""The most characters of a cell in a csv file."""


class _Lines(Iterator[str]):
    """The lines of a file for csv.reader, which can be read again where a quote isn't closed on the consumed lines."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines, self.returned = iter(lines), deque[str]()
        self.consumed: list[str] = []  # since the last row ended

    def __next__(self) -> str:
        line = self.returned.popleft() if self.returned else next(self.lines)
        self.consumed.append(line)
        return line

    def return_all_but_first(self) -> None:
        """Yield all but the first of the consumed lines again."""
        self.returned.extendleft(reversed(self.consumed[1:]))
        del self.consumed[1:]


def _next_cells(table: Iterator[list[str]]) -> list[str]:
    """Return the cells of the next row; the limit of their length is the whole process's, so it is restored."""
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        return next(table)
    finally:
        csv.field_size_limit(before)


def read_csv(source: Source) -> NumberedRows:
    """Read comma-separated cells under a header; a quoted cell may hold commas and line ends."""
    lines = _Lines(source.lines())
    table = csv.reader(lines, strict=True)
    line, header = 1, None  # a quoted cell may hold line ends, so a row begins where the one before ended
    while True:
        lines.consumed.clear()
        try:
            cells = _next_cells(table)
            row: list[str] | str = UNDECODED if undecoded("".join(lines.consumed)) else cells
        except StopIteration:
            return
        except csv.Error as error:
            lines.return_all_but_first()
            row = str(error)
        if row and header is None:
            header = _header(source, line, row)
        elif row and header is not None:
            yield line, BadRow(row) if isinstance(row, str) else _row(header, row)
        line += len(lines.consumed)


def read_tsv(source: Source) -> NumberedRows:
    """Read tab-separated cells under a header, a row per line.

    Not by `csv`: most tsv files are written without quotes, and to it a quote at the start of a cell opens a cell of
    several lines.
    """
    header: list[str] | None = None
    for number, text in enumerate(source.lines(), start=1):
        if not (cells := text.rstrip("\r\n")):
            continue
        row = UNDECODED if undecoded(text) else [_unquoted(cell) for cell in cells.split("\t")]
        if header is None:
            header = _header(source, number, row)
        else:
            yield number, BadRow(row) if isinstance(row, str) else _row(header, row)


def _unquoted(cell: str) -> str:
    """Remove quotes that enclose a cell; tsv files are written with them and without."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _row(header: list[str], cells: list[str]) -> Row | BadRow:
    if len(cells) != len(header):
        return BadRow(f"{len(cells)} cells, but the header has {len(header)} columns")
    return dict(zip(header, cells, strict=True))


def _header(source: Source, line: int, cells: list[str] | str) -> list[str]:
    if isinstance(cells, str):
        source.fail(line, cells)
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        source.fail(line, f"column '{twice}' occurs twice in the header")
    return names


def read_txt(source: Source) -> NumberedRows:
    """Read each line that isn't blank as a text."""
    for number, line in enumerate(source.lines(), start=1):
        if line.strip():
            yield number, BadRow(UNDECODED) if undecoded(line) else {"text": line.rstrip("\r\n")}
