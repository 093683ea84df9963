"""Hidden states of many texts, kept without padding: in memory, or in a file that is mapped."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class States:
    """So many vectors for each text, one after another, in the order in which texts were put in.

    Files are written, never mapped while they grow, so that a full disk is an `OSError`. A file has no name: it is
    gone when nobody uses it any more, however the process ends.
    """

    def __init__(
        self, counts: Sequence[int] | np.ndarray, width: int, dtype: torch.dtype, folder: str | Path | None = None
    ) -> None:
        """Make room for `counts[i]` vectors of `width` numbers for text i, in memory, or in a file in `folder`."""
        self.counts = np.asarray(counts, dtype=np.int64)
        self.starts = np.zeros(len(self.counts), dtype=np.int64)
        self.width, self.dtype = width, dtype
        self._end = 0
        self._file = None if folder is None else tempfile.TemporaryFile(dir=folder, prefix=".trunk-")  # noqa: SIM115
        size = 0 if folder is not None else int(self.counts.sum())
        self._values = torch.empty(size, width, dtype=dtype)

    def tensors(self) -> dict[str, Tensor]:
        """Return what `put_back` needs, once all texts are in."""
        return {"values": self._values[: self._end], "starts": torch.from_numpy(self.starts)}

    def put_back(self, tensors: dict[str, Tensor]) -> None:
        """Keep what `tensors` gave."""
        self._values, self.starts = tensors["values"], tensors["starts"].numpy()
        self._end = len(self._values)

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept, once all of it is."""
        return int(self.counts.sum()) * self.width * self.dtype.itemsize

    def put(self, texts: np.ndarray, values: Tensor) -> None:
        """Keep the vectors of some texts, one text's after another's, (vectors, width)."""
        counts = self.counts[texts]
        self.starts[texts] = self._end + np.cumsum(counts) - counts
        values = values.detach().to("cpu", self.dtype).contiguous()
        if self._file is None:
            self._values[self._end : self._end + len(values)] = values
        else:
            self._file.write(values.view(torch.uint8).numpy().data)
        self._end += len(values)

    def done(self) -> None:
        """Say that all texts are in."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())  # where the disk is full, it says so here at the latest
            if self._end:
                flat = torch.from_numpy(np.memmap(self._file, np.uint8, "c"))  # as its name is gone, by the file
                self._values = flat.view(self.dtype).view(-1, self.width)
            self.close()

    def close(self) -> None:
        """Let go of the file; what is mapped of it stays."""
        if self._file is not None:
            self._file.close()

    def take(self, texts: np.ndarray) -> Tensor:
        """Return the vectors of some texts, one text's after another's, (vectors, width)."""
        starts, counts = self.starts[texts], self.counts[texts]
        ends = np.cumsum(counts)
        where = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
        return self._values[torch.from_numpy(where)]
