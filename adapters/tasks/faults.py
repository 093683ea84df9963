"""The rows that a task refuses, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..data.column_types import LINE
from ..errors import DataError, printable

if TYPE_CHECKING:
    from datasets import Dataset

Check = Callable[["Dataset", str], None]

_CHUNK = 512
"""The number of rows that are checked together."""


def faults_by_check(check: Check, data: Dataset, file: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the reason of each row that `check` refuses, by halving chunks of rows.

    Raises the `DataError` of an error that is about no row, such as a missing column.
    """
    for start in range(0, len(data), _CHUNK):
        yield from _within(check, data, file, start, min(start + _CHUNK, len(data)))


def _within(check: Check, data: Dataset, file: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    try:
        check(data.select(range(start, end)), file)
    except DataError as error:
        if end - start > 1:
            middle = (start + end) // 2
            yield from _within(check, data, file, start, middle)
            yield from _within(check, data, file, middle, end)
            return
        place = printable(f"{file}:{data[LINE][start]}: ")
        if not str(error).startswith(place):
            raise
        yield start, str(error).removeprefix(place)
