"""Rows that are ready to run: checked and tokenized, with the adapter and the options that answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from ..base.modality import Item
from ..errors import AdapterkitError, DataError, PoolError, unknown, warn
from ..features.lengths import count_cut, cut_note
from ..tasks import Task
from ..tasks.columns import Columns, columns_of
from ..tasks.feature_rows import features_of
from .loaded_adapter import LoadedAdapter

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows of one adapter as columns and as features, and the task with the options of their request."""

    adapter: LoadedAdapter
    task: Task
    columns: Columns
    features: Columns
    generation: Mapping[str, Any]
    """Options of generate, for a task that generates."""

    @property
    def version(self) -> str:
        """The version of the adapter; empty for one that isn't registered."""
        return self.adapter.version

    @property
    def items(self) -> list[tuple[Item, ...]]:
        """The base's inputs for each feature: one item, such as a text, or one for each choice."""
        return [self.adapter.base.modality.items(feature) for feature in features_of(self.features)]

    @property
    def tokens(self) -> int:
        """The number of input tokens, or of other hidden states that the base computes."""
        length = self.adapter.base.modality.length
        return sum(length(item) for feature in self.items for item in feature)


class Preparer:
    """Turns rows into `Prepared` ones; tasks that tokenize the same way share the work for the same texts."""

    def __init__(self, *, report_cut: bool = False) -> None:
        """Prepare with a warning for the first texts of an adapter that are cut, where `report_cut`."""
        self._tokenized: dict[Any, tuple[Columns, Columns]] = {}
        self._report_cut = report_cut

    def prepare(self, adapter: LoadedAdapter, rows: Sequence[Any], options: Mapping[str, Any]) -> Prepared:
        """Return rows, texts or dicts of columns, ready to run.

        `options` are options of generate where the task generates, else options of the task that its outputs depend
        on, such as top_k. Raises `DataError` for a row that the task can't read, `PoolError` for an invalid option.
        """
        task = adapter.task if adapter.task.generates else _with_options(adapter.task, options)
        key: Any = None
        if all(isinstance(row, str) for row in rows):
            key = (adapter.base, task.tokenize_key, tuple(rows))
        if key is None or key not in self._tokenized:
            columns = columns_of(task, rows)
            with adapter.base.tokenizing:
                features = _features(task, columns, adapter.base.tokenizer)
            if key is not None:
                self._tokenized[key] = columns, features
        else:
            columns, features = self._tokenized[key]
        if self._report_cut:
            _report_cut(adapter, columns, features)
        return Prepared(adapter, task, columns, features, options if task.generates else {})


def _report_cut(adapter: LoadedAdapter, columns: Columns, features: Columns) -> None:
    """Issue a warning for the first request of an adapter with texts that are cut; later ones would repeat it."""
    if adapter.cut_reported:
        return
    with adapter.base.tokenizing:
        cut = count_cut(adapter.task, columns.values, adapter.base.tokenizer, features.values)
    if cut:
        adapter.cut_reported = True
        warn(f"adapter '{adapter.name}': {cut_note(adapter.task, cut, len(columns))}; later ones aren't reported")


def _with_options(task: Task, options: Mapping[str, Any]) -> Task:
    if not options:
        return task
    names = {field.name for field in fields(task)}
    for name in options:
        if name not in names:
            raise PoolError(unknown(f"option of {task.name}", name, names))
    return replace(task, **options)


def _features(task: Task, columns: Columns, tokenizer: Any) -> Columns:
    try:
        return Columns(task.prompts(columns.values, tokenizer))
    except AdapterkitError:
        raise
    except Exception as error:  # tokenizers raise a bare Exception for rows that they can't truncate
        raise DataError(f"{task.name} can't read these rows: {type(error).__name__}: {error}") from error


def raised_or_value(value: T | AdapterkitError) -> T:
    """Return a value, or raise it where it is an error."""
    if isinstance(value, AdapterkitError):
        raise value
    return value
