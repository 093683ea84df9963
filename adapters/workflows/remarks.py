"""Remarks on the rows of a run: what is read differently from the file, and what looks like a mistake."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError
from ..io.untrusted import read_file
from ..settings import REMARKS_FILE
from ..tasks.columns import stream
from ..tasks.special_tokens import SpecialTokens
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
        remarks += unread_remark(task, rows, splits.shown(split))
    special = SpecialTokens(base.tokenizer)
    for split, rows in sets.items():
        remarks += [f"{splits.shown(split)}: {text}" for text in _special_tokens(task, rows, special)]
        remarks += task.remarks(rows, splits.shown(split), base.tokenizer)
        remarks += length_remarks(task, rows, splits.shown(split), base, watch)
        remarks += task.label_remarks(rows, splits.shown(split)) if split == "train" else []
    return list(dict.fromkeys([*remarks, *row_remarks(task, splits, sets)]))


def _special_tokens(task: Task, rows: Dataset, special: SpecialTokens) -> Iterator[str]:
    labels = str(getattr(task, "label_column_name", "")).split(",")  # which no tokenizer reads
    for column in dict.fromkeys(task.columns_read):
        if column in rows.column_names and column not in labels:
            yield from special.remarks(column, stream(rows[column]))
        if column in rows.column_names and column in task.input_columns:
            yield from special.unknown_remarks(column, rows[column])


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
