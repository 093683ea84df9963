"""What a run would read of its files: columns, labels, lengths, remarks, and the first rows as the model sees them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.modalities import check_reads
from ..base.tokens import Tokens
from ..data.readers import ReadOptions, description
from ..data.splits import LINE, SPLITS, split_names
from ..errors import DataError
from ..tasks import Task
from ..tasks.columns import stream, visible
from ..tasks.language_modeling import IGNORED
from ..tasks.values import is_empty
from ..watch import Watch
from .plan import Plan
from .remarks import remarks_on
from .run_rows import RunRows, run_rows

if TYPE_CHECKING:
    from datasets import Dataset

    from ..base.base import Base
    from ..base.tokenizer import BaseTokenizer

UNLABELLED = ""
"""The label of a token that the loss ignores."""


@dataclass(frozen=True)
class Column:
    """A column of the training rows."""

    name: str
    read_as: str  # input, label, beside them, or empty where the task doesn't read it
    type: str
    filled: int  # rows with a value
    example: str


@dataclass(frozen=True)
class Lengths:
    """The tokens of a split's texts before they are cut, against the limit of an option."""

    split: str
    option: str
    limit: int
    median: int
    most: int  # 95 % of the texts have at most as many
    longest: int
    longer: int  # texts above the limit


@dataclass(frozen=True)
class Seen:
    """A row as the model sees it: each of its texts as tokens, and the label of each token, where tokens have one."""

    line: int
    texts: list[str]  # decoded: one, several windows, or one for each choice
    tokens: list[str]  # of the first text
    labels: list[str]  # of the tokens; `UNLABELLED` where the loss ignores one
    answer: str  # the label of the row, or the tokens that are learned; empty where tokens have tags


@dataclass(frozen=True)
class DataOverview:
    """What a run would read of its files."""

    task: str
    reads: str
    summary: str
    files: dict[str, str]  # by split
    formats: dict[str, str]  # by split: format, encoding and dialect of its file
    rows: dict[str, int]  # by split
    columns: list[Column]
    labels: dict[str, dict[str, int]]  # rows by label, by split
    lengths: list[Lengths]
    remarks: list[str]
    seen: list[Seen]

    def plain(self) -> dict[str, Any]:
        """Return the overview as JSON values."""
        return asdict(self)


def overview(plan: Plan, *, first: int = 3, watch: Watch | None = None) -> DataOverview:
    """Read the rows of a plan as a run does, with the tokenizer of its base and without the base.

    `first` is the number of rows to show as the model sees them. Raises the errors that the run would raise for rows.
    """
    from ..base import find_base
    from ..base.tokenizer import load_tokenizer
    from ..features.lengths import with_length

    watch = watch or Watch()
    rows = run_rows(plan, None, watch)
    if os.path.isfile(find_base(plan.base.base)):  # word vectors
        from ..base.base import Base

        base: Base | BaseTokenizer = Base.load(plan.base.base)
    else:
        base = load_tokenizer(plan.base)
    task = rows.task
    check_reads(base, task.modality, f"task {task.name}")
    if "max_seq_length" not in plan.task_options:
        task = with_length(task, rows.splits["train"], base, watch)
    return DataOverview(
        task=task.name,
        reads=task.describe_columns(),
        summary=task.summary(),
        files=rows.splits.files,
        formats={
            split: description(file, ReadOptions.of(plan.data, task.name)) for split, file in rows.splits.files.items()
        },
        rows={split: len(data) for split, data in rows.splits.sets.items()},
        columns=_columns(task, rows.splits["train"]),
        labels=_labels(task, rows.splits.sets),
        lengths=[one for split, data in rows.splits.sets.items() for one in _lengths(task, split, data, base, watch)],
        remarks=remarks_on(task, rows.splits, base, rows.uncut, watch),
        seen=_seen_first(task, rows, base, first),
    )


def sources(files: Sequence[str]) -> dict[str, str]:
    """Return the options that read some files: a single one as the data set, several by the splits in their names.

    A file without the word of a split in its name is the first split that no other has. Raises `DataError` where two
    files are of the same split.
    """
    if len(files) == 1:
        return {"dataset": files[0]} if not Path(files[0]).is_file() else {"train_file": files[0]}
    named = split_names({file: Path(file).stem for file in files})
    if twice := [names for names in named.values() if len(names) > 1]:
        raise DataError(f"{' and '.join(twice[0])} are of one split; give --train-file, --validation-file, --test-file")
    by_split = {split: names[0] for split, names in named.items()}
    free = [split for split in SPLITS if split not in by_split]
    others = [file for file in files if file not in by_split.values()]
    if len(others) > len(free):
        raise DataError(f"{len(files)} files, but there are 3 splits: train, validation and test")
    by_split |= dict(zip(free, others, strict=False))
    return {f"{split}_file": file for split, file in by_split.items()}


