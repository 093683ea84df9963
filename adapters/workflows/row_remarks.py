"""Remarks on rows that occur twice, in one split or in two, and on a validation split that is too small."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..data.splits import LINE, Splits
from ..tasks.columns import each, stream
from ..tasks.damaged_texts import damage_remarks

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task

FEW = 30
"""The number of validation rows below which metrics are unreliable."""


def row_remarks(task: Task, splits: Splits, uncut: Mapping[str, Dataset]) -> list[str]:
    """Return the remarks on the rows of a run; `uncut` are those before a validation split was cut off."""
    remarks = [text for split, data in uncut.items() for text in _twice(task, data, splits.shown(split))]
    for split, data in uncut.items():
        remarks += [f"{splits.shown(split)}: {text}" for text in _damaged(task, data)]
    if "train" in splits:
        training_keys = set(_keys(splits["train"], task.input_columns))
        folded_keys = set(_keys(splits["train"], task.input_columns, folded=True))
        for split in ("validation", "test"):
            if split in splits:
                file = splits.shown(split)
                remarks += _in_training(task, splits[split], file, split, training_keys, folded_keys)
    if "train" in splits and "validation" in splits and len(splits["validation"]) < FEW:
        count = len(splits["validation"])
        remarks.append(
            f"only {count} validation {'row' if count == 1 else 'rows'}: their metrics, by which the best epoch is "
            f"chosen, are unreliable below {FEW} rows"
        )
    return remarks


def _twice(task: Task, data: Dataset, file: str) -> Iterator[str]:
    """Yield how many rows repeat an earlier one, and how many have the inputs of an earlier one and other labels."""
    inputs = set(task.input_columns)
    others = [column for column in task.columns_read if column not in inputs and column in data.column_names]
    first: dict[Any, tuple[int, Any]] = {}
    repeated: list[tuple[int, int]] = []
    contrary: list[tuple[int, int]] = []
    for line, key, label in zip(stream(data[LINE]), _keys(data, task.input_columns), _keys(data, others), strict=True):
        before = first.setdefault(key, (line, label))
        if before[0] != line:
            (repeated if before[1] == label else contrary).append((before[0], line))
    if repeated:
        rows = "1 row repeats" if len(repeated) == 1 else f"{len(repeated):,} rows repeat"
        earlier, line = repeated[0]
        yield f"{file}: {rows} an earlier one, first line {line} that of line {earlier}"
    if contrary:
        rows = "1 row has" if len(contrary) == 1 else f"{len(contrary):,} rows have"
        earlier, line = contrary[0]
        yield f"{file}: {rows} the text of an earlier one and another label, first lines {earlier} and {line}"


def _damaged(task: Task, data: Dataset) -> Iterator[str]:
    for column in dict.fromkeys([*task.input_columns, *task.columns_read]):
        if column in data.column_names:
            yield from damage_remarks(column, stream(data[column]), is_input=column in task.input_columns)


def _in_training(
    task: Task, data: Dataset, file: str, split: str, training_keys: set[int], folded_keys: set[int]
) -> Iterator[str]:
    """Yield how many rows have the inputs of training rows, and how many but for case and spaces."""
    keys = list(zip(stream(data[LINE]), _keys(data, task.input_columns), strict=True))
    folded = _keys(data, task.input_columns, folded=True)
    lines = [line for line, key in keys if key in training_keys]
    nearly = [
        line
        for (line, key), other in zip(keys, folded, strict=True)
        if key not in training_keys and other in folded_keys
    ]
    if lines:
        are = "is a training row" if len(lines) == 1 else "are training rows"
        yield f"{len(lines):,} of {len(data):,} {split} rows {are}, too, first {file}:{lines[0]}"
    if nearly:
        differ = "differs" if len(nearly) == 1 else "differ"
        yield (
            f"{len(nearly):,} of {len(data):,} {split} rows {differ} from training rows in case and spaces alone, "
            f"first {file}:{nearly[0]}"
        )


def _keys(data: Dataset, columns: list[str], *, folded: bool = False) -> Iterator[int]:
    """Yield a hash of each row's values in some columns; of `folded` ones without case, and with single spaces."""
    present = [column for column in columns if column in data.column_names]
    if not present:
        yield from (0 for _ in range(len(data)))
        return
    for values in each(data, *present):
        texts = [v if isinstance(v, str) else json.dumps(v, sort_keys=True, default=str) for v in values]
        yield hash(tuple(" ".join(text.casefold().split()) for text in texts) if folded else tuple(texts))
