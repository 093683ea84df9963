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

_SAMPLE = 1 << 18  # bytes looked at to tell what a file is: the first row of a table lies within


_CHUNK = 1 << 20


_BOM = b"\xef\xbb\xbf"


_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")  # never in text, and soon in floats


_OTHERS = {
    b"PK\x03\x04": "a zip archive, to be unpacked first",
    b"\xba\x16\x4f\x2f": "a fastText model, whose vectors are in the .vec beside it",
    b"\x80": "a pickle, which can hold code",
    b"BZh": "compressed by bzip2, to be unpacked first",
    b"\xfd7zXZ": "compressed by xz, to be unpacked first",
}


Row = tuple[str, str, Any]  # where it stands, the word, its numbers: bytes in decimal or an array


@dataclass(frozen=True)
class Layout:
    """How a table is written."""

    binary: bool
    rows: int | None  # as the header says; None where there is no header
    dim: int


def format_problem(path: str) -> str | None:
    """Say what a file is (`is empty`) if not word vectors, judged by how it begins; return None if it is."""
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
    what = next((what for magic, what in _OTHERS.items() if sample.startswith(magic)), None)
    return f"is {what}" if what else f"begins with {_shown(sample)}"


def read(path: str) -> tuple[dict[str, int], np.ndarray]:
    """Return a table as rows by word and a float32 array, (rows and at least two unused ones, dim).

    Raises `BaseModelError`, with file and line, at the first row that isn't as the others or as the header says.
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


@np.errstate(over="ignore")  # what is too large for float32 is refused below
def _filled(path: str, layout: Layout, rows: Iterator[Row]) -> tuple[dict[str, int], np.ndarray]:
    words: dict[str, int] = {}
    vectors = np.empty((_capacity(path, layout), layout.dim), np.float32)
    found = 0
    for where, word, numbers in rows:
        found += 1
        n = len(words)
        if n + 2 >= len(vectors):
            vectors = _doubled(vectors, n)
        try:
            vectors[n] = numbers
        except ValueError:
            wrong = next(number for number in numbers if not _is_number(number))
            raise BaseModelError(f"{where}: {_shown(wrong)} after '{word}' is not a number") from None
        if not np.isfinite(vectors[n]).all():
            raise BaseModelError(f"{where}: a number after '{word}' is not finite in float32")
        words.setdefault(word, n)
    if not found:
        raise BaseModelError(f"{path}: no rows" + ("" if layout.rows is None else f"; its header says {layout.rows}"))
    if layout.rows not in (None, found):
        raise BaseModelError(f"{path}: its header says {layout.rows} rows, but there are {found}")
    return words, vectors


def _capacity(path: str, layout: Layout) -> int:
    """Return how many rows to make room for: what the header says, if the file can hold that many."""
    size = os.path.getsize(path) * (1032 if _is_gzip(path) else 1)  # gzip can't do better than 1032 to 1
    least = layout.dim * (4 if layout.binary else 2)
    if layout.rows and least > size:
        raise BaseModelError(f"{path}: its header says rows of {layout.dim} numbers, more than the file can hold")
    return min(1024 if layout.rows is None else layout.rows, size // least + 1) + 3


def _doubled(vectors: np.ndarray, used: int) -> np.ndarray:
    larger = np.empty((2 * len(vectors), vectors.shape[1]), np.float32)  # what is never written takes no memory
    larger[:used] = vectors[:used]
    return larger


def _text_rows(path: str, file: BinaryIO, layout: Layout) -> Iterator[Row]:
    expected = f"{layout.dim} were expected, as in {'the first row' if layout.rows is None else 'the header'}"
    for line, text in enumerate(file, start=1):
        fields = text.removeprefix(_BOM).split() if line == 1 else text.split()
        if not fields or (line == 1 and layout.rows is not None):
            continue
        end = max(len(fields) - layout.dim, 1)  # some of GloVe's words hold spaces: `. . .`, `at name@domain.com`
        if len(fields) != end + layout.dim or any(map(_is_number, fields[1:end])):
            raise BaseModelError(f"{path}:{line}: {len(fields) - 1} numbers after {_shown(fields[0])}, but {expected}")
        yield f"{path}:{line}", _decoded(b" ".join(fields[:end])), fields[end:]


def _binary_rows(path: str, file: BinaryIO, layout: Layout) -> Iterator[Row]:
    file.readline()
    buffer, at, size = b"", 0, 4 * layout.dim
    for row in range(1, (layout.rows or 0) + 1):
        where = f"{path}: row {row} of {layout.rows}"
        while (space := buffer.find(b" ", at)) < 0 or len(buffer) <= space + size:
            more = file.read(_CHUNK)
            if not more:
                raise BaseModelError(f"{where}: the file ends within it; a word and {layout.dim} floats were expected")
            if space < 0 and len(buffer) - at > _CHUNK:
                raise BaseModelError(f"{where}: no space ends its word; the header's {layout.dim} may be wrong")
            buffer, at = buffer[at:] + more, 0
        yield where, _decoded(buffer[at:space].lstrip(b"\n")), np.frombuffer(buffer, "<f4", layout.dim, space + 1)
        at = space + 1 + size
    if (buffer[at:] + file.read(_CHUNK)).strip():
        raise BaseModelError(f"{path}: its header says {layout.rows} rows of {layout.dim} floats, but more follows")


def _layout(sample: bytes) -> Layout | None:
    """Tell how a table is written from how it begins; None if it isn't one."""
    first, _, rest = sample.removeprefix(_BOM).partition(b"\n")
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields) and int(fields[1]):
        return Layout(not _is_text(rest, int(fields[1])), int(fields[0]), int(fields[1]))
    numbers = sum(map(_is_number, fields[1:]))
    if _CONTROL.search(first) or len(fields) < 3 or 2 * numbers <= len(fields) - 1:
        return None
    return Layout(False, None, len(fields) - 1)


def _is_text(body: bytes, dim: int) -> bool:
    """Tell whether numbers are written in decimal, from what follows the header."""
    row = body.partition(b"\n")[0]
    if not _CONTROL.search(row) and sum(map(_is_number, row.split()[1:])) == dim:
        return True
    return not _CONTROL.search(body) and "\ufffd" not in _decoded(body[:-4])  # the last letter may be cut


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
