"""A file's content in memory under a path that no other process can change."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path

from .untrusted import opened, read_file


class PrivateCopy:
    """A copy of a file's bytes, and a path to it for libraries that open files themselves.

    On Linux it is an anonymous file, copied by the kernel and mapped. Elsewhere it is bytes without a path.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Copy a regular file of exactly `size` bytes; raises what `read_file` raises."""
        self.path: str | None = None
        if not size or not hasattr(os, "memfd_create") or not os.path.exists("/proc/self/fd"):
            self.data = memoryview(read_file(path, size=size))
            return
        with opened(path) as file:
            if (nbytes := os.fstat(file.fileno()).st_size) != size:
                raise ValueError(f"{nbytes} bytes, expected {size}")
            descriptor = os.memfd_create("copy")
            weakref.finalize(self, os.close, descriptor)
            at = 0
            while at < size and (count := os.sendfile(descriptor, file.fileno(), at, size - at)):
                at += count
            if at < size or os.fstat(file.fileno()).st_size != size:
                raise ValueError(f"{size} bytes, and its size changed while it was read")
        self.path = f"/proc/self/fd/{descriptor}"
        self.data = memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))
