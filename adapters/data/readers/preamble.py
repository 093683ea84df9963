"""Find the lines above the header of a table: titles and comments, as spreadsheets and instruments write them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import islice

from .dialect import SAMPLE_ROWS, SEPARATORS, Dialect, inferred, text_rows

MOST_LINES = 20
_NEARLY_ALL = 0.9


def lines_above(sample: Sequence[str], usual: Dialect, separator: str | None) -> int:
    """Return the number of lines above the header of a table, of which `sample` holds the first lines.

    These are comments that begin with #, titles of several words in the first cell alone, and blank lines between
    them; below, nearly all rows are as wide as the header, of at least two cells.
    """
    marks = {*SEPARATORS, separator}
    count = titles = 0
    for line in sample[:MOST_LINES]:
        title, blank = _is_title(line, marks), all(char in marks or char.isspace() for char in line)
        if not (title or blank):
            break
        count, titles = count + 1, titles + title
    if not titles:
        return 0
    dialect = inferred(sample[count:], usual, separator)
    rows = list(islice(text_rows(sample[count:], dialect), SAMPLE_ROWS))
    width = len(rows[0].cells) if rows else 0
    filled = sum(bool(cell.strip()) for cell in rows[0].cells) if rows else 0
    wide = sum(len(row.cells) == width for row in rows)
    if filled < 2 or wide < _NEARLY_ALL * len(rows) or len(rows) < 2:
        return 0
    if any(cell.strip() and cell in row.cells for row in rows[1:] for cell in rows[0].cells):  # a row, not the header
        return 0
    last = next(line for line in reversed(sample[:count]) if _is_title(line, marks))
    header = last.startswith("#") and (dialect.separator == "\t" or not last.startswith("# "))
    return 0 if header and last.count(dialect.separator) == width - 1 else count


def _is_title(line: str, marks: Container[str | None]) -> bool:
    """Return whether a line is a comment, or several words and empty cells."""
    text = line.rstrip(" \r\n")
    title = text.rstrip(text[-1:])
    ends = text[-1:] in marks and text[-1:] not in title
    return line.startswith("#") or (bool(title) and ends and len(title.split()) > 1)


def titles_above(rows: Sequence[Sequence[str]]) -> int:
    """Return the number of rows above the header of a sheet: several words in the first cell, and blank rows."""
    for count, row in enumerate(rows[:MOST_LINES]):
        title = row and len(row[0].split()) > 1 and not any(row[1:])
        if any(row) and not title:
            below = [sum(map(bool, other)) for other in rows[count : count + SAMPLE_ROWS] if any(other)]
            several = len(below) > 1 and 2 * sum(filled > 1 for filled in below) > len(below) and below[0] > 1
            return count if several and any(map(any, rows[:count])) else 0
    return 0
