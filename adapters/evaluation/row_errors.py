"""Answers of rows of which some are bad: each row has its answer, or its error in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..data.readers import BadRow
from ..errors import DataError
from ..tasks import Task
from ..tasks.columns import inputs_of_row
from ..tasks.inputs import Inputs

ERROR = "error"
"""The field with the reason why a row has no answer."""


def answers_or_errors(
    task: Task, rows: Sequence[Any], answer: Callable[[list[Inputs]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the answer of each row, or {"error": reason} for one that the task or the model refuses.

    `answer` is called with the rows that the task can read, and with parts of them where it raises `DataError`.
    """
    results: list[dict[str, Any]] = [{} for _ in rows]
    readable: dict[int, Inputs] = {}
    fields: set[str] | None = None
    for i, row in enumerate(rows):
        try:
            if isinstance(row, BadRow):
                raise DataError(row.reason)
            inputs = inputs_of_row(task, row)
            if set(inputs) != (fields := fields or set(inputs)):
                raise DataError(f"it has {' and '.join(inputs)}, but the rows before have {' and '.join(fields)}")
            readable[i] = inputs
        except DataError as error:
            results[i] = {ERROR: str(error)}
    for i, result in zip(readable, by_halves(list(readable.values()), answer), strict=True):
        results[i] = {ERROR: str(result)} if isinstance(result, DataError) else result
    return results


def by_halves(rows: Sequence[Any], answer: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Return the answer of each row, or the `DataError` that it raises alone; rows are halved until one does."""
    if not rows:
        return []
    try:
        return answer(list(rows))
    except DataError as error:
        if len(rows) == 1:
            return [error]
        middle = len(rows) // 2
        return [*by_halves(rows[:middle], answer), *by_halves(rows[middle:], answer)]
