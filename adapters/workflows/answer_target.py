"""An adapter that answers rows, and which of their columns it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..data.blank import is_blank
from ..data.input_rows import TEXT
from ..data.readers import Row
from ..errors import DataError
from ..tasks import Task
from ..tasks.columns import LABELS, TEXTS
from ..tasks.inputs import Inputs, inputs_of

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter

ROUTE = "adapter"
"""The column that names the adapter of a row."""


@dataclass
class Target:
    """An adapter that answers rows, and the columns in which they have its task's inputs."""

    name: str  # as requested
    reference: str  # name@version, so that all rows have answers of one version
    adapter: Adapter  # without its tensors
    task: Task
    columns: dict[str, str]  # from the task's columns to the rows'
    answered: int = 0
    cut: int = 0  # rows that are longer than the task reads
    fields: set[str] = field(default_factory=set)  # of the inputs of the rows before

    def inputs(self, row: Row, location: str, *, plain: bool) -> Inputs:
        """Return a row's values by the task's columns. Raises `DataError` for one that the task can't read."""
        try:
            values = inputs_of(self.task, row[TEXT] if plain else row, self.columns)
        except DataError as error:
            raise DataError(f"{location}: {error}") from error
        if self.fields not in (set(), set(values)):
            (column,) = self.columns.values()
            text = "" if len(values) > 1 else "not "
            raise DataError(f"{location}: {column} is {text}a text, unlike in the rows before")
        self.fields = set(values)
        return values


def text_column(rows: list[Row], columns: list[str]) -> str | None:
    """Return the only column of texts or, of several, the only one with a usual name; None where neither exists."""
    filled = {c for row in rows for c, value in row.items() if isinstance(value, str) and not is_blank(value)}
    texts = [column for column in columns if column in filled - {ROUTE, *LABELS}]
    named = [column for column in texts if column.lower() in TEXTS]
    return next((names[0] for names in (texts, named) if len(names) == 1), None)
