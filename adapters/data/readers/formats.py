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
from .compressed import SUFFIXES as COMPRESSED
from .compressed import compression_of, decompressed, inner_name, unread_members
from .conll import read_conll
from .json_files import read_json, read_jsonl
from .label_folders import labelled_files, read_label_folder
from .nlu import read_rasa
from .saved_sets import is_saved_set, read_saved_set, saved_files
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
    ".iob2": read_conll,
    ".conllup": read_conll,
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


_ALONE = READERS.keys() - {".ann"}
"""The formats of compressed files: those of one file."""
_ZIPPED = {".xlsx", ".xls", ".ods"}
"""The formats that are zip archives themselves."""


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
    if is_saved_set(path):
        source = Source(path, sum(file.stat().st_size for file in saved_files(path)), options=options or ReadOptions())
        yield source, read_saved_set(source)
        return
    if is_label_folder(path):
        size = sum(file.stat().st_size for file in labelled_files(path))
        source = Source(path, size, options=options or ReadOptions())
        yield source, read_label_folder(source)
        return
    with open_local(path) as local, open_file(local) as file:
        source = Source(path, os.fstat(file.fileno()).st_size, file, options or ReadOptions(), path=local)
        if local != path and (note := unread_members(path, inner_name(path, _ALONE))):
            source.notes.append(note)
        yield source, READERS[Path(local).suffix.lower()](source)


@contextmanager
def open_local(path: str) -> Iterator[str]:
    """Yield the path of a data file or, of a compressed one, of a temporary file with its content.

    Raises `DataError` for a file that is missing, of an unknown format, damaged, or compressed under another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix in COMPRESSED:
        open_file(path).close()
    elif suffix not in _ZIPPED and (actual := compression_of(path)):
        names = f"{Path(path).name}{actual}" if actual != ".zip" else ".zip or, of a spreadsheet, .xlsx or .ods"
        raise DataError(f"{path}: not {suffix}, but compressed as {actual}; name it {names}")
    with decompressed(path, _ALONE) as local:
        yield local


def is_data_file(path: str | Path) -> bool:
    """Return whether a path has the suffix of a format that is read, or of a compressed file."""
    return Path(path).suffix.lower() in {*READERS, *COMPRESSED}


def format_of(path: str) -> str:
    """Return the suffix of a file's format, in lower case; of a compressed file that of the file in it."""
    return Path(inner_name(path, _ALONE)).suffix.lower()


def stem_of(path: str | Path) -> str:
    """Return the name of a data file without the suffixes of its format and compression.

    >>> stem_of("dev.csv.gz"), stem_of("dev.csv"), stem_of("a.dev.csv")
    ('dev', 'dev', 'a.dev')
    """
    name = Path(path)
    inner = Path(name.stem) if name.suffix.lower() in COMPRESSED else name
    return inner.stem if inner.suffix.lower() in READERS else inner.name


def is_brat_folder(path: str | Path) -> bool:
    """Return whether a path is a folder with files of BRAT."""
    return Path(path).is_dir() and any(Path(path).glob("*.ann"))


def is_data_folder(path: str | Path) -> bool:
    """Return whether the files of a folder are the rows of one split: of BRAT, of a saved data set, or of labels."""
    return is_brat_folder(path) or is_saved_set(path) or is_label_folder(path)


def is_label_folder(path: str | Path) -> bool:
    """Return whether a path is a folder with a folder for each label, of files that aren't rows themselves."""
    files = labelled_files(path)
    return bool(files) and not any(is_data_file(file) for file in files)


def files_of(path: str) -> list[str]:
    """Return the files that the rows of a path come from: BRAT has the text beside its spans."""
    if is_saved_set(path):
        return list(map(str, saved_files(path)))
    if is_brat_folder(path):
        return [str(file) for file in sorted(Path(path).iterdir()) if file.suffix in (".ann", ".txt")]
    if is_label_folder(path):
        return list(map(str, labelled_files(path)))
    if Path(path).suffix.lower() != ".ann":
        return [path]
    text = Path(path).with_suffix(".txt")
    return [path, str(text)] if text.is_file() else [path]


def holds_texts(path: str, options: ReadOptions) -> bool:
    """Return whether a file holds texts without columns, a text per line; not where there is no such file."""
    if not Path(path).is_file():
        return Path(path).suffix.lower() == ".txt"
    if format_of(path) != ".txt":
        return False
    with open_local(path) as local:
        return text_format(Source(path, 0, options=options, path=local)) == "texts"


def open_file(path: str) -> io.BufferedReader:
    """Open a data file, or raise `DataError` with the data files of the folder."""
    if path.startswith("demo:"):
        name = path.partition("/")[0]  # remarks name a split of a demo data set as demo:NAME/train.csv
        raise DataError(f"'{path}' is no file; a demo data set is named by --dataset {name}")
    if not is_data_file(path):
        read = f"files that can be read end in {', '.join(READERS)}; compressed, in {', '.join(COMPRESSED)} after that"
        raise DataError(f"{path}: {read}")
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
    files = [p for p in folder.iterdir() if is_data_file(p)] if folder.is_dir() else []
    names = [p.name for p in sorted(files, key=lambda p: (p.suffix != suffix, p.name))][:8]
    return f"; '{folder}' holds {', '.join(names)}" if names else ""
