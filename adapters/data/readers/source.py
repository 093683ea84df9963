"""The source that a reader gets: a file's bytes, encoding and lines."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO, ClassVar, NoReturn

from ...errors import DataError
from ...settings import DataOptions
from .encodings import Encoding, chosen, detected

Row = dict[str, Any]
VERSION = 39
"""The version of the rows that readers return. Rows are cached by it: raise it with every change of them."""


@dataclass(frozen=True)
class BadRow:
    """A row that can't be read, though the rows after it can."""

    reason: str


NumberedRows = Iterator[tuple[int, Row | BadRow]]
"""Rows with the line that each begins on, or the line of its error; with their number where a format has no lines."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read a file, where its format or its content leaves a choice."""

    separator: str | None = None  # of the cells of a table
    column_names: tuple[str, ...] = ()  # of a table without a header
    encoding: str | None = None
    word_column: int | None = None  # of a CoNLL file, from 0 or, negative, from the end
    tag_column: int | None = None
    task: str | None = None  # that the rows are for, where it is named
    every_row: bool = False  # whether rows that an annotator rejected are read, too

    @classmethod
    def of(cls, options: DataOptions, task: str | None = None) -> ReadOptions:
        """Return the options of a run that concern the reading of a file."""
        return cls(
            separator=options.separator,
            column_names=options.column_names,
            encoding=options.encoding,
            word_column=options.word_column,
            tag_column=options.tag_column,
            task=task,
        )


@dataclass
class Source:
    """A file to read, the position reached (in bytes of the file or in rows), and notes about how it is read.

    A reader appends its notes at the latest when it has returned the last row.
    """

    name: str
    size: int
    file: BinaryIO = field(default_factory=io.BytesIO)
    options: ReadOptions = ReadOptions()
    unit: str = "line"
    reached: int = 0
    notes: list[str] = field(default_factory=list)
    path: str = ""  # of the bytes, where it isn't `name`: of a decompressed copy
    repeatable: ClassVar[bool] = True
    """Whether the file can be read again, for a look at its content before its rows are read."""

    def __post_init__(self) -> None:
        self.path = self.path or self.name

    @cached_property
    def encoding(self) -> Encoding:
        """The encoding of the file: the one of the options, or detected by reading the file once."""
        encoding = chosen(self.options.encoding) if self.options.encoding else detected(self.path, self.name)
        self.notes += [encoding.note] if encoding.note else []
        return encoding

    def lines(self) -> Iterator[str]:
        """Yield the lines of the file with their line ends. Bytes that encode no character become lone surrogates."""
        inside = 0
        for line in self._decoded(self.file):
            inside += "\r" in line[:-2]
            yield line
        self.reached = self.size
        self.count(
            inside if self.newline == "\n" else 0,
            "line holds a carriage return, which is part of its text",
            "lines hold carriage returns, which are part of their text",
        )

    @cached_property
    def newline(self) -> str:
        """The end of a line: a line feed, unless the file has carriage returns alone."""
        with open(self.path, "rb") as file:
            start = file.read(1 << 20)
        return "\n" if b"\n" in start or b"\r" not in start else ""

    def scan(self) -> Iterator[str]:
        """Yield the lines of the file, which are read again by `lines`."""
        with open(self.path, "rb") as file:
            yield from self._decoded(file)

    def sample(self, characters: int) -> list[str]:
        """Return the first lines of the file, which are read again by `lines`."""
        lines: list[str] = []
        for line in self.scan():
            lines.append(line)
            characters -= len(line)
            if characters <= 0:
                break
        return lines

    def _decoded(self, file: BinaryIO) -> Iterator[str]:
        codec = self.encoding.codec
        try:
            with io.TextIOWrapper(file, codec, errors="surrogateescape", newline=self.newline) as text:
                yield from text
        except UnicodeError as error:
            named = self.options.encoding or f"{self.encoding.name} that its first bytes announce"
            raise DataError(f"{self.name}: not the {named}: {getattr(error, 'reason', error)}") from error

    def undecoded(self, text: str) -> str | None:
        """Return what is wrong with a text that holds the lone surrogates of `lines`, or None for any other text."""
        return f"bytes that are not {self.encoding.name}" if has_surrogates(text) else None

    def count(self, number: int, one: str, many: str) -> None:
        """Append a note about a number of things, if there are any: "2 empty lines skipped"."""
        if number:
            self.notes.append(f"1 {one}" if number == 1 else f"{number:,} {many}")

    def position(self) -> int:
        """Return how much of `size` has been read."""
        return max(self.reached, 0 if self.file.closed else self.file.tell())

    def fail(self, line: int, reason: str) -> NoReturn:
        """Raise `DataError` for an error after which no row can be read."""
        raise DataError(f"{self.name}:{line}: {reason}")


SURROGATE = re.compile("[\udc80-\udcff]")


def has_surrogates(text: str) -> bool:
    """Return whether a text holds lone surrogates, with which `Source.lines` replaces undecodable bytes."""
    return not text.isascii() and SURROGATE.search(text) is not None
