"""Read rows from a spreadsheet's first sheet: xlsx, xls or ods."""

from __future__ import annotations

import datetime
from typing import Any

from ...errors import DataError
from .hidden_cells import hidden_cells
from .preamble import titles_above
from .source import NumberedRows, Source
from .table import Header, chosen_header


def read_spreadsheet(source: Source) -> NumberedRows:
    """Read the first visible sheet with content as texts, as the same table saved as csv holds them, under a header.

    Raises `DataError` where the package python-calamine isn't installed.
    """
    source.unit = "row"
    sheet = [[_text(value) for value in values] for values in _sheet(source)]
    above = 0 if source.options.column_names else titles_above(sheet)
    if above:
        source.notes.append(f"left out above the header: {' | '.join(c[0] for c in sheet[:above] if any(c))[:80]}")
    filled = [cells for cells in sheet[above:] if any(cells)]
    header = chosen_header(source, filled)
    for number, cells in enumerate(sheet, start=1):
        if number <= above:
            continue
        if header is None:
            if any(cells):
                header = Header(source, number, cells)
                header.check(filled[1:])
        else:
            yield from header.placed(number, cells)
    if header is not None:
        header.finish()
    source.reached = source.size


def _sheet(source: Source) -> list[list[Any]]:
    """Return the cells of the first sheet that has any, visible ones first, and note what is hidden and not read."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum
    except ImportError:
        raise DataError(
            f"{source.name}: spreadsheets need python-calamine: pip install 'adapterkit[excel]'; or save it as csv"
        ) from None
    try:
        with CalamineWorkbook.from_path(source.path) as book:
            visible = {sheet.name: sheet.visible == SheetVisibleEnum.Visible for sheet in book.sheets_metadata}
            names = sorted(book.sheet_names, key=lambda name: not visible.get(name, True))
            sheets = {name: _cells(source, book.get_sheet_by_name(name)) for name in names}
    except (CalamineError, OSError, ValueError) as error:
        raise DataError(f"{source.name}: a spreadsheet was expected: {str(error).splitlines()[0]}") from error
    filled = {
        name: rows for name, rows in sheets.items() if any(cell not in ("", None) for row in rows for cell in row)
    }
    if not filled:
        return []
    first, *others = filled
    if others or not visible.get(first, True):
        hidden = {name: "" if visible.get(name, True) else " (hidden)" for name in filled}
        unread = f"; not read: {', '.join(name + hidden[name] for name in others)}" if others else ""
        source.notes.append(f"sheet '{first}'{hidden[first]} is read{unread}")
    rows, columns = hidden_cells(source.path, first)
    source.count(rows, "hidden row is read like the others", "hidden rows are read like the others")
    source.count(columns, "hidden column is read like the others", "hidden columns are read like the others")
    return filled[first]


def _cells(source: Source, sheet: Any) -> list[list[Any]]:
    """Return the cells of a sheet, with the value of merged cells in each of their rows, without a merged title."""
    rows: list[list[Any]] = sheet.to_python(skip_empty_area=False)
    repeated = titles = 0
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        if top >= len(rows) or left >= len(rows[top]):
            continue
        others = [cell for i, cell in enumerate(rows[top]) if not left <= i <= right]
        if right > left and not any(cell not in ("", None) for cell in others):
            titles += 1
            rows[top] = [""] * len(rows[top])
        for row in rows[top + 1 : bottom + 1] if left == right else ():
            row[left] = rows[top][left]
            repeated += 1
    source.count(titles, "row of a merged title left out", "rows of merged titles left out")
    source.count(repeated, "merged cell filled with its value", "merged cells filled with their values")
    return rows


def _text(value: Any) -> str:
    """Return a cell as a csv file holds it: whole numbers without a point, dates as in ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return str(int(value))
    return value.isoformat(" ") if isinstance(value, datetime.datetime) else str(value)
