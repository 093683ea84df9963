"""A table with a header: rows from its cells, and notes about columns without a name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ...errors import DataError
from ..blank import without_invisible
from .source import BadRow, Row, Source

LEAST_WORDS = 4
"""The words from which a cell is a sentence."""

_NAME = re.compile(r"[^\W\d][\w-]{0,29}")
_RULE = re.compile(r"[\s:+|]*-{3,}[-\s:+|]*")
"""The line below the header of a table of Markdown or of a database's client."""
_ROW_NAMES = "row_number"
_ROWS = 10
"""The rows from which it is judged whether the first is a header."""


class Header:
    """The names of a table's columns, in order; a column without a name is named by its number, from 1.

    Raises `DataError` where a name occurs twice, or no column has one.
    """

    def __init__(self, source: Source, line: int, cells: list[str]) -> None:
        self.source = source
        self.names = [without_invisible(cell).strip() for cell in cells]
        self.unnamed = {i for i, name in enumerate(self.names) if not name}
        if len(self.unnamed) == len(self.names):
            source.fail(line, f"{len(self.names)} columns without a name; the first row of a table names its columns")
        named = [name for name in self.names if name]
        if len(set(named)) < len(named):
            twice = next(name for name in named if named.count(name) > 1)
            source.fail(line, f"column '{twice}' occurs twice in the header")
        for i in self.unnamed:
            self.names[i] = f"column_{i + 1}"
            while self.names.count(self.names[i]) > 1:
                self.names[i] += "_"
        self.line = line
        self.cells = cells
        self.filled: Counter[int] = Counter()
        self.empty = self.beyond = self.repeated = self.short = self.rules = 0
        self.pending: list[int] = []  # lines of empty rows since the last other one
        self.fills = True  # whether a row may lack its last cells

    def check(self, rows: Sequence[Sequence[str]]) -> None:
        """Raise `DataError` where the names look like a row: by the first `rows` of the table below it.

        Where only some names do, a note reports it. Rows may lack their last cells if most don't.
        """
        others = [row for row in rows if list(row) != self.cells]
        if _are_numbered(others, len(self.cells)):
            self.names, self.cells = [_ROW_NAMES, *self.names], [_ROW_NAMES, *self.cells]
            self.unnamed = {i + 1 for i in self.unnamed}
            self.source.notes.append(f"the header lacks the name of the first column, numbers of rows: '{_ROW_NAMES}'")
        self.fills = 2 * sum(len(row) >= len(self.cells) for row in others) >= len(others)
        if all(cell.strip().isdecimal() for cell in self.cells):  # numbered columns
            return
        for i, cell in enumerate(self.cells):
            again = sum(len(row) > i and row[i] == cell for row in others) if cell.strip() else 0
            if again >= max(2, len(others) / 200):
                self._fail(f"'{cell[:40]}' occurs in {again:,} rows below it, too")
            if (
                cell.startswith("__label__")
                or re.fullmatch(r"-?\d+\.\d+|[BI]-[A-Z]{2,}", cell)
                or len(cell.split()) > 10
                or "\r" in cell
            ):
                self._fail(f"'{cell[:40]}' is no name of a column")
        alike = [
            cell for i, cell in enumerate(self.cells) if is_like_values(cell, [r[i] for r in others if len(r) > i])
        ]
        if alike and len(alike) == len([cell for cell in self.cells if cell.strip()]):
            self._fail(f"'{alike[0][:40]}' looks like a value of its column")
        if alike:
            self.source.notes.append(
                f"the first row is read as the header, but '{alike[0][:40]}' looks like a value of its column; "
                "--column-names names the columns of a table without a header"
            )

    def _fail(self, why: str) -> None:
        names = ",".join(f"name_{i + 1}" for i in range(len(self.names)))
        self.source.fail(
            self.line,
            f"a header was expected, but {why}; name the columns of a table without a header: --column-names {names}",
        )

    def placed(self, line: int, cells: list[str]) -> Iterator[tuple[int, Row | BadRow]]:
        """Yield a row; of a table to predict also the empty rows before it, whose places answers must not lose."""
        if self.source.options.every_row and not any(cells):
            self.pending.append(line)
        elif (row := self.row(cells)) is not None:
            yield from ((number, dict.fromkeys(self.names, "")) for number in self.pending)
            self.pending.clear()
            yield line, row

    def row(self, cells: list[str]) -> Row | BadRow | None:
        """Return the cells of a row by column, or None for a row of empty cells and for the header again.

        Cells without a name are part of a row where they are not empty.
        """
        width = len(self.names)
        if self._is_again(cells) and not self.source.options.column_names and not self.source.options.every_row:
            self.repeated += 1
            return None
        if len(cells) > 1 and not any(cells):
            self.empty += 1
            return None
        if len(cells) > 1 and not self.source.options.every_row and _RULE.fullmatch("".join(cells)):
            self.rules += 1
            return None
        if len(cells) > width and not any(cells[width:]):
            self.beyond += 1
            cells = cells[:width]
        missing = set(range(len(cells), width)) - self.unnamed
        if missing and self.fills:
            self.short += 1
            cells = [*cells, *[""] * (width - len(cells))]
        elif missing or len(cells) > width:
            return BadRow(f"{len(cells)} cells, but the header has {width} columns")
        row = {}
        for i, cell in enumerate(cells):
            if i not in self.unnamed:
                row[self.names[i]] = cell
            elif cell:
                row[self.names[i]] = cell
                self.filled[i] += 1
        return row

    def _is_again(self, cells: list[str]) -> bool:
        """Return whether a row is the header, as where files with a byte order mark each were joined."""
        return cells == self.cells or (
            cells[:1] != self.cells[:1]
            and cells[1:] == self.cells[1:]
            and without_invisible(cells[0]).strip() == self.names[0]
        )

    def finish(self) -> None:
        """Append the notes about the table to those of its source."""
        self.empty += len(self.pending)
        blank = [str(i + 1) for i in sorted(self.unnamed) if not self.filled[i]]
        if blank:
            which = f"columns {', '.join(blank)} have" if len(blank) > 1 else f"column {blank[0]} has"
            self.source.notes.append(f"{which} no name and no content: left out")
        for i in sorted(self.filled):
            count = self.filled[i]
            rows = "1 row" if count == 1 else f"{count:,} rows"
            self.source.notes.append(f"column {i + 1} has no name: read as '{self.names[i]}', filled in {rows}")
        self.source.count(self.repeated, "row repeats the header: left out", "rows repeat the header: left out")
        self.source.count(
            self.short, "row lacks its last cells: read as empty", "rows lack their last cells: read as empty"
        )
        self.source.count(self.rules, "row of dashes left out", "rows of dashes left out")
        self.source.count(self.empty, "row of empty cells skipped", "rows of empty cells skipped")
        self.source.count(
            self.beyond,
            "row has more cells than the header, the others empty: left out",
            "rows have more cells than the header, the others empty: left out",
        )


