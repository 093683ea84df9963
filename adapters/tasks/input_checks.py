"""Check that input columns hold what a task reads, in training as in prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.column_types import LINE
from ..errors import DataError
from .columns import check_there, each
from .inputs import inputs_of

if TYPE_CHECKING:
    from datasets import Dataset

    from .task import Task


def check_inputs(task: Task, data: Dataset, file: str) -> None:
    """Raise `DataError`, with file and line, where a row lacks an input of a task or has one that it can't read."""
    columns = task.input_columns
    check_there(data, file, *(name for name in columns if name not in task.optional_columns))
    columns = [name for name in columns if name in data.column_names]
    for line, *values in each(data, LINE, *columns):
        try:
            inputs_of(task, dict(zip(columns, values, strict=True)))
        except DataError as error:
            raise DataError(f"{file}:{line}: {error}") from error
