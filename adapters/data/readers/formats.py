"""The file formats that are read, and how a file is opened."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import DataError
from .arrow import read_arrow, read_parquet
from .brat import read_brat, read_brat_folder
from .conll import read_conll
from .json_files import read_json, read_jsonl
from .nlu import read_rasa
from .separated import read_csv, read_tsv
from .source import BadRow, NumberedRows, ReadOptions, Row, Source
from .spreadsheet import read_spreadsheet
from .text_lines import read_txt, text_format

READERS: dict[str, Callable[[Source], NumberedRows]] = {
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
    ".ann": read_brat,
    ".xlsx": read_spreadsheet,
    ".xls": read_spreadsheet,
    ".ods": read_spreadsheet,
    ".yml": read_rasa,
    ".yaml": read_rasa,
}
"""The reader of each format, by the suffix of a file's name."""


PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""The suffixes of packed files, which are not read."""


def rows(path: str, tag_column: int | None = None, *, options: ReadOptions | None = None) -> Iterator[tuple[int, Row]]:
    """Yield (line, row) for each row of a file in one of the formats of `READERS`.

    `tag_column` is short for options with it alone. Raises `DataError`, with file and line, at the first row that can't
    be read; `open_rows` continues.
    """
    with open_rows(path, options or ReadOptions(tag_column=tag_column)) as (source, numbered):
        for line, row in numbered:
            if isinstance(row, BadRow):
                source.fail(line, row.reason)
            yield line, row


@contextmanager
def open_rows(path: str, options: ReadOptions | None = None) -> Iterator[tuple[Source, NumberedRows]]:
    """Open a file and return an iterator over its rows, where a row that can't be read is a `BadRow`.

    Raises `DataError` for a file that is missing, of an unknown format, or not in the format of its suffix.
    """
    if is_brat_folder(path):
        source = Source(
            path, sum(file.stat().st_size for file in Path(path).glob("*.ann")), options=options or ReadOptions()
        )
        yield source, read_brat_folder(source)
        return
    with open_file(path) as file:
        source = Source(path, os.fstat(file.fileno()).st_size, file, options or ReadOptions())
        yield source, READERS[Path(path).suffix.lower()](source)


def is_brat_folder(path: str | Path) -> bool:
    """Return whether a path is a folder with files of BRAT."""
    return Path(path).is_dir() and any(Path(path).glob("*.ann"))


def files_of(path: str) -> list[str]:
    """Return the files that the rows of a path come from: BRAT has the text beside its spans."""
    if is_brat_folder(path):
        return [str(file) for file in sorted(Path(path).iterdir()) if file.suffix in (".ann", ".txt")]
    if Path(path).suffix.lower() != ".ann":
        return [path]
    text = Path(path).with_suffix(".txt")
    return [path, str(text)] if text.is_file() else [path]


def holds_texts(path: str, options: ReadOptions) -> bool:
    """Return whether a file holds texts without columns, a text per line; not where there is no such file."""
    if Path(path).suffix.lower() != ".txt" or not Path(path).is_file():
        return Path(path).suffix.lower() == ".txt"
    return text_format(Source(path, 0, options=options)) == "texts"


def open_file(path: str) -> io.BufferedReader:
    """Open a data file, or raise `DataError` with the data files of the folder."""
    if Path(path).suffix.lower() not in READERS:
        inner = Path(path).stem if Path(path).suffix.lower() in PACKED else ""
        hint = f"; unpack it first, to {inner}" if Path(inner).suffix.lower() in READERS else ""
        raise DataError(f"{path}: files that can be read end in {', '.join(READERS)}{hint}")
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
