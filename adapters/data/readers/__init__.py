"""Read the rows of a data file, one at a time, each with the line it stands on."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import DataError
from .arrow import read_arrow, read_parquet, table_rows
from .conll import read_conll
from .json_files import read_json, read_jsonl
from .separated import read_csv, read_tsv, read_txt
from .source import VERSION, Bad, Found, Row, Source, encoding

__all__ = [
    "READERS",
    "VERSION",
    "Bad",
    "Found",
    "Row",
    "Source",
    "encoding",
    "open_file",
    "opened",
    "rows",
    "table_rows",
]


READERS: dict[str, Callable[[Source], Found]] = {
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".tsv": read_tsv,
    ".json": read_json,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
    ".conll": read_conll,
    ".conllu": read_conll,
    ".iob": read_conll,
    ".bio": read_conll,
    ".txt": read_txt,
}
"""How each kind of file is read, by the end of its name."""


def rows(path: str, tag_column: int | None = None) -> Iterator[tuple[int, Row]]:
    """Yield (line, row) for each row of a file in one of the formats of `READERS`.

    Raises `DataError`, with file and line, at the first row that can't be read; `opened` goes on.
    """
    with opened(path, tag_column) as (source, found):
        for line, row in found:
            if isinstance(row, Bad):
                source.fail(line, row.reason)
            yield line, row


@contextmanager
def opened(path: str, tag_column: int | None = None) -> Iterator[tuple[Source, Found]]:
    """Open a file and hand out its rows, none of them read yet; a row that can't be read comes as a `Bad`.

    Raises `DataError` for a file that is missing, of an unknown kind, or not of the kind that its name says.
    """
    with open_file(path) as file:
        source = Source(path, os.fstat(file.fileno()).st_size, file, tag_column)
        yield source, READERS[Path(path).suffix.lower()](source)


def open_file(path: str) -> io.BufferedReader:
    """Open a data file, or raise `DataError` and say which files there are."""
    if Path(path).suffix.lower() not in READERS:
        raise DataError(f"{path}: files that can be read end in {', '.join(READERS)}")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise DataError(f"no file '{path}'{_nearby(path)}") from None
    except IsADirectoryError:
        raise DataError(f"'{path}' is a folder, and a file was expected") from None
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror}") from None


def _nearby(path: str) -> str:
    folder, suffix = Path(path).parent, Path(path).suffix
    files = [p for p in folder.iterdir() if p.suffix.lower() in READERS] if folder.is_dir() else []
    names = [p.name for p in sorted(files, key=lambda p: (p.suffix != suffix, p.name))][:8]
    return f"; '{folder}' holds {', '.join(names)}" if names else ""
