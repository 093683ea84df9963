"""The rows of a run that its task can use: bad rows are an error or skipped, and counted by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from ..data.skipped import Skipped
from ..data.splits import LINE, Splits
from ..errors import DataError, unknown
from ..settings import DataOptions
from ..tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset

ANSWER, ACCEPTED, REJECTED = "answer", "accept", {"reject", "ignore"}
"""The column of Prodigy's verdict on an annotation, and its values."""


def select_usable(splits: Splits, task: Task, options: DataOptions) -> None:
    """Check the rows of all splits, as they were before a sample was drawn, and draw the samples again.

    Rows that the task refuses are an error or, with --skip-bad-rows, are left out; so are rejected annotations. Notes
    count them, and the rows of validation and test with labels that the fitted task doesn't have.
    """
    splits.check_types(task.columns_read, options, task.parses)
    for split, sample in splits.sets.items():
        before, file = splits.unsampled.get(split, sample), splits.files[split]
        select = checked if split == "train" else evaluable
        data = select(
            accepted(before, file, task, splits.notes), file, task, skip=options.skip_bad_rows, notes=splits.notes
        )
        if data is not before:
            splits.draw(split, data, options)


def evaluable(data: Dataset, file: str, task: Task, *, skip: bool, notes: list[str]) -> Dataset:
    """Return the rows on which the task can be evaluated; those of labels that it can't predict are counted."""
    task_labels = getattr(task, "labels", ())
    if not task_labels or type(task).labels_by_row is Task.labels_by_row:
        return checked(data, file, task, skip=skip, notes=notes)
    data = checked(data, file, replace(task, labels=()), skip=skip, notes=notes)  # type: ignore[call-arg]
    unseen: Counter[str] = Counter()
    bad = set()
    for i, labels in enumerate(task.labels_by_row(data)):
        if others := set(labels) - set(task_labels):
            unseen.update(others)
            bad.add(i)
    if len(bad) == len(data):
        raise DataError(
            f"{file}:{data[LINE][0]}: " + unknown("label", next(iter(unseen)), task_labels, known_as="in training")
        )
    if bad:
        names = ", ".join(f"'{label}' ({count:,})" for label, count in unseen.most_common(5))
        what = "1 row has a label that no training row has, and counts as an error"
        if len(bad) > 1:
            what = f"{len(bad):,} rows have labels that no training row has, and count as errors"
        notes.append(f"{file}: {what}; --labels adds labels: {names}")
    return data


def checked(data: Dataset, file: str, task: Task, *, skip: bool, notes: list[str]) -> Dataset:
    """Return the rows that the task can use. Raises `DataError` for a bad one unless they may be skipped."""
    if not skip:
        try:
            task.check(data, file)
        except DataError as error:
            bad = {i for i, _ in task.faults(data, file)}
            if not error.suggestion and 0 < len(bad) < len(data):
                others = f"; {len(bad):,} of {len(data):,} rows can't be used" if len(bad) > 1 else ""
                raise DataError(f"{error}{others}", suggestion=("--skip-bad-rows",)) from error
            raise
        return data
    skipped, bad = Skipped(), set()
    for i, reason in task.faults(data, file):
        skipped.add(data[LINE][i], reason)
        bad.add(i)
    if len(bad) == len(data):
        raise DataError(f"no row of {file} can be used: {skipped.note(file)}")
    notes += [skipped.note(file)] * bool(bad)
    return without(data, bad)


def accepted(data: Dataset, file: str, task: Task, notes: list[str]) -> Dataset:
    """Return rows without Prodigy's rejected and ignored annotations."""
    if ANSWER not in data.column_names or ANSWER in task.columns_read:
        return data
    answers = data[ANSWER][:]
    values = Counter(value for value in answers if isinstance(value, str))
    if not values or set(values) - {ACCEPTED, *REJECTED} or not set(values) & REJECTED:
        return data
    bad = {i for i, value in enumerate(answers) if value in REJECTED}
    if len(bad) == len(data):
        raise DataError(f"{file}: all annotations are rejected or ignored in column '{ANSWER}'")
    counts = " and ".join(f"{values[value]:,} '{value}'" for value in sorted(REJECTED) if values[value])
    notes.append(f"{file}: {counts} in column '{ANSWER}': these rows are left out")
    return without(data, bad)


def without(data: Dataset, bad: set[int]) -> Dataset:
    """Return a data set without some of its rows."""
    return data.select([i for i in range(len(data)) if i not in bad]) if bad else data
