"""Choose the columns that a task reads, by option or by their usual names, and check what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..data.column_types import LINE
from ..errors import AdapterError, DataError, OptionError, unknown
from .inputs import Inputs, inputs_of
from .values import is_empty

if TYPE_CHECKING:
    from datasets import Dataset

    from .task import Task

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("question", "passage"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("sent1", "sent2"),
    ("context", "hypothesis"),
    ("claim", "evidence"),
    ("query", "document"),
    ("query", "passage"),
    ("#1 string", "#2 string"),
)
TEXTS = ("text", "sentence", "review", "utterance", "content", "query", "message", "tweet", "comment")
LABELS = (
    "label",
    "labels",
    "category",
    "intent",
    "class",
    "gold_label",
    "sentiment",
    "stance",
    "topic",
    "target",
    "score",
    "is_duplicate",
    "polarity",
    "rating",
    "stars",
    "entailment_judgment",
    "quality",
)
TAGS = ("ner_tags", "tags", "slots", "pos_tags", "chunk_tags", "labels", "bio_tags", "ner", "iob_tags", "upos", "pos")


class Columns:
    """Rows in memory, column by column, with the interface of a `datasets.Dataset` but no cost of construction."""

    def __init__(self, values: Mapping[str, Sequence[Any]]) -> None:
        self.values = dict(values)

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        return list(self.values)

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), ()))

    def __getitem__(self, name: str) -> Sequence[Any]:
        return self.values[name]


def columns_of(task: Task, rows: Sequence[Any]) -> Columns:
    """Return texts, or rows as dicts, as the columns that a task reads.

    Raises `DataError` where they are of both kinds, of neither, or the task can't read one, and `TaskError` where the
    task names no column.
    """
    task.check_named()
    texts = all(isinstance(row, str) for row in rows)
    read: list[dict[str, Any]] = []
    for i, row in enumerate(rows, start=1):
        if not texts and not isinstance(row, Mapping):
            kind = "a text among rows" if isinstance(row, str) else type(row).__name__
            raise DataError(f"texts, or rows as dicts of columns, were expected, not {kind}: {str(row)[:40]!r}")
        read.append(_inputs(task, row, i))
        if read[-1].keys() != read[0].keys():
            raise DataError(f"row {i} has {' and '.join(read[-1])}, but the rows before have {' and '.join(read[0])}")
    return Columns({name: [row[name] for row in read] for name in (read[0] if read else task.input_columns)})


def inputs_of_row(task: Task, row: Any) -> Inputs:
    """Return the values of a text, or of a row as a dict. Raises `DataError`, without a place, for any other."""
    if not isinstance(row, str | Mapping):
        raise DataError(f"a text or a dict was expected, got {type(row).__name__} {str(row)[:40]!r}")
    if isinstance(row, Mapping):
        for name in task.input_columns:
            if name not in row and name not in task.optional_columns:
                raise DataError(f"has no '{name}'; it has {', '.join(map(str, row)) or 'nothing'}")
    return inputs_of(task, row)


def _inputs(task: Task, row: Any, number: int) -> Inputs:
    try:
        return inputs_of_row(task, row)
    except DataError as error:
        has = str(error).startswith("has no '")
        raise DataError(f"row {number} {error}" if has else f"row {number}: {error}") from error


def stream(column: Sequence[Any]) -> Iterator[Any]:
    """Yield the values of a data set's column, read in slices, which is far faster than one by one."""
    for start in range(0, len(column), 10_000):
        yield from column[start : start + 10_000]


