"""The source that a reader gets: a file's bytes, encoding and lines."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO, NoReturn

from ...errors import DataError

Row = dict[str, Any]
VERSION = 2
"""The version of the rows that readers return. Rows are cached by it: raise it with every change of them."""


@dataclass(frozen=True)
class BadRow:
    """A row that can't be read, though the rows after it can."""

    reason: str


NumberedRows = Iterator[tuple[int, Row | BadRow]]
"""Rows with the line that each begins on, or the line of its error; with their number where a format has no lines."""


@dataclass
class Source:
    """A file to read, and the position reached, in bytes of the file or in rows."""

    name: str
    size: int
    file: BinaryIO = field(default_factory=io.BytesIO)
    tag_column: int | None = None
    unit: str = "line"
    reached: int = 0

    @cached_property
    def encoding(self) -> str:
        """The encoding of the file, detected by reading all of it once."""
        return encoding(self.name)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the file with their line ends. Bytes that encode no character become lone surrogates."""
        try:
            with io.TextIOWrapper(self.file, self.encoding, errors="surrogateescape", newline="") as text:
                yield from text
        except UnicodeDecodeError as error:
            raise DataError(f"{self.name}: not the UTF-16 that its first bytes announce: {error.reason}") from error
        self.reached = self.size

    def position(self) -> int:
        """Return how much of `size` has been read."""
        return max(self.reached, 0 if self.file.closed else self.file.tell())

    def fail(self, line: int, reason: str) -> NoReturn:
        """Raise `DataError` for an error after which no row can be read."""
        raise DataError(f"{self.name}:{line}: {reason}")


def encoding(path: str) -> str:
    """Return the encoding of a text file: UTF-8 or UTF-16 with or without a byte order mark, else Windows-1252.

    Latin-1 files are decoded correctly, too: their printable characters are the same.
    """
    with open(path, "rb") as file:
        start = file.read(4)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while piece := file.read(1 << 20):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


SURROGATE = re.compile("[\udc80-\udcff]")
UNDECODED = "bytes that are neither UTF-8 nor Windows-1252"


def undecoded(text: str) -> bool:
    """Return whether a text holds lone surrogates, with which `Source.lines` replaces undecodable bytes."""
    return not text.isascii() and SURROGATE.search(text) is not None
