"""Write files and folders atomically: after a crash or on a full disk, the old or the new content is there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import FileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of `data` as hex."""
    return hashlib.sha256(data).hexdigest()


def version_of(manifest: bytes | bytearray) -> str:
    """Return the version of an adapter with this manifest: the start of its SHA-256, as it holds the other digests."""
    return sha256(manifest)[:16]


def json_bytes(value: Any) -> bytes:
    """Return `value` as the JSON that adapterkit writes; NaN and infinity, which JSON doesn't have, become null."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def new_file(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` by one rename when the block ends; if the block raises, it is deleted.

    Without `sync` it isn't flushed to the disk first: for caches, whose content is verified when it is read. Raises
    `FileError` where the disk is full or not writable.
    """
    with _file_errors(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            os.fchmod(handle, 0o644)
            with _filled(handle, sync=sync) as file:
                yield file
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if sync:
            _sync(path.parent)


def write_file(path: Path, data: bytes | Iterable[bytes | memoryview], *, sync: bool = True) -> None:
    """Replace the content of `path` with `data`, all of it or its parts in order, as `new_file` does.

    Raises `FileError` where the disk is full or not writable.
    """
    with new_file(path, sync=sync) as file:
        _write_parts(file, data)


def write_folder(folder: Path, files: Mapping[str, bytes | Iterable[bytes | memoryview]]) -> None:
    """Create `folder` with these files, all or none; missing parents are created.

    A file may come in parts, which are requested once the files before it are written. In a folder that exists, each
    file is replaced on its own, so that its old or its new content is there at any time. Raises `FileError` where the
    disk is full or not writable.
    """
    if folder.is_dir() and not folder.is_symlink():
        for name, data in files.items():
            write_file(folder / name, data)
        return
    with new_folder(folder) as temporary:
        for name, data in files.items():
            with _filled(os.open(temporary / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)) as file:
                _write_parts(file, data)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder that becomes `path`, which must be missing or empty, by one rename when the block ends.

    If the block raises, the folder is deleted. Raises `FileError` where the disk is full or not writable.
    """
    with _file_errors(path):
        _make_parents(path.parent)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
        try:
            yield temporary
            for part in (*temporary.rglob("*"), temporary):
                os.chmod(part, 0o755 if part.is_dir() else 0o644)
                _sync(part)
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync(path.parent)


def remove(path: Path) -> None:
    """Delete a file or a folder; a folder is renamed first, so that no reader sees part of it.

    Raises `FileError` where that fails.
    """
    with _file_errors(path):
        if path.is_dir() and not path.is_symlink():
            temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name.strip('.')}.", suffix=".old"))
            os.rename(path, temporary / "was")
            _sync(path.parent)
            shutil.rmtree(temporary)
        else:
            path.unlink()
        _sync(path.parent)


def check_writable(folder: Path) -> None:
    """Raise `FileError` where no file can be written in `folder`; it is created if missing."""
    with _file_errors(folder):
        _make_parents(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()


def _make_parents(folder: Path) -> None:
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync(new.parent)


@contextlib.contextmanager
def _filled(handle: int, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Yield a descriptor as a file, and check at the end that the disk holds what was written."""
    with _CountingFile(handle, "wb") as raw:
        file = io.BufferedWriter(raw)
        yield file
        file.flush()
        if os.fstat(handle).st_size != raw.count:
            raise OSError(errno.EIO, "the disk holds less than was written")
        if sync:
            os.fsync(handle)


class _CountingFile(io.FileIO):
    """A file that is written from start to end; `count` is the bytes that the system reported as written.

    The position in the file is no substitute: it doesn't move where a write is lost.
    """

    count = 0

    def write(self, data: Buffer) -> int:
        written = super().write(data)
        self.count += written
        return written

    def truncate(self, size: int | None = None) -> int:
        self.count = super().truncate(size)
        return self.count


def _write_parts(file: BinaryIO, data: bytes | Iterable[bytes | memoryview]) -> None:
    for part in [data] if isinstance(data, bytes) else data:
        file.write(part)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(f"can't write '{path}': {error.strerror or error}") from error
