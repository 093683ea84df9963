"""Hidden states of many texts, stored without padding in memory or in a memory-mapped file.

The processes of a node share one file: each writes the states of some of the texts, and all of them read it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..execution import processes

_PREFIX = ".trunk-"


class HiddenStates:
    """A number of vectors for each text, stored text by text.

    A file is written first and mapped once it is complete, so that a full disk raises `OSError`. It is unlinked as soon
    as it is open, so that it is gone however the process ends.
    """

    def __init__(
        self, counts: Sequence[int] | np.ndarray, width: int, dtype: torch.dtype, folder: str | Path | None = None
    ) -> None:
        """Allocate `counts[i]` vectors of `width` numbers for text i, in memory, or in a file in `folder`."""
        self.counts = np.asarray(counts, dtype=np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        self.width, self.dtype = width, dtype
        _, processes_on_node = processes.on_node()
        self._file: Any = None
        if processes_on_node > 1:
            self._file = _shared_file(self.nbytes, folder)
        elif folder is not None:
            self._file = tempfile.TemporaryFile(dir=folder, prefix=_PREFIX)  # noqa: SIM115
        if self._file is not None:
            weakref.finalize(self, self._file.close)
        size = 0 if self._file is not None else int(self.counts.sum())
        self.values = torch.empty(size, width, dtype=dtype)
        """(vectors, width); those of a file once `finish` was called."""

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors."""
        return int(self.counts.sum()) * self.width * self.dtype.itemsize

    def write(self, texts: np.ndarray, values: Tensor) -> None:
        """Store the vectors of some texts, (vectors, width), text by text."""
        values = values.detach().to("cpu", self.dtype).contiguous()
        if self._file is None:
            self.values[self._positions(texts)] = values
            return
        data, bytes_per_vector = values.view(torch.uint8).numpy().reshape(-1).data, self.width * self.dtype.itemsize
        done = 0
        for text in texts:
            size = int(self.counts[text]) * bytes_per_vector
            self._file.seek(int(self.starts[text]) * bytes_per_vector)
            self._file.write(data[done : done + size])
            done += size

    def finish(self) -> None:
        """Make everything that was written readable; each of several processes has to call it."""
        if self._file is not None and self.nbytes:
            with processes.agreed(OSError):
                self._file.flush()
                os.fsync(self._file.fileno())  # raises where the disk is full, if no write did
                if processes.on_node()[0] == 0:
                    os.ftruncate(self._file.fileno(), max(self.nbytes, os.fstat(self._file.fileno()).st_size))
            flat = torch.from_numpy(np.memmap(self._file, np.uint8, "c"))
            self.values = flat.view(self.dtype).view(-1, self.width)

    def close(self) -> None:
        """Close the file; mapped vectors stay readable."""
        if self._file is not None:
            self._file.close()

    def read(self, texts: np.ndarray) -> Tensor:
        """Return the vectors of some texts, (vectors, width), text by text."""
        return self.values[self._positions(texts)]

    def _positions(self, texts: np.ndarray) -> Tensor:
        starts, counts = self.starts[texts], self.counts[texts]
        ends = np.cumsum(counts)
        return torch.from_numpy(np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts))


def _shared_file(size: int, folder: str | Path | None) -> Any:
    """Return a file without a name that all processes of this node have open."""
    path = processes.from_node(lambda: _new_file(size, folder))
    file = open(path, "r+b", buffering=0)  # noqa: SIM115
    processes.wait()
    if processes.on_node()[0] == 0:
        os.unlink(path)
    return file


def _new_file(size: int, folder: str | Path | None) -> str:
    """Create a file in `folder`; without one, in shared memory, or on disk where that has no room."""
    if folder is None:
        memory = Path("/dev/shm")
        fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * size
        folder = memory if fits else disk_folder(size)
    handle, path = tempfile.mkstemp(dir=folder, prefix=_PREFIX)
    os.close(handle)
    return path


def disk_folder(size: int) -> Path:
    """Return the folder for temporary files; raises `OSError` where its disk has less than `size` bytes free."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE, "adapterkit")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(errno.ENOSPC, f"{size / 1e6:,.0f} MB needed, but {free / 1e6:,.0f} MB free in '{folder}'")
    return folder
