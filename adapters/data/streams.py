"""Rows to predict: those of a file, or of a stream as they arrive."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, ClassVar

from ..errors import DataError
from .input_rows import InputRows
from .readers import (
    READERS,
    Encoding,
    NumberedRows,
    ReadOptions,
    Source,
    chosen,
    files_of,
    guessed,
    holds_texts,
    open_rows,
)


def from_file(path: str, options: ReadOptions | None = None, *, skip_bad: bool = False) -> InputRows:
    """Return the rows of a file in their order; a .txt has a text on each line, unless it is CoNLL's or fastText's."""
    options = replace(options or ReadOptions(), every_row=True)
    rows = _File(path, options)
    texts_only = holds_texts(path, options)
    return InputRows(path, rows, repeatable=True, texts_only=texts_only, notes=rows.notes, skip_bad=skip_bad)


def from_stream(
    name: str,
    file: BinaryIO,
    kind: str | None = None,
    options: ReadOptions | None = None,
    *,
    skip_bad: bool = False,
) -> InputRows:
    """Return the rows of a stream in a format of `STREAMED`, by default JSON lines if it begins with {, else texts."""
    source = _Stream(name, 0, file, replace(options or ReadOptions(), every_row=True))
    first = source.begin()
    kind = kind or ("jsonl" if first.startswith(b"{") else "txt")
    rows = READERS[f".{kind}"](source)
    texts_only = kind == "txt"
    return InputRows(name, rows, texts_only=texts_only, ready=source.ready, notes=source.notes, skip_bad=skip_bad)


class _File:
    """The rows of a file, the same in every iteration."""

    def __init__(self, path: str, options: ReadOptions) -> None:
        self.path, self.options = path, options
        self.seen: list[tuple[int, int]] | None = None
        self.notes: list[str] = []

    def __iter__(self) -> NumberedRows:
        with open_rows(self.path, self.options) as (source, numbered):
            now = [(state.st_mtime_ns, state.st_size) for state in map(os.stat, files_of(self.path))]
            if self.seen not in (None, now):
                raise DataError(f"{self.path} was changed while it was being read")
            self.seen = now
            yield from numbered
            self.notes[:] = [f"{self.path}: {note}" for note in source.notes]


@dataclass
class _Stream(Source):
    """A source that is read once, each line as soon as it arrives.

    Its encoding, unless it is UTF-8 or chosen, is detected from the first line that isn't UTF-8.
    """

    lines_read: deque[bytes] = field(default_factory=deque)
    partial: list[bytes] = field(default_factory=list)  # the pieces of a line whose end hasn't arrived
    other: Encoding | None = None  # where a line wasn't UTF-8
    repeatable: ClassVar[bool] = False

    def begin(self) -> bytes:
        """Remove a byte order mark from the first line, and return the line without consuming it."""
        first = self._next().removeprefix(b"\xef\xbb\xbf")
        self.lines_read.appendleft(first)
        return first.lstrip()

    def lines(self) -> Iterator[str]:
        while line := self._next():
            yield self._decode(line)

    def sample(self, characters: int) -> list[str]:
        """Return the first line, which `lines` yields again."""
        line = self._next()
        self.lines_read.appendleft(line)
        return [self._decode(line)] if line else []

    def _decode(self, line: bytes) -> str:
        if self.options.encoding is None and self.other is None:
            try:
                return line.decode()
            except UnicodeDecodeError:
                self.other = guessed(line, self.name)
                self.notes.append(self.other.note)
        try:
            return line.decode(self.encoding.codec, "surrogateescape")
        except UnicodeError as error:  # of UTF-16, whose lines end in other bytes, and of other encodings with states
            raise DataError(f"{self.name}: a stream can't be read line by line as {self.encoding.name}") from error

    @property
    def encoding(self) -> Encoding:  # not cached, as a later line may change it
        """The encoding of the next line."""
        return chosen(self.options.encoding) if self.options.encoding else self.other or Encoding("utf-8-sig")

    def ready(self, seconds: float) -> bool:
        """Return whether another line, or the end, is available within some seconds."""
        if any(line.strip() for line in self.lines_read):  # a blank one holds no row
            return True
        try:
            return bool(select.select([self.file], [], [], seconds)[0])
        except (OSError, ValueError):  # not a file that select can wait for, such as bytes in memory
            return True

    def _next(self) -> bytes:
        """Wait for the next line and return it; empty at the end."""
        while not self.lines_read:
            piece: bytes = self.file.read1(1 << 16)  # type: ignore[attr-defined]  # no more than is available
            *ends, rest = piece.split(b"\n")
            for end in ends:
                self.lines_read.append(b"".join((*self.partial, end, b"\n")))
                self.partial.clear()
            self.partial.append(rest)
            if not piece:
                self.lines_read.append(b"".join(self.partial))
                self.partial.clear()
        return self.lines_read.popleft()