def _are_numbered(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Return whether all rows have a cell more than the header, first the numbers from 1, as R's write.table writes."""
    numbers = [row[0].strip() for row in rows if len(row) == width + 1]
    return len(numbers) == len(rows) > 1 and numbers == [str(i) for i in range(1, len(rows) + 1)]


def is_like_values(name: str, values: Sequence[str]) -> bool:
    """Return whether a name is one of a table's values: a sentence above sentences, or the number before the next ones.

    A question is a name, as in surveys; so is any other number, such as a year.
    """
    filled = [value for value in values if value.strip()]
    if not filled:
        return False
    if name.strip().isdecimal():
        return [value.strip() for value in filled[:3]] == [str(int(name) + i) for i in range(1, len(filled[:3]) + 1)]
    words = sorted(len(value.split()) for value in filled)
    return len(name.split()) >= LEAST_WORDS <= words[len(words) // 2] and not name.rstrip().endswith(("?", ":"))


def chosen_header(source: Source, rows: Sequence[Sequence[str]]) -> Header | None:
    """Return the header that the options name for a table without one, or None where they name none.

    Raises `DataError` where the first of `rows` has another number of cells.
    """
    names = source.options.column_names
    if not names:
        return None
    if rows and len(rows[0]) != len(names):
        raise DataError(f"{source.name}: {len(names)} column names, but the first row has {len(rows[0])} cells")
    if _looks_like_header(rows):
        shown = ", ".join(rows[0])
        source.notes.append(
            f"the first row ({shown}) looks like a header, and is read as a row: give no --column-names"
        )
    return Header(source, 1, list(names))


def _looks_like_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a first row has short names, none of which occurs again where the values of a column do."""
    if len(rows) < _ROWS or not all(_NAME.fullmatch(cell.strip()) for cell in rows[0]):
        return False
    columns = [[row[i] for row in rows[1:] if len(row) > i] for i in range(len(rows[0]))]
    repeated = [
        (cell, values) for cell, values in zip(rows[0], columns, strict=True) if 2 * len(set(values)) <= len(values)
    ]
    return bool(repeated) and all(cell not in values for cell, values in repeated)
