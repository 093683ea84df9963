"""Remarks on the rows of a run: what is read differently from the file, and what looks like a mistake."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError
from ..io.untrusted import read_file
from ..settings import REMARKS_FILE
from ..tasks.unread_columns import unread_remark
from .row_remarks import row_remarks

if TYPE_CHECKING:
    from datasets import Dataset

    from ..base.base import Base
    from ..base.tokenizer import BaseTokenizer
    from ..data.splits import Splits
    from ..tasks import Task
    from ..watch import Watch


def remarks_on(
    task: Task,
    splits: Splits,
    base: Base | BaseTokenizer,
    sets: Mapping[str, Dataset] | None = None,
    watch: Watch | None = None,
) -> list[str]:
    """Return the remarks of the readers and of the task, and on texts that are too long, each once, one line each.

    `sets` are the rows by split before a validation split was cut off; by default those of `splits`.
    """
    from ..features.lengths import length_remarks

    remarks, sets = list(splits.notes), splits.sets if sets is None else sets
    for split, rows in itertools.islice(sets.items(), 1):
        remarks += unread_remark(task, rows, splits.files[split])
    for split, rows in sets.items():
        remarks += task.remarks(rows, splits.files[split], base.tokenizer)
        remarks += length_remarks(task, rows, splits.files[split], base, watch)
        remarks += task.label_remarks(rows, splits.files[split]) if split == "train" else []
    return list(dict.fromkeys([*remarks, *row_remarks(task, splits, sets)]))


def remarks_file(remarks: list[str]) -> dict[str, bytes]:
    """Return the file that holds remarks beside run.yaml, by its name; none where there are no remarks."""
    lines = "".join(" ".join(remark.split()) + "\n" for remark in remarks)
    return {REMARKS_FILE: lines.encode("utf-8", "backslashreplace")} if remarks else {}


def stored_remarks(folder: Path) -> list[str]:
    """Return the remarks of the run that saved a version, from its folder in the store; none where it has no file.

    Raises `FileError` where the file can't be read.
    """
    path = folder / REMARKS_FILE
    if not path.exists():
        return []
    try:
        return bytes(read_file(path)).decode().split("\n")[:-1]
    except (OSError, ValueError) as error:
        raise FileError(f"'{path}' can't be read: {error}") from error
