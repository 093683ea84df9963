"""A row to predict as its task reads it: fields of a text, numbers and lists as texts, and the reason to refuse it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .values import is_empty, is_list_of_texts, text_of

if TYPE_CHECKING:
    from .task import Task


class Inputs(dict[str, Any]):
    """The values of a row by the task's columns, checked."""


def inputs_of(task: Task, row: Any, columns: Mapping[str, str] | None = None) -> Inputs:
    """Return the values of a row, a text or a dict, by the task's columns; `columns` maps these to the row's.

    Raises `DataError`, without the place of the row, where it lacks a value or has one that the task can't read.
    """
    if isinstance(row, Inputs):
        return row
    if isinstance(row, str):
        return _fields(task, row)
    columns = columns or {column: column for column in task.input_columns}
    values = {name: _value(task, name, column, row.get(column)) for name, column in columns.items()}
    if len(values) > 1 and all(map(is_empty, values.values())):
        raise DataError(f"{' and '.join(columns.values())} are empty")
    (first, *more) = values.values()
    return Inputs(values) if more or not isinstance(first, str) else _fields(task, first)


def _fields(task: Task, text: str) -> Inputs:
    """Return the fields of a text, which are separated by tabs."""
    if is_empty(text):
        raise DataError("text is empty")
    _value(task, "", "text", text)
    columns = task.input_columns
    try:
        values = Inputs({column: values[0] for column, values in task.rows([text]).items()})
    except IndexError:
        raise DataError(f"'{text}': {' and '.join(columns)} were expected, separated by tabs") from None
    for column in columns:
        if is_empty(values.get(column)) and not task.may_be_empty(column):
            raise DataError(f"{column} is empty")
    return values


def _value(task: Task, name: str, column: str, value: Any) -> Any:
    """Return a value as the task reads it; `name` is the task's column, `column` the row's."""
    if is_empty(value):
        if name and not task.may_be_empty(name):
            raise DataError(f"{column} is empty")
        return value if isinstance(value, str) else ""
    try:
        if isinstance(value, str | Number):
            value = text_of(value)
        expected = task.accepts(name, value)
        if expected and is_list_of_texts(value) and task.accepts(name, ["a", "b"]):  # else words, of which one is empty
            joined = text_of(value)
            if not task.accepts(name, joined):
                return joined
    except ValueError as error:
        raise DataError(f"{column} {error}") from error
    if expected:
        raise DataError(f"{column} is {str(value)[:60]}, but {expected} was expected")
    return value
