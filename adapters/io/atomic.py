"""Write files so that after a crash, or on a full disk, there is the old or the new, and never half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import RegistryError


def sha256(data: bytes | bytearray) -> str:
    """Return the SHA-256 of `data` as hex."""
    return hashlib.sha256(data).hexdigest()


def version_of(manifest: bytes | bytearray) -> str:
    """Return the version that a manifest's bytes make: part of their SHA-256, since they hold the other digests."""
    return sha256(manifest)[:16]


def json_bytes(value: Any) -> bytes:
    """Return `value` as the JSON that adapterkit writes; a number that isn't finite, which JSON can't say, as null."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_file(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Put `data`, whole or in parts, at `path`, in the place of what was there: written beside, fsynced, renamed.

    Raises `RegistryError` where the disk is full or may not be written.
    """
    with _plain_words(path):
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            os.fchmod(handle, 0o644)
            _write_all(handle, data)
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        _sync(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes | Iterable[bytes | memoryview]]) -> None:
    """Make `folder` with these files, all or nothing; its parents are made too.

    A file may be given in parts, which are asked for when the files before it are written. Where there is such a
    folder, each of its files makes way for the new one by itself, so that one of the two is always there. Raises
    `RegistryError` where the disk is full or may not be written.
    """
    if folder.is_dir() and not folder.is_symlink():
        for name, data in files.items():
            write_file(folder / name, data)
        return
    with new_folder(folder) as beside:
        for name, data in files.items():
            _write_all(os.open(beside / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), data)


@contextlib.contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of `place`, which isn't there or is empty, once all of it is on the disk.

    Where anything is raised inside, it goes away. Raises `RegistryError` where the disk is full or may not be written.
    """
    with _plain_words(place):
        _make_parents(place.parent)
        beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".tmp"))
        try:
            yield beside
            for path in (*beside.rglob("*"), beside):
                os.chmod(path, 0o755 if path.is_dir() else 0o644)
                _sync(path)
            os.rename(beside, place)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        _sync(place.parent)


def remove(path: Path) -> None:
    """Delete a file or a folder for good; a folder is renamed first, so that no part of it is taken for the whole.

    Raises `RegistryError` where that can't be done.
    """
    with _plain_words(path):
        if path.is_dir() and not path.is_symlink():
            away = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name.strip('.')}.", suffix=".old"))
            os.rename(path, away / "was")
            _sync(path.parent)
            shutil.rmtree(away)
        else:
            path.unlink()
        _sync(path.parent)


def check_writable(folder: Path) -> None:
    """Raise `RegistryError` where nothing can be written in `folder`; it is made where it isn't there."""
    with _plain_words(folder):
        _make_parents(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()


def _make_parents(folder: Path) -> None:
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync(new.parent)


def _write_all(handle: int, data: bytes | Iterable[bytes | memoryview]) -> None:
    with open(handle, "wb") as file:
        expected = sum(file.write(part) for part in ([data] if isinstance(data, bytes) else data))
        file.flush()
        if os.fstat(file.fileno()).st_size != expected:
            raise OSError(errno.EIO, "the disk holds less than was written")
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _plain_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RegistryError(f"can't write '{path}': {error.strerror or error}") from error