def _columns(task: Task, data: Dataset) -> list[Column]:
    """Return the columns with what the task reads them as."""
    columns = []
    for name in visible(data.column_names):
        values = [value for value in stream(data[name]) if not is_empty(value)]
        columns.append(
            Column(
                name,
                _role(task, name),
                _kind(values[0]) if values else "empty",
                len(values),
                _example(values[0]) if values else "",
            )
        )
    return columns


def _role(task: Task, name: str) -> str:
    if name in task.input_columns:
        return "input"
    if name in task.also_reads:
        return "beside"
    return "label" if name in task.columns_read else ""


def _example(value: Any) -> str:
    """Return a value in one line; lists and objects as JSON."""
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
    return " ".join(text.split())[:60]


def _kind(value: Any) -> str:
    kinds = {str: "text", bool: "true or false", int: "number", float: "number", list: "list", dict: "object"}
    return kinds.get(type(value), type(value).__name__)


def _labels(task: Task, sets: Mapping[str, Dataset]) -> dict[str, dict[str, int]]:
    counts = {s: Counter(label for row in task.labels_by_row(data) for label in row) for s, data in sets.items()}
    names = [*getattr(task, "labels", ()), *(label for of_split in counts.values() for label in of_split)]
    return {label: {split: counts[split][label] for split in sets} for label in dict.fromkeys(names)}


def _lengths(task: Task, split: str, data: Dataset, base: Base | BaseTokenizer, watch: Watch) -> list[Lengths]:
    import numpy as np

    from ..features.lengths import token_counts

    lengths = []
    for option, counts in token_counts(task, data, base, watch).items():
        limit = getattr(task, option)
        median, most, longest = (int(np.quantile(counts, q, method="higher")) for q in (0.5, 0.95, 1))
        lengths.append(Lengths(split, option, limit, median, most, longest, int((counts > limit).sum())))
    return lengths


# ---- rows as the model sees them


def _seen_first(task: Task, rows: RunRows, base: Base | BaseTokenizer, first: int) -> list[Seen]:
    """Return the first rows as tokens; none for a base that reads no tokens."""
    if not isinstance(base.modality, Tokens):
        return []
    return [_seen(task, rows, i, base.tokenizer) for i in range(min(first, len(rows.splits["train"])))]


def _seen(task: Task, rows: RunRows, number: int, tokenizer: Any) -> Seen:
    data = rows.splits["train"]
    row = data.select([number])
    features = task.tokenize(row[:], tokenizer, labelled=True)
    ids = features["input_ids"]
    if task.has_choices:
        ids = [one for one in ids[0] if len(one) > 1]  # without those that fill a row up
    texts = [tokenizer.decode(part) for part in ids]
    labels, answer = _labels_of(task, features, row, tokenizer)
    return Seen(row[LINE][0], texts, tokenizer.convert_ids_to_tokens(ids[0]), labels, answer)


def _labels_of(task: Task, features: Mapping[str, Any], row: Dataset, tokenizer: Any) -> tuple[list[str], str]:
    """Return the label of each token of the first text, or none, and the answer of the row as a text."""
    ids = features["input_ids"][0]
    labels = features.get("labels", [None])[0]
    names = getattr(task, "labels", ())
    if isinstance(labels, list) and len(labels) == len(ids) and not task.has_choices:
        if names and getattr(task, "problem_type", None) is None:
            return [UNLABELLED if i == IGNORED else names[i] for i in labels], ""
        return [], tokenizer.decode([i for i in labels if i != IGNORED])
    if "start_positions" in features:
        return [], tokenizer.decode(ids[features["start_positions"][0] : features["end_positions"][0] + 1])
    if isinstance(labels, list) and not names:
        return [], tokenizer.decode([i for i in labels if i != IGNORED])  # of an encoder-decoder
    if of_row := [label for one in task.labels_by_row(row) for label in one]:
        return [], ", ".join(of_row)
    column = next((n for f in fields(task) if f.name == "label_column_name" and (n := getattr(task, f.name))), None)
    return [], str(row[column][0]) if column in row.column_names else ""
