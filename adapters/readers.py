"""Read the rows of a data file, one at a time, each with the line it stands on."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from .errors import DataError

Row = dict[str, Any]


def rows(path: str) -> Iterator[tuple[int, Row]]:
    """Yield (line, row) for each row of a csv, tsv or jsonl file.

    Raises `DataError`, with file and line, at the first row that can't be read.
    """
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise DataError(f"{path}: files that can be read end in {', '.join(sorted(READERS))}")
    try:
        with open(path, encoding=encoding(path), newline="") as file:
            yield from reader(path, file)
    except FileNotFoundError:
        raise DataError(f"no file '{path}'{_nearby(path)}") from None
    except IsADirectoryError:
        raise DataError(f"'{path}' is a folder, and a file was expected") from None
    except PermissionError:
        raise DataError(f"'{path}' may not be read") from None


def encoding(path: str) -> str:
    """Return the encoding of a text file: UTF-8 or UTF-16 with or without a mark, else Windows-1252.

    Latin-1 files come out right too, their printable characters being the same.
    """
    with open(path, "rb") as file:
        start = file.read(4)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while piece := file.read(1 << 20):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _nearby(path: str) -> str:
    folder = Path(path).parent
    files = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in READERS)[:8] if folder.is_dir() else []
    return f"; '{folder}' holds {', '.join(files)}" if files else ""


def _csv(path: str, file: TextIO) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(1 << 30)
    lines = csv.reader(file, strict=True)
    first, line = 1, 0  # a quoted cell may hold line ends, so a row begins where the one before ended
    header: list[str] | None = None
    try:
        for cells in lines:
            first, line = line + 1, lines.line_num
            if header is None:
                header = _header(path, cells)
            elif cells:
                yield first, _row(path, first, header, cells)
    except csv.Error as error:
        raise DataError(f"{path}:{line + 1}: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{line + 1}: bytes that are neither UTF-8 nor Windows-1252") from error


def _tsv(path: str, file: TextIO) -> Iterator[tuple[int, Row]]:
    header: list[str] | None = None
    for number, text in enumerate(file, start=1):
        if cells := text.rstrip("\r\n"):
            values = [_unquoted(cell) for cell in cells.split("\t")]
            if header is None:
                header = _header(path, values)
            else:
                yield number, _row(path, number, header, values)


def _unquoted(cell: str) -> str:
    """Take off quotes that enclose a whole cell; tsv files are written with them and without."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _row(path: str, line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise DataError(f"{path}:{line}: {len(cells)} cells, but the header has {len(header)} columns")
    return dict(zip(header, cells, strict=True))


def _header(path: str, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}:1: column '{twice}' stands in the header twice")
    return names


def _jsonl(path: str, file: TextIO) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: a JSON object was expected, not a {type(row).__name__}")
        yield number, row


READERS: dict[str, Callable[[str, TextIO], Iterator[tuple[int, Row]]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
}
"""How each kind of file is read, by the end of its name."""
