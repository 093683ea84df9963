"""Hidden states of many texts, kept without padding: in memory, or in a file that is mapped.

Of several processes on a node, each puts some of the texts into one file, and all of them take from it.
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

from ..runtime import processes

_PREFIX = ".trunk-"


class States:
    """So many vectors for each text, one text's after another's.

    Files are written, never mapped before they are, so that a full disk is an `OSError`. A file has no name: it is
    gone when nobody uses it any more, however the process ends.
    """

    def __init__(
        self, counts: Sequence[int] | np.ndarray, width: int, dtype: torch.dtype, folder: str | Path | None = None
    ) -> None:
        """Make room for `counts[i]` vectors of `width` numbers for text i, in memory, or in a file in `folder`."""
        self.counts = np.asarray(counts, dtype=np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        self.width, self.dtype = width, dtype
        _, several = processes.on_node()
        self._file: Any = None
        if several > 1:
            self._file = _shared(self.nbytes, folder)
        elif folder is not None:
            self._file = tempfile.TemporaryFile(dir=folder, prefix=_PREFIX)  # noqa: SIM115
        if self._file is not None:
            weakref.finalize(self, self._file.close)
        size = 0 if self._file is not None else int(self.counts.sum())
        self.values = torch.empty(size, width, dtype=dtype)
        """(vectors, width); of a file, once `done` was called."""

    def put_back(self, values: Tensor) -> None:
        """Keep what `values` were."""
        self.values = values

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept, once all of it is."""
        return int(self.counts.sum()) * self.width * self.dtype.itemsize

    def put(self, texts: np.ndarray, values: Tensor) -> None:
        """Keep the vectors of some texts, one text's after another's, (vectors, width)."""
        values = values.detach().to("cpu", self.dtype).contiguous()
        if self._file is None:
            self.values[self._places(texts)] = values
            return
        whole, each = values.view(torch.uint8).numpy().reshape(-1).data, self.width * self.dtype.itemsize
        done = 0
        for text in texts:
            size = int(self.counts[text]) * each
            self._file.seek(int(self.starts[text]) * each)
            self._file.write(whole[done : done + size])
            done += size

    def done(self) -> None:
        """Say that what was put so far is to be taken; of several processes, each has to say so."""
        if self._file is not None and self.nbytes:
            with processes.agreed(OSError):
                self._file.flush()
                os.fsync(self._file.fileno())  # where the disk is full, it says so here at the latest
                if processes.on_node()[0] == 0:
                    os.ftruncate(self._file.fileno(), max(self.nbytes, os.fstat(self._file.fileno()).st_size))
            flat = torch.from_numpy(np.memmap(self._file, np.uint8, "c"))  # as its name is gone, by the file
            self.values = flat.view(self.dtype).view(-1, self.width)

    def close(self) -> None:
        """Let go of the file; what is mapped of it stays."""
        if self._file is not None:
            self._file.close()

    def take(self, texts: np.ndarray) -> Tensor:
        """Return the vectors of some texts, one text's after another's, (vectors, width)."""
        return self.values[self._places(texts)]

    def _places(self, texts: np.ndarray) -> Tensor:
        starts, counts = self.starts[texts], self.counts[texts]
        ends = np.cumsum(counts)
        return torch.from_numpy(np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts))


def _shared(size: int, folder: str | Path | None) -> Any:
    """Return a file that all processes of this node have open, and that has no name any more."""
    memory = Path("/dev/shm")

    def made() -> str:
        where = folder
        if where is None:
            fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * size
            where = memory if fits else disk(size)
        handle, path = tempfile.mkstemp(dir=where, prefix=_PREFIX)
        os.close(handle)
        return path

    path = processes.from_node(made)
    file = open(path, "r+b", buffering=0)  # noqa: SIM115
    processes.wait()
    if processes.on_node()[0] == 0:
        os.unlink(path)
    return file


def disk(size: int) -> Path:
    """Return the folder for files of so many bytes, or raise `OSError` where its disk has no room for them."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE, "adapterkit")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(errno.ENOSPC, f"{size / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free in '{folder}'")
    return folder
