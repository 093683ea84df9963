"""Folders of several data sets."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, OptionError
from .readers import is_data_file, stem_of


def data_sets(folder: Path, flag: str) -> dict[str, Path]:
    """Return the data sets of a folder by name: folders with a train file, and files of rows.

    `flag` is the option whose value the folder is. Raises `OptionError` for a missing folder, `DataError` for one
    without data sets, or with two of one name.
    """
    if not folder.is_dir():
        raise OptionError(f"{flag} {folder}: no such folder")
    paths = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and (path.is_dir() or is_data_file(path))
    ]
    if not paths:
        raise DataError(f"{flag} {folder}: expected folders with train files, or files of rows; there are none")
    sets: dict[str, Path] = {}
    for path in paths:
        name = stem_of(path) if path.is_file() else path.name
        if name in sets:
            raise DataError(f"{flag} {folder}: {sets[name].name} and {path.name} are both data sets named '{name}'")
        sets[name] = path
    return sets
