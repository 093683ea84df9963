"""Hidden states of many texts, kept without padding: in memory, or in a file that is mapped."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


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
        self._file = None if folder is None else tempfile.TemporaryFile(dir=folder, prefix=".trunk-")  # noqa: SIM115
        size = 0 if folder is not None else int(self.counts.sum())
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
        """Say that what was put so far is to be taken."""
        if self._file is not None and self.nbytes:
            self._file.flush()
            os.fsync(self._file.fileno())  # where the disk is full, it says so here at the latest
            os.ftruncate(self._file.fileno(), self.nbytes)  # what isn't put is a hole
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


def disk(size: int) -> Path:
    """Return the folder for files of so many bytes, or raise `OSError` where its disk has no room for them."""
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE, "adapterkit")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(errno.ENOSPC, f"{size / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free in '{folder}'")
    return folder