def each(data: Dataset, *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the values of some columns, row by row."""
    return zip(*(stream(data[name]) for name in names), strict=True)


def first_of(wanted: Iterable[str], names: Sequence[str], without: Iterable[str] = ()) -> str | None:
    """Return the first of `wanted` among `names`, ignoring case, or None; a name in lower case before its variants."""
    left = [name for name in names if name not in set(without)]
    by_lower = {name.lower(): name for name in reversed(left)} | {name: name for name in left}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def usual_label(names: Sequence[str], without: Iterable[str] = ()) -> str | None:
    """Return the column with a usual name of a label; the answer to a question on a passage is one, too."""
    return first_of(LABELS, names, without) or (
        first_of(("answer",), names, without) if {"question", "passage"} <= set(names) else None
    )


def visible(names: Iterable[str]) -> list[str]:
    """Return the columns that the file has."""
    return [name for name in names if name != LINE]


def require(names: Sequence[str], *columns: str | None) -> None:
    """Raise `DataError` for the first column that is not among `names`."""
    for column in columns:
        if column is not None and column not in names:
            raise DataError(unknown("column", column, visible(names), known_as="there are"))


def choose(
    what: str,
    flag: str,
    selected: str | None,
    names: Sequence[str],
    usual: Iterable[str],
    without: Iterable[str | None] = (),
) -> str:
    """Return the column `selected` by an option, or the first of the `usual` names among `names`.

    Raises `DataError` where there is neither; its `suggestion` is `flag` with a column that is not in `without`: the
    last one, as labels usually are, once other columns are chosen.
    """
    require(names, selected)
    column = selected or first_of(usual, names)
    if column is None:
        columns = visible(names)
        chosen = {name for name in without if name}
        others = [name for name in columns if name not in chosen] or columns
        suggestion = (flag.removesuffix("-name"), others[-1 if chosen else 0]) if others else ()
        hint = ""
        if len(columns) == 1 and (mark := re.search(r"[^\w\s()?!'\"/-]", columns[0])):  # several names in one
            hint = f"; if they are separated by '{mark[0]}', give --separator '{mark[0]}'"
            suggestion = ("--separator", mark[0])
        raise DataError(
            f"which column is {what}? give {flag}; there are {', '.join(columns)}{hint}", suggestion=suggestion
        )
    return column


def check_there(data: Dataset, file: str, *columns: str) -> None:
    """Raise `DataError` where a column is missing."""
    for column in columns:
        if column not in data.column_names:
            missing = unknown("column", column, visible(data.column_names), known_as="there are")
            raise DataError(f"{file}: {missing}; expected the columns of the training rows: {', '.join(columns)}")


def check_filled(data: Dataset, file: str, *columns: str) -> None:
    """Raise `DataError`, with file and line, where a column is missing or a row has nothing in it."""
    check_there(data, file, *columns)
    for column in columns:
        for line, value in each(data, LINE, column):
            if is_empty(value):
                raise DataError(f"{file}:{line}: {column} is empty")


def labels_of(values: Iterable[Any]) -> tuple[str, ...]:
    """Return the different values as texts, numbers in their order and before words."""
    return tuple(sorted({str(value) for value in values}, key=_natural))


def labels_of_head(labels: tuple[str, ...], outputs: int, names: Mapping[int, str]) -> tuple[str, ...]:
    """Return `labels`, or else a label for each output of a head: of `names`, or LABEL_0, LABEL_1, ...

    Raises `AdapterError` where there are labels, but of another number.
    """
    if labels and len(labels) != outputs:
        raise AdapterError(f"the head has {outputs} outputs, and labels={','.join(labels)} names {len(labels)}")
    stated = names if len(names) == outputs else {}
    return labels or tuple(str(stated.get(i, f"LABEL_{i}")) for i in range(outputs))


def check_weights(weights: tuple[str, ...], labels: Sequence[str]) -> tuple[str, ...]:
    """Return weights of labels, or raise `OptionError` where they aren't a positive number for each."""
    good = [w for w in weights if w.replace(".", "", 1).isdecimal() and float(w) > 0]
    if len(good) < len(weights) or len(weights) not in (0, len(labels)):
        raise OptionError(
            f"--label-weights={','.join(weights)}: expected {len(labels)} positive numbers, one for each label"
        )
    return weights


def check_labels(data: Dataset, file: str, values: Iterable[Iterable[Any]], labels: Sequence[str]) -> None:
    """Raise `DataError`, with file and line, for the first row with a label that is not in `labels`."""
    names = set(labels)
    for line, row in zip(stream(data[LINE]), values, strict=True):
        for value in row:
            if str(value) not in names:
                raise DataError(f"{file}:{line}: " + unknown("label", str(value), names, known_as="in training"))


def balanced_weights(labels: Sequence[str], of_rows: Sequence[str]) -> tuple[str, ...]:
    """Return the weight of each label, as scikit-learn's "balanced" does; 1 for a label without rows."""
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    present = sorted(set(of_rows))
    by_label = dict(zip(present, compute_class_weight("balanced", classes=np.array(present), y=of_rows), strict=True))
    return tuple(f"{by_label.get(label, 1.0):.6g}" for label in labels)


def shown(labels: Sequence[str]) -> str:
    """Return the number of labels and the first of them, in words."""
    return f"{len(labels)} labels: " + ", ".join(labels[:6]) + (", …" if len(labels) > 6 else "")


def asks_yes_or_no(first: Mapping[str, Any]) -> bool:
    """Return whether a row is a question on a passage whose answer is true or false, as in BoolQ."""
    answer = first.get("answer")
    return {"question", "passage"} <= set(first) and str(answer).lower() in ("true", "false", "yes", "no")


def holds_texts(value: Any, *keys: str) -> bool:
    """Return whether a value is an object with a text that isn't empty under each of `keys`."""
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) and value[key] for key in keys)


def optional_field(texts: Sequence[str], column: str, other: str) -> dict[str, list[str]]:
    """Return texts as rows of two columns, of which a text may leave out the second; a tab separates them.

    Raises `DataError` where a text has more fields.
    """
    fields = [text.split("\t") for text in texts]
    for text, parts in zip(texts, fields, strict=True):
        if len(parts) > 2:
            raise DataError(f"'{text}': {column} and {other} were expected, separated by a tab")
    return {column: [parts[0] for parts in fields], other: [(*parts, "")[1] for parts in fields]}


def split_fields(texts: Sequence[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """Return texts whose fields are separated by tabs as rows of `columns`.

    Raises `DataError` where a text has another number of fields.
    """
    if len(columns) == 1:
        return {columns[0]: list(texts)}
    parts = [text.split("\t") for text in texts]
    for text, part in zip(texts, parts, strict=True):
        if len(part) != len(columns):
            raise DataError(f"'{text}': {' and '.join(columns)} were expected, separated by a tab")
    return {column: [part[i] for part in parts] for i, column in enumerate(columns)}


def _natural(label: str) -> tuple[bool, int, str]:
    """Sort 2 before 10, and numbers before words."""
    return (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)
