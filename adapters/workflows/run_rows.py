"""The rows of a run, and the task fitted to them: what `adapt run` and `adapt data` have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ..data import splits as data
from ..data.splits import Splits
from ..errors import DataError, OptionError, TaskError, unknown
from ..execution import processes
from ..options import build
from ..probe import few_texts
from ..settings import DataOptions
from ..tasks import Task, infer_task, labels_are_texts, task_class
from ..tasks.inference import flag_columns, suggested
from ..watch import Watch
from .plan import Plan
from .row_defaults import LEAST_CUT, reads_mean
from .usable_rows import select_usable

if TYPE_CHECKING:
    from datasets import Dataset

    from ..base.base import Base

FIRST_ROWS, MOST_ROWS = 10, 200
"""The rows from which a task is inferred, where the first fits none."""
DEFAULT_PERCENTAGE = 10


@dataclass(frozen=True)
class RunRows:
    """The rows of a run by split, and the task fitted to those of training."""

    plan: Plan  # with the percentage of validation rows that was cut off
    splits: Splits
    task: Task
    uncut: Mapping[str, Dataset]  # by split, before validation rows were cut off


def run_rows(plan: Plan, splits: Splits | None, watch: Watch, base: Base | None = None) -> RunRows:
    """Read the rows of a plan, unless `splits` holds them, and fit its task to them; `base` is the plan's if loaded."""
    with processes.first_of_node_first():
        splits = data.load(plan.data, watch, plan.task_name) if splits is None else splits.copy()
    with _with_notes(splits.notes):
        task = _with_columns(_task(plan, splits["train"]), splits["train"])
    select_usable(splits, task, plan.data)
    with _with_notes(splits.notes):
        task = task.fit(splits.unsampled.get("train", splits["train"]))
    select_usable(splits, task, plan.data)
    uncut = dict(splits.sets)
    percentage = _percentage(plan, splits, task, base)
    _cut(splits, percentage, plan.training.seed, task)
    if "validation" not in splits:
        percentage = 0
    plan = replace(plan, data=replace(plan.data, validation_split_percentage=percentage))
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in splits.sets.items())
    inferred = "" if plan.task_name else " (inferred from the columns; --task overrides)"
    summary = f": {task.summary()}" if task.summary() else ""
    watch.note("task", f"{task.name}{inferred}{summary}")
    watch.note("data", f"{splits.name}: {sizes} rows; {task.describe_columns()}")
    return RunRows(plan, splits, task, uncut)


@contextlib.contextmanager
def _with_notes(notes: Sequence[str]) -> Iterator[None]:
    """Add to an error about columns or labels how the file was read: by which separator, and what was left out."""
    try:
        yield
    except (TaskError, DataError) as error:
        if not notes:
            raise
        raise type(error)(f"{error} ({'; '.join(notes)})", suggestion=error.suggestion) from error


def load_run_splits(
    options: DataOptions,
    seed: int,
    task: Task,
    watch: Watch | None = None,
    described: Mapping[str, Any] | None = None,
) -> Splits:
    """Load the rows of a run with the same splits as `run`; `described` is what its manifest holds about them."""
    splits = data.load(options, watch, task.name)
    select_usable(splits, task, options)
    percentage = options.validation_split_percentage
    labels_stay = described is None or "cut" in described.get("validation", {})
    _cut(splits, DEFAULT_PERCENTAGE if percentage is None else percentage, seed, task, labels_stay=labels_stay)
    return splits


def _percentage(plan: Plan, splits: Splits, task: Task, base: Base | None) -> int:
    """Return the percentage of the training rows to use for validation, if there are no validation rows."""
    if plan.data.validation_split_percentage is not None:
        return plan.data.validation_split_percentage
    rows = len(splits["train"])
    if "validation" in splits or not few_texts.need_no_validation(task, rows):
        return DEFAULT_PERCENTAGE
    if plan.strategy.needs_validation:
        all_train = rows < LEAST_CUT and reads_mean(plan, task, rows, base)
    else:
        all_train = plan.training.head != "model"
    return 0 if all_train else DEFAULT_PERCENTAGE


def _cut(splits: Splits, percentage: int, seed: int, task: Task, *, labels_stay: bool = True) -> None:
    """Cut a validation split off the training rows; earlier versions didn't see to it that labels stay in training."""
    if "validation" in splits or not percentage:
        return
    train = splits["train"]
    labels = [list(row) for row in task.labels_by_row(train)] if labels_stay else []
    data.cut_validation(splits, percentage, seed, task.strata(train), labels)


def _task(plan: Plan, train: Dataset) -> Task:
    """Make the task that the plan names, or the one that fits the first row, or else one of the next."""
    name = plan.task_name
    if name is None:
        name = _inferred(train, plan)
        columns_chosen = any(key.endswith("column_name") for key, value in plan.task_options.items() if value)
        if name == "text-classification" and not columns_chosen and labels_are_texts(train):
            name = "text2text-generation"
    cls = task_class(name)
    field_names = {f.name for f in fields(cls)}
    for key in plan.task_options:
        if key not in field_names:
            raise OptionError(unknown(f"option of {name}", key, field_names))
    return build(cls, plan.task_options)


def _inferred(train: Dataset, plan: Plan) -> str:
    """Return the task that the first of some rows fits; a bad row may be before it."""
    errors: list[TaskError] = []
    rows = [{k: v for k, v in row.items() if k != data.LINE} for row in train.select(range(min(MOST_ROWS, len(train))))]
    for row in rows[:FIRST_ROWS]:
        try:
            return infer_task(row, plan.task_options)
        except TaskError as error:
            errors.append(error)
    errors[0].suggestion = suggested(rows[0], rows)
    raise errors[0]


def _with_columns(task: Task, train: Dataset) -> Task:
    """Return the task with its columns; where none is the label, columns of 0 and 1 are suggested as one label each."""
    try:
        return task.with_columns(train.column_names)
    except DataError as error:
        flags = flag_columns({key: value for key, value in train[0].items() if key != data.LINE})
        if len(flags) < 2 or error.suggestion[:1] != ("--label-column",):
            raise
        text = f"{error}; {', '.join(flags)} hold 0 and 1: --label-column {','.join(flags)} reads a label from each"
        raise DataError(text, suggestion=("--label-column", ",".join(flags))) from error
