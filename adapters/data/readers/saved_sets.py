"""Read a data set that `datasets.Dataset.save_to_disk` wrote: a folder of Arrow files, which state.json lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import DataError
from .arrow import read_arrow
from .source import NumberedRows, Source

_STATE = "state.json"
_FILES = "_data_files"


def is_saved_set(path: str | Path) -> bool:
    """Return whether a path is a folder of `save_to_disk` with the files of one data set."""
    return Path(path, _STATE).is_file() and any(Path(path).glob("*.arrow"))


def saved_files(path: str | Path) -> list[Path]:
    """Return the Arrow files of such a folder in the order of their rows.

    Raises `DataError` where the list of files can't be read, one of them is missing, or rows are chosen by indices.
    """
    state = Path(path, _STATE)
    try:
        listed: Any = json.loads(state.read_text())
        names = [Path(entry["filename"]).name for entry in listed[_FILES]]
        chosen = listed.get("_indices_data_files")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{state}: the state of a data set of save_to_disk was expected") from error
    if chosen:
        raise DataError(f"{path}: rows chosen by indices can't be read; call flatten_indices() before save_to_disk()")
    files = [Path(path, name) for name in names]
    if missing := next((file for file in files if not file.is_file()), None):
        raise DataError(f"{path}: {missing.name} is missing, which {_STATE} lists")
    return files


def read_saved_set(source: Source) -> NumberedRows:
    """Read the rows of all files of a folder, numbered from 1."""
    source.unit = "row"
    number = 0
    for path in saved_files(source.name):
        with path.open("rb") as file:
            one = Source(str(path), path.stat().st_size, file, source.options)
            for _, row in read_arrow(one):
                number += 1
                yield number, row
        source.reached += one.size
        source.notes += [note for note in one.notes if note not in source.notes]
