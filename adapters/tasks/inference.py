"""Infer the task of a file from its first row, and suggest options where that fails."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..data.blank import is_blank
from ..errors import TaskError
from ..options import options
from .columns import LABELS, TAGS, first_of, stream, usual_label
from .installed import TASKS
from .task import Task
from .text_generation import PROMPTS
from .unread_columns import SPLITS

if TYPE_CHECKING:
    from datasets import Dataset

FLAGS = {"0", "1", "0.0", "1.0", "true", "false"}
"""The values of columns that mark whether a row has a label."""
DATE = re.compile(r"\d{4}([-/.])\d\d?\1\d\d?\b|\d\d?([-/.])\d\d?\2\d{2,4}\b|\d\d?:\d\d")

EMAIL = re.compile(r"\S+@\S+\.\w+$")
MANY = 20
"""The rows from which a column whose values hardly repeat is not one of labels."""


def infer_task(first: Mapping[str, Any], chosen: Mapping[str, Any] | None = None) -> str:
    """Return the name of the task that a first row fits, by its columns and their values.

    `chosen` are the task options of the user; a column option names what a column holds, whatever the column is
    called, and only tasks with that option are tried. Raises `TaskError` where no task fits, with options that would
    complete the command as its `suggestion`.
    """
    columns = {key: value for key, value in (chosen or {}).items() if key.endswith("column_name") and value}
    candidates = {name: task for name, task in TASKS.items() if set(columns) <= set(options(task))}
    for name, task in candidates.items():
        if task.fits(renamed(task, first, columns)):
            return name
    for name, task in candidates.items():
        if columns and set(task.usual_columns) <= set(columns):
            return name
    names = ", ".join(sorted(TASKS))
    raise TaskError(
        f"no task fits the columns {', '.join(first)}; give --task, one of {names}", suggestion=suggested(first)
    )


def renamed(task: type[Task], first: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with each chosen column under the name that the task knows it by.

    Where the label's column is chosen, others that could be one are left out.
    """
    names: dict[str, str] = {}
    for option, value in columns.items():
        parsed = options(task)[option].parse(value)
        selected: Sequence[str] = (parsed,) if isinstance(parsed, str) else parsed
        usual = task.usual_columns.get(option, ())
        if len(selected) > len(usual) == 1:  # a column for each of several endings
            usual = tuple(f"{usual[0].removesuffix('s')}{i}" for i in range(len(selected)))
        names.update(zip(selected, usual, strict=False))
    replaced = {*names.values(), *((*LABELS, *TAGS) if "label_column_name" in columns else ())}
    return {names.get(key, key): value for key, value in first.items() if key in names or key not in replaced}


def labels_are_texts(rows: Dataset) -> bool:
    """Return whether the lists in a column of labels hold a text each, as doccano writes those of its seq2seq projects.

    Each list has one, hardly any occurs twice, and they have two words or more on average.
    """
    if not {"text", "label"} <= set(rows.column_names) or not isinstance(rows[0]["label"], list):
        return False
    lists = [value for value in stream(rows["label"]) if value]
    texts = [value[0] for value in lists if len(value) == 1 and isinstance(value[0], str)]
    words = sum(len(text.split()) for text in texts)
    return len(texts) == len(lists) > 1 and len(set(texts)) > 0.9 * len(texts) and words >= 2 * len(texts)


def suggested(first: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> tuple[str, ...]:
    """Return the options that make `rows`, or the first, those of text classification: the longest text and a label.

    A column that is the same in all of them, different in almost all, or empty in more of them than another, is not the
    label. Several columns of 0 and 1 are a label each. Of preferences, the chosen answers can be learned. Two languages
    are a translation.
    """
    rows = rows or [first]
    if {"chosen", "rejected"} <= set(first):
        prompt = first_of(PROMPTS, list(first))
        columns = ("--prompt-column", prompt, "--completion-column") if prompt else ("--text-column",)
        return ("--task", "text-generation", *columns, "chosen")
    texts = {n: values for n in first if not _is_id(n) and (values := _values(n, rows, str))}
    if not texts:
        return ()
    if len(texts) == len(first) == 2 and all(re.fullmatch("[a-z]{2}([_-][A-Za-z]{2})?", name) for name in texts):
        source, target = texts  # named by their languages
        return ("--task", "translation", "--source-column", source, "--target-column", target)
    text = max(texts, key=lambda name: (len(set(texts[name])) > 1, sum(map(len, texts[name]))))
    if len(flags := flag_columns(first)) > 1:
        return ("--text-column", text, "--label-column", ",".join(flags))
    others = [name for name in first if name != text]
    scalar = [name for name in others if _values(name, rows, str | int | float)]
    if not scalar:
        return ("--task", "text-generation", "--text-column", text)
    return ("--text-column", text, "--label-column", usual_label(scalar) or _likely_label(scalar, rows))


def _values(name: str, rows: Sequence[Mapping[str, Any]], kind: Any) -> list[Any]:
    """Return the values of a kind in a column, without the blank ones."""
    return [v for row in rows if isinstance(v := row.get(name), kind) and not is_blank(str(v))]


def _likely_label(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the column whose values can be labels that is filled in the most rows, the last of equals."""
    filled = {name: _values(name, rows, str | int | float) for name in names}
    differ = [name for name in names if len(set(filled[name])) != 1 or len(rows) < 2]
    likely = [name for name in differ or names if _may_be_label(name, filled[name][0])] or names
    repeat = [name for name in likely if len(filled[name]) < MANY or len(set(filled[name])) < 0.9 * len(filled[name])]
    return max(reversed(repeat or likely), key=lambda name: len(filled[name]))


def _may_be_label(name: str, value: Any) -> bool:
    """Return whether a value can be a label: neither an id, nor a date, an address, or the name of a split."""
    text = str(value).strip()
    return not (_is_id(name) or DATE.match(text) or "://" in text or EMAIL.match(text) or text.lower() in SPLITS)


def flag_columns(first: Mapping[str, Any]) -> list[str]:
    """Return the columns, apart from ids, that hold 0 or 1 in a first row."""
    return [name for name, value in first.items() if not _is_id(name) and str(value).lower() in FLAGS]


def _is_id(name: str) -> bool:
    """Return whether a column is one of ids or row numbers, by its name."""
    return (
        re.fullmatch(r"(.*[_ -])?q?(id|idx|index|uid|guid|no|nr|#)[12]?|unnamed:? ?\d*|column \d+", name.lower())
        is not None
    )
