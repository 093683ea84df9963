"""Read rows from text with a row a line: csv, tsv and plain text."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator

from .source import UNDECODED, Bad, Found, Row, Source, undecoded


class _Lines(Iterator[str]):
    """The lines of a file for csv.reader, to be had again where a quote isn't closed on the lines it took."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines, self.again = iter(lines), deque[str]()
        self.taken: list[str] = []

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self.lines)
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        """Keep the first of the lines taken, and hand out the others once more."""
        self.again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def read_csv(source: Source) -> Found:
    """Read cells between commas, under a header; a quoted one may hold commas and line ends."""
    csv.field_size_limit(1 << 30)
    lines = _Lines(source.lines())
    table = csv.reader(lines, strict=True)
    line, header = 1, None  # a quoted cell may hold line ends, so a row begins where the one before ended
    while True:
        lines.taken.clear()
        try:
            cells: list[str] = next(table)
            row = UNDECODED if undecoded("".join(lines.taken)) else cells
        except StopIteration:
            return
        except csv.Error as error:
            lines.give_back()
            row = str(error)
        if row and header is None:
            header = _header(source, line, row)
        elif row and header is not None:
            yield line, Bad(row) if isinstance(row, str) else _row(header, row)
        line += len(lines.taken)


def read_tsv(source: Source) -> Found:
    """Read cells between tabs, under a header, a row a line."""
    header: list[str] | None = None
    for number, text in enumerate(source.lines(), start=1):
        if not (cells := text.rstrip("\r\n")):
            continue
        row = UNDECODED if undecoded(text) else [_unquoted(cell) for cell in cells.split("\t")]
        if header is None:
            header = _header(source, number, row)
        else:
            yield number, Bad(row) if isinstance(row, str) else _row(header, row)


def _unquoted(cell: str) -> str:
    """Take off quotes that enclose a whole cell; tsv files are written with them and without."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _row(header: list[str], cells: list[str]) -> Row | Bad:
    if len(cells) != len(header):
        return Bad(f"{len(cells)} cells, but the header has {len(header)} columns")
    return dict(zip(header, cells, strict=True))


def _header(source: Source, line: int, cells: list[str] | str) -> list[str]:
    if isinstance(cells, str):
        source.fail(line, cells)
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        source.fail(line, f"column '{twice}' stands in the header twice")
    return names


def read_txt(source: Source) -> Found:
    """Read each line that isn't blank as a text."""
    for number, line in enumerate(source.lines(), start=1):
        if line.strip():
            yield number, Bad(UNDECODED) if undecoded(line) else {"text": line.rstrip("\r\n")}
