"""Rows to predict: texts as they are typed, and what rows of files and streams have in common with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import AdapterkitError, DataError
from .readers.source import BadRow, Row

TEXT = "text"
"""The column of texts without columns."""
STREAMED = ("txt", "jsonl", "csv", "tsv")
"""The formats of a stream."""


@dataclass(frozen=True)
class InputRows:
    """Rows to predict, each with its line."""

    name: str  # of the file; empty for typed texts
    rows: Iterable[tuple[int, Row | BadRow]]
    repeatable: bool = False  # whether they can be iterated again
    texts_only: bool = False  # whether they are texts with tab-separated fields
    ready: Callable[[float], bool] = lambda seconds: True
    """Whether the next row, or the end, is available within some seconds."""
    notes: list[str] = field(default_factory=list)
    """How the rows are read, where it isn't as expected; complete after the last row."""
    skip_bad: bool = False
    """Whether bad rows, and blank lines among texts, are rows that have no answer."""

    def __iter__(self) -> Iterator[tuple[int, Row | BadRow]]:
        number = 0
        for line, row in self.rows:
            number += 1
            while self.texts_only and line != number:  # readers skip blank lines, which would shift the answers
                if not self.skip_bad:
                    raise self.refused(DataError(f"{self.at(number)}: the line is empty"))
                yield number, {TEXT: ""}
                number += 1
            if isinstance(row, BadRow) and not self.skip_bad:
                raise self.refused(DataError(f"{self.at(line)}: {row.reason}"))
            yield line, row

    def at(self, line: int) -> str:
        """Return the place of a row for errors: file and line."""
        return f"{self.name}:{line}" if self.name else f"text {line}"

    def refused(self, error: AdapterkitError) -> AdapterkitError:
        """Return the error of a bad row with the flag that answers the other rows, where there may be others."""
        if self.name and not self.skip_bad:
            error.suggestion = ("--skip-bad-rows",)
        return error

    def error(self, text: str) -> DataError:
        """Return an error about all of the rows."""
        return DataError(f"{self.name}: {text}" if self.name else text)


def from_texts(texts: Sequence[str]) -> InputRows:
    """Return texts as rows."""
    return InputRows("", [(i, {TEXT: text}) for i, text in enumerate(texts, start=1)], repeatable=True, texts_only=True)
