"""Rows to answer, as they come: texts that were typed, the rows of a file, or those of a stream."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from ..errors import DataError
from .readers import READERS, Bad, Found, Row, Source, opened

TEXT = "text"
"""The column of texts that came without one."""
STREAMED = ("txt", "jsonl", "csv", "tsv")
"""What a stream can hold."""


@dataclass(frozen=True)
class Given:
    """Rows to answer, each with its line."""

    name: str  # of the file; empty for texts that were typed
    rows: Iterable[tuple[int, Row]]
    again: bool = False  # whether they can be read more than once
    plain: bool = False  # whether they are texts, whose fields are separated by tabs
    more: Callable[[float], bool] = lambda seconds: True
    """Whether the next row, or the end, is there or comes within some seconds."""

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        for number, (line, row) in enumerate(self.rows, start=1):
            if self.plain and line != number:  # readers pass over blank lines, and the answers would slip
                raise DataError(f"{self.at(number)}: the line is empty")
            yield line, row

    def at(self, line: int) -> str:
        """Say where a row stands."""
        return f"{self.name}:{line}" if self.name else f"text {line}"

    def error(self, text: str) -> DataError:
        """Return an error about all of the rows."""
        return DataError(f"{self.name}: {text}" if self.name else text)


def from_texts(texts: Sequence[str]) -> Given:
    """Return texts as rows."""
    return Given("", [(i, {TEXT: text}) for i, text in enumerate(texts, start=1)], again=True, plain=True)


def from_file(path: str) -> Given:
    """Return the rows of a file, as they stand in it; a .txt has a text on each line."""
    return Given(path, _File(path), again=True, plain=path.lower().endswith(".txt"))


def from_stream(name: str, file: BinaryIO, kind: str | None = None) -> Given:
    """Return the rows of a stream of a kind of `STREAMED`: by default JSON where it begins with {, else texts."""
    source = _Stream(name, 0, file)
    first = source.begin()
    kind = kind or ("jsonl" if first.startswith(b"{") else "txt")
    return Given(name, _sound(source, READERS[f".{kind}"](source)), plain=kind == "txt", more=source.more)


class _File:
    """The rows of a file, the same ones each time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        with opened(self.path) as (source, found):
            state = os.fstat(source.file.fileno())
            now = state.st_mtime_ns, state.st_size
            if self.seen not in (None, now):
                raise DataError(f"{self.path} was changed while it was being read")
            self.seen = now
            yield from _sound(source, found)


@dataclass
class _Stream(Source):
    """A source that is read once, each line as soon as it is there; so its encoding is found line by line."""

    here: deque[bytes] = field(default_factory=deque)
    rest: list[bytes] = field(default_factory=list)  # the pieces of a line whose end isn't there yet

    def begin(self) -> bytes:
        """Take a mark of the encoding off the first line; return that line, which is still to be read."""
        first = self._next().removeprefix(b"\xef\xbb\xbf")
        self.here.appendleft(first)
        return first.lstrip()

    def lines(self) -> Iterator[str]:
        while line := self._next():
            try:
                yield line.decode()
            except UnicodeDecodeError:
                yield line.decode("cp1252", "surrogateescape")

    def more(self, seconds: float) -> bool:
        """Tell whether another line, or the end, is there or comes within some seconds."""
        if any(line.strip() for line in self.here):  # a blank one holds no row
            return True
        try:
            return bool(select.select([self.file], [], [], seconds)[0])
        except (OSError, ValueError):  # nothing that can be waited for, such as bytes in memory
            return True

    def _next(self) -> bytes:
        """Return the next line, waiting for it, or nothing at the end."""
        while not self.here:
            piece: bytes = self.file.read1(1 << 16)  # type: ignore[attr-defined]  # as much as is there, and no more
            *ends, rest = piece.split(b"\n")
            for end in ends:
                self.here.append(b"".join((*self.rest, end, b"\n")))
                self.rest.clear()
            self.rest.append(rest)
            if not piece:
                self.here.append(b"".join(self.rest))
                self.rest.clear()
        return self.here.popleft()


def _sound(source: Source, found: Found) -> Iterator[tuple[int, Row]]:
    for line, row in found:
        if isinstance(row, Bad):
            source.fail(line, row.reason)
        yield line, row
