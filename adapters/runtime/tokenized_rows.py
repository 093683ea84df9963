"""Rows as columns and tokenized features: the same in a pool and in an export's."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol

from ..errors import AdapterkitError, DataError, PoolError, unknown, warn
from ..features.lengths import count_cut, cut_note
from ..tasks import Task
from ..tasks.columns import Columns, columns_of


class Tokenizing(Protocol):
    """What has a tokenizer, which one thread at a time may use."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""

    @property
    def tokenizing(self) -> threading.Lock:
        """Held while it is used."""


class RowTokenizer:
    """Tokenizes the rows of a request; tasks that tokenize the same way share the work for the same texts."""

    def __init__(self) -> None:
        self._tokenized: dict[Any, tuple[Columns, Columns]] = {}

    def read(self, task: Task, rows: Sequence[Any], by: Tokenizing) -> tuple[Columns, Columns]:
        """Return rows, texts or dicts of columns, as columns and as features.

        Raises `DataError` for a row that the task can't read.
        """
        key: Any = None
        if all(isinstance(row, str) for row in rows):
            key = (by, task.tokenize_key, tuple(rows))
            if key in self._tokenized:
                return self._tokenized[key]
        columns = columns_of(task, rows)
        with by.tokenizing:
            features = _features(task, columns, by.tokenizer)
        if key is not None:
            self._tokenized[key] = columns, features
        return columns, features


def _features(task: Task, columns: Columns, tokenizer: Any) -> Columns:
    try:
        return Columns(task.prompts(columns.values, tokenizer))
    except AdapterkitError:
        raise
    except Exception as error:  # tokenizers raise a bare Exception for rows that they can't truncate
        raise DataError(f"{task.name} can't read these rows: {type(error).__name__}: {error}") from error


def warn_of_cut(name: str, task: Task, columns: Columns, features: Columns, by: Tokenizing) -> bool:
    """Issue a warning where texts of a request were cut, and return whether some were; later ones would repeat it."""
    with by.tokenizing:
        cut = count_cut(task, columns.values, by.tokenizer, features.values)
    if cut:
        warn(f"adapter '{name}': {cut_note(task, cut, len(columns))}; later ones aren't reported")
    return bool(cut)


def with_options(task: Task, options: Mapping[str, Any]) -> Task:
    """Return a task with options that its outputs depend on. Raises `PoolError` for one that it doesn't have."""
    if not options:
        return task
    names = {field.name for field in fields(task)}
    for name in options:
        if name not in names:
            raise PoolError(unknown(f"option of {task.name}", name, names))
    return replace(task, **options)
