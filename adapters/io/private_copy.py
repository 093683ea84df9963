"""A copy of a file that no other process changes, mapped into memory."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from .untrusted import opened, read_file

_IN_MEMORY = Path("/dev/shm")
_BLOCK = 1 << 24  # bytes that are copied at a time


class PrivateCopy:
    """A copy of a file's bytes, and a file of them in a folder of its own for libraries that map files themselves.

    On Linux the folder, which other users can't open, is in memory where there is room, else among the temporary files.
    It is deleted by `delete`, or with the copy; what is mapped by then stays. Elsewhere, and where no folder can be
    made, the copy is bytes without a file.
    """

    NAME = "copy"
    """The name of the file in its folder."""

    def __init__(self, path: Path, size: int) -> None:
        """Copy a regular file of exactly `size` bytes; raises what `read_file` raises."""
        self.folder: str | None = None
        self.data = memoryview(b"")
        if size and hasattr(os, "sendfile") and os.path.exists("/proc/self/fd"):
            with contextlib.suppress(_NoRoom):
                self._copy(path, size)
                return
        self.data = memoryview(read_file(path, size=size))

    def _copy(self, path: Path, size: int) -> None:
        with opened(path) as file:
            if (nbytes := os.fstat(file.fileno()).st_size) != size:
                raise ValueError(f"{nbytes} bytes, expected {size}")
            folder = _new_folder(size)
            self._finalizer = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            try:
                with open(os.path.join(folder, self.NAME), "xb+", buffering=0) as copy:
                    if _send(file.fileno(), copy.fileno(), size) < size or os.fstat(file.fileno()).st_size != size:
                        raise ValueError(f"{size} bytes, and its size changed while it was read")
                    self.data = memoryview(mmap.mmap(copy.fileno(), size, prot=mmap.PROT_READ))
            except BaseException:
                self._finalizer()
                raise
        self.folder = folder

    def delete(self) -> None:
        """Delete the folder. What is mapped of its file, such as `data`, stays."""
        if self.folder is not None:
            self.folder = None
            self._finalizer()


class _NoRoom(Exception):
    """There is no folder for a copy, or no room in it."""


def _new_folder(size: int) -> str:
    with contextlib.suppress(OSError):
        if shutil.disk_usage(_IN_MEMORY).free > 2 * size:
            return tempfile.mkdtemp(prefix="adapterkit-", dir=_IN_MEMORY)
    try:
        return tempfile.mkdtemp(prefix="adapterkit-")
    except OSError as error:
        raise _NoRoom from error


def _send(source: int, target: int, size: int) -> int:
    """Copy up to `size` bytes between open files, and return how many there were."""
    at = 0
    try:
        while at < size and (count := os.sendfile(target, source, at, min(_BLOCK, size - at))):
            at += count
    except OSError as error:  # a full disk, or one that can't be written
        raise _NoRoom from error
    return at
