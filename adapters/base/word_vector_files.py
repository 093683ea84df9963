"""Read files of word vectors: word2vec, GloVe and fastText."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..errors import BaseModelError

_SAMPLE = 1 << 18  # bytes from which the format is inferred; a table's first row is shorter
_CHUNK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")  # never in text, but soon in binary floats

_OTHERS = {
    b"PK\x03\x04": "a zip archive, to be unpacked first",
    b"\xba\x16\x4f\x2f": "a fastText model, whose vectors are in the .vec beside it",
    b"\x80": "a pickle, which can hold code",
    b"BZh": "compressed by bzip2, to be unpacked first",
    b"\xfd7zXZ": "compressed by xz, to be unpacked first",
}

Row = tuple[str, str, Any]  # its position for errors, the word, and its numbers: decimal bytes or an array


@dataclass(frozen=True)
class Layout:
    """The format of a table."""

    binary: bool
    rows: int | None  # from the header; None without one
    dim: int


def format_problem(path: str) -> str | None:
    """Return what a file is instead of word vectors, such as `is empty`, or None where it is word vectors."""
    if not os.path.isfile(path):
        return "is not a regular one"
    try:
        with _open(path) as file:
            sample = file.read(_SAMPLE)
    except (OSError, EOFError, zlib.error) as error:
        return f"can't be read: {getattr(error, 'strerror', None) or error}"
    if _layout(sample) is not None:
        return None
    if not sample:
        return "is empty"
    kind = next((kind for magic, kind in _OTHERS.items() if sample.startswith(magic)), None)
    return f"is {kind}" if kind else f"begins with {_shown(sample)}"


def read(path: str) -> tuple[dict[str, int], np.ndarray]:
    """Return a table as the row of each word, and a float32 array, (rows plus at least two unused ones, dim).

    Raises `BaseModelError`, with file and line, at the first row that doesn't match the header or the other rows.
    """
    try:
        with _open(path) as file:
            layout = _layout(file.read(_SAMPLE))
        if layout is None:
            raise BaseModelError(f"{path}: no word vectors; the file {format_problem(path)}")
        with _open(path) as file:
            rows = (_binary_rows if layout.binary else _text_rows)(path, file, layout)
            return _filled(path, layout, rows)
    except (OSError, EOFError, zlib.error) as error:
        raise BaseModelError(f"{path}: can't be read to its end: {error}") from error
    except MemoryError as error:
        raise BaseModelError(f"{path}: too large for this machine: {error}") from error


@np.errstate(over="ignore")  # overflow is reported below
def _filled(path: str, layout: Layout, rows: Iterator[Row]) -> tuple[dict[str, int], np.ndarray]:
    words: dict[str, int] = {}
    vectors = np.empty((_capacity(path, layout), layout.dim), np.float32)
    count = 0
    for position, word, numbers in rows:
        count += 1
        n = len(words)
        if n + 2 >= len(vectors):
            vectors = _doubled(vectors, n)
        try:
            vectors[n] = numbers
        except ValueError:
            wrong = next(number for number in numbers if not _is_number(number))
            raise BaseModelError(f"{position}: {_shown(wrong)} after '{word}' is not a number") from None
        if not np.isfinite(vectors[n]).all():
            raise BaseModelError(f"{position}: a number after '{word}' is not finite in float32")
        words.setdefault(word, n)
    if not count:
        raise BaseModelError(
            f"{path}: no rows" + ("" if layout.rows is None else f"; the header announces {layout.rows}")
        )
    if layout.rows not in (None, count):
        raise BaseModelError(f"{path}: the header announces {layout.rows} rows, but the file has {count}")
    return words, vectors


def _capacity(path: str, layout: Layout) -> int:
    """Return the number of rows to allocate: the header's, limited by the size of the file."""
    size = os.path.getsize(path) * (1032 if _is_gzip(path) else 1)  # gzip's maximum ratio
    least = layout.dim * (4 if layout.binary else 2)
    if layout.rows and least > size:
        raise BaseModelError(f"{path}: the header announces rows of {layout.dim} numbers, more than the file can hold")
    return min(1024 if layout.rows is None else layout.rows, size // least + 1) + 3


def _doubled(vectors: np.ndarray, used: int) -> np.ndarray:
    larger = np.empty((2 * len(vectors), vectors.shape[1]), np.float32)  # pages that are never written take no memory
    larger[:used] = vectors[:used]
    return larger


def _text_rows(path: str, file: BinaryIO, layout: Layout) -> Iterator[Row]:
    expected = f"expected {layout.dim} as in {'the first row' if layout.rows is None else 'the header'}"
    for line, text in enumerate(file, start=1):
        fields = text.removeprefix(_BOM).split() if line == 1 else text.split()
        if not fields or (line == 1 and layout.rows is not None):
            continue
        end = max(len(fields) - layout.dim, 1)  # some of GloVe's words contain spaces: `. . .`, `at name@domain.com`
        if len(fields) != end + layout.dim or any(map(_is_number, fields[1:end])):
            raise BaseModelError(f"{path}:{line}: {len(fields) - 1} numbers after {_shown(fields[0])}, {expected}")
        yield f"{path}:{line}", _decoded(b" ".join(fields[:end])), fields[end:]


def _binary_rows(path: str, file: BinaryIO, layout: Layout) -> Iterator[Row]:
    file.readline()
    buffer, at, size = b"", 0, 4 * layout.dim
    for row in range(1, (layout.rows or 0) + 1):
        position = f"{path}: row {row} of {layout.rows}"
        while (space := buffer.find(b" ", at)) < 0 or len(buffer) <= space + size:
            more = file.read(_CHUNK)
            if not more:
                raise BaseModelError(
                    f"{position}: the file ends within the row; expected a word and {layout.dim} floats"
                )
            if space < 0 and len(buffer) - at > _CHUNK:
                raise BaseModelError(f"{position}: no space after the word; the header's {layout.dim} may be wrong")
            buffer, at = buffer[at:] + more, 0
        yield position, _decoded(buffer[at:space].lstrip(b"\n")), np.frombuffer(buffer, "<f4", layout.dim, space + 1)
        at = space + 1 + size
    if (buffer[at:] + file.read(_CHUNK)).strip():
        raise BaseModelError(
            f"{path}: the header announces {layout.rows} rows of {layout.dim} floats, but more data follows"
        )


def _layout(sample: bytes) -> Layout | None:
    """Return the format of a table from the beginning of its file; None for any other file."""
    first, _, rest = sample.removeprefix(_BOM).partition(b"\n")
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields) and int(fields[1]):
        return Layout(not _is_text(rest, int(fields[1])), int(fields[0]), int(fields[1]))
    numbers = sum(map(_is_number, fields[1:]))
    if _CONTROL.search(first) or len(fields) < 3 or 2 * numbers <= len(fields) - 1:
        return None
    return Layout(False, None, len(fields) - 1)


def _is_text(body: bytes, dim: int) -> bool:
    """Return whether numbers are in decimal, from the rows after the header."""
    row = body.partition(b"\n")[0]
    if not _CONTROL.search(row) and sum(map(_is_number, row.split()[1:])) == dim:
        return True
    return not _CONTROL.search(body) and "\ufffd" not in _decoded(body[:-4])  # the last character may be cut


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _open(path: str) -> BinaryIO:
    return gzip.open(path, "rb") if _is_gzip(path) else open(path, "rb")  # type: ignore[return-value]


def _is_gzip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _decoded(word: bytes) -> str:
    return word.decode("utf-8", "replace")


def _shown(data: bytes) -> str:
    """Return the beginning of the first line of `data`, quoted."""
    line = _decoded(data[:160].partition(b"\n")[0].strip())
    return repr(line if len(line) <= 40 else line[:40] + "…")
