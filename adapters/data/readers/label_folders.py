"""Read a folder with a folder for each label, whose files are the rows: their paths, such as pets/cat/1.png."""

from __future__ import annotations

from pathlib import Path

from .source import NumberedRows, Source

FILE, LABEL = "file", "label"
"""The columns of such rows."""


def labelled_files(path: str | Path) -> list[Path]:
    """Return the files of a folder of labels, label by label; empty where it is none.

    It holds nothing but folders, two or more, and those hold nothing but files; hidden ones don't count.
    """
    folder = Path(path)
    labels = _visible(folder) if folder.is_dir() else []
    if len(labels) < 2 or not all(label.is_dir() for label in labels):
        return []
    files = [_visible(label) for label in labels]
    return [file for each in files for file in each] if all(f.is_file() for each in files for f in each) else []


def read_label_folder(source: Source) -> NumberedRows:
    """Yield the path of each file, and the name of its folder as its label."""
    source.unit = "row"
    for number, file in enumerate(labelled_files(source.name), start=1):
        source.reached += file.stat().st_size
        yield number, {FILE: str(file.absolute()), LABEL: file.parent.name}


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
