"""Decompress a data file to a temporary one, within a bound: gzip, bzip2, xz, zstandard, and zip with one data file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from ...errors import DataError

SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")
MAGIC = {
    b"\x1f\x8b\x08": ".gz",
    **{b"BZh%d1AY&SY" % level: ".bz2" for level in range(1, 10)},
    b"BZh9\x17rE8P\x90": ".bz2",  # of nothing
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
    b"PK\x05\x06": ".zip",  # of nothing
}
"""The suffix of a compressed file by its first bytes."""
LEAST = 1 << 26
RATIO = 200
"""A file may decompress to `LEAST` bytes, and to `RATIO` times its size beyond; real tables reach about 50."""
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, ValueError, RuntimeError, MemoryError),
)
"""What damaged archives raise; `RuntimeError` is zipfile's for encrypted ones and for methods it doesn't have."""


def inner_name(path: str, formats: Collection[str]) -> str:
    """Return the name of the file in a compressed one, whose suffix is among `formats`; of any other file its path.

    Raises `DataError` where there is none or, in a zip archive, more than one.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        return path
    _check_magic(path, suffix)
    if suffix == ".zip":
        return _member(path, formats)
    inner = Path(path).stem
    if Path(inner).suffix.lower() not in formats:
        raise DataError(f"{path}: the name of the data file was expected before {suffix}, such as {inner}.csv{suffix}")
    return inner


@contextmanager
def decompressed(path: str, formats: Collection[str]) -> Iterator[str]:
    """Yield the path of a file with the content of a compressed one, removed afterwards; of any other file its path.

    Raises `DataError` for a damaged or truncated file, and for one that would decompress to far more than data does.
    """
    inner = inner_name(path, formats)
    if inner == path:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="adapterkit-") as folder:
        target = Path(folder, "data" + PurePosixPath(inner).suffix.lower())
        try:
            with target.open("wb") as out, _opened(path, inner) as file:
                _copy(path, file, out)
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno:  # of the disk, not of the archive
                raise DataError(f"{path}: can't be decompressed to '{folder}': {error.strerror}") from error
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(f"{path}: can't be decompressed: {reason}") from error
        yield str(target)


def compression_of(path: str) -> str | None:
    """Return the suffix of a compressed file by its first bytes; None for any other file."""
    if not Path(path).is_file():  # a pipe can be read once
        return None
    try:
        with open(path, "rb") as file:
            start = file.read(10)
    except OSError:
        return None
    return next((suffix for magic, suffix in MAGIC.items() if start.startswith(magic)), None)


def _check_magic(path: str, suffix: str) -> None:
    """Raise `DataError` where the first bytes of a file are not those of its suffix."""
    actual = compression_of(path)
    if actual is None and Path(path).is_file():
        raise DataError(f"{path}: not compressed as {suffix}; a file that isn't is named {Path(path).stem}")
    if actual not in (None, suffix):
        raise DataError(f"{path}: compressed as {actual}, not {suffix}; name it {Path(path).stem}{actual}")


def _member(path: str, formats: Collection[str]) -> str:
    """Return the only data file of a zip archive; hidden files and those of other suffixes don't count."""
    members = _members(path)
    data = [name for name in members if PurePosixPath(name).suffix.lower() in formats]
    if len(data) != 1:
        names = ", ".join(map(repr, (data or members)[:8])) or "nothing"
        more = ", …" if len(data or members) > 8 else ""
        what = f"{len(data)} data files" if data else "no data file"
        raise DataError(f"{path}: one data file was expected in it, got {what}: {names}{more}; extract it first")
    return data[0]


def _members(path: str) -> list[str]:
    """Return the names of the files in a zip archive, without hidden ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except DAMAGE as error:
        raise DataError(f"{path}: can't be decompressed: {error}") from error
    return [name for name in names if not any(p.startswith((".", "__MACOSX")) for p in PurePosixPath(name).parts)]


def unread_members(path: str, inner: str) -> str:
    """Return a note about the files of a zip archive beside the one that is read; empty where there is none."""
    others = [name for name in _members(path) if name != inner] if Path(path).suffix.lower() == ".zip" else []
    return f"'{inner}' is read; not read: {', '.join(others[:8])}{', …' if len(others) > 8 else ''}" if others else ""


@contextmanager
def _opened(path: str, inner: str) -> Iterator[IO[bytes] | Any]:
    suffix = Path(path).suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(inner) as file:
            yield file
    elif suffix == ".zst":
        import pyarrow as pa  # type: ignore[import-untyped]

        with pa.input_stream(path, compression="zstd") as file:
            yield file
    else:
        opener: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[suffix]
        with opener(path, "rb") as file:
            yield file


def _copy(path: str, file: IO[bytes] | Any, out: BinaryIO) -> None:
    """Copy the decompressed bytes. Raises `DataError` where they are more than the bound of `RATIO`."""
    most = LEAST + RATIO * Path(path).stat().st_size
    most = min(most, shutil.disk_usage(Path(out.name).parent).free)
    size = 0
    while chunk := file.read(1 << 20):
        size += len(chunk)
        if size > most:
            raise DataError(f"{path}: decompresses to over {most:,} bytes, from {Path(path).stat().st_size:,}")
        out.write(chunk)
