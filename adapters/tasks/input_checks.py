"""Check that input columns hold what a task reads, in training as in prediction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..data.splits import LINE
from ..errors import DataError, unknown
from .columns import each, visible

if TYPE_CHECKING:
    from datasets import Dataset

    from .task import Task


def check_inputs(task: Task, data: Dataset, file: str) -> None:
    """Raise `DataError`, with file and line, where a row lacks an input of a task or has one that it can't read."""
    for column in task.input_columns:
        if column not in data.column_names:
            raise DataError(f"{file}: " + unknown("column", column, visible(data.column_names), known_as="there are"))
        for line, value in each(data, LINE, column):
            if is_empty(value):
                if not task.may_be_empty(column):
                    raise DataError(f"{file}:{line}: {column} is empty")
            elif not isinstance(value, int | float) and (expected := task.accepts(column, value)):
                raise DataError(f"{file}:{line}: {column} is {str(value)[:60]}, but {expected} was expected")


def is_empty(value: Any) -> bool:
    """Return whether a value holds nothing: null, NaN, an empty list or object, a text of spaces."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())
