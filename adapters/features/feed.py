"""Features of a split as padded batches of tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..execution import processes

if TYPE_CHECKING:
    from datasets import Dataset

    from ..base.modality import Modality

_ROWS, _TOKENS = 64, 8192
_TOKENS_A_THREAD = 512  # a CPU multiplies no faster with more, and its caches hold no more
_PADDING_A_THREAD = 64  # that takes as long as a further batch
Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Feed:
    """The features of a split, read from disk and padded batch by batch; a data set for `DataLoader`."""

    def __init__(self, features: Dataset, collate: Collate, modality: Modality) -> None:
        self.features, self.collate, self.modality = features, collate, modality
        self.shapes = modality.shapes(features)
        """For each feature, how many items it has (choices, or 1) and the length of the longest."""
        self.draws: Callable[[int], int] | None = None
        """The random seed of each feature, where the task draws its inputs anew in every epoch."""

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitems__(self, indices: Sequence[int]) -> tuple[list[int], dict[str, Any]]:
        return list(indices), self.batch([~i if i < 0 else i for i in indices])

    def select(self, indices: Sequence[int]) -> Feed:
        """Return some features as a feed."""
        return Feed(self.features.select(indices), self.collate, self.modality)

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return some features as one batch, padded to the longest of them."""
        features = rows(self.features, indices)
        if self.draws is not None:
            for row, i in zip(features, indices, strict=True):
                row["draw"] = self.draws(i)
        return self.collate(features)

    def using(self, indices: Sequence[int], batch: Mapping[str, Tensor]) -> contextlib.AbstractContextManager[Any]:
        """Announce the active batch and the features it is made of, for feeds that replay cached hidden states."""
        return contextlib.nullcontext()


def rows(features: Dataset, indices: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
    """Return some rows of a data set, each as a dict."""
    columns = features[list(indices)]
    return [{key: values[i] for key, values in columns.items()} for i in range(len(indices))]


def chunks(
    order: Sequence[int], shapes: Sequence[tuple[int, int]], device: torch.device | None, most_rows: int = _ROWS
) -> Iterator[list[int]]:
    """Yield features in batches of at most `most_rows`, all of one number of texts, for passes without gradients.

    Batches have at most as many tokens, padding included, as `device` computes fastest, any number without one; on a
    CPU, features in order of length have little padding, too. All processes of a run get the same batches.
    """
    on_cpu = device is not None and device.type == "cpu"
    threads = torch.get_num_threads() if processes.count() == 1 else 1
    most_tokens = float("inf") if device is None else min(_TOKENS, threads * _TOKENS_A_THREAD) if on_cpu else _TOKENS
    chunk: list[int] = []
    texts = longest = real = 0
    for i in order:
        choices, length = shapes[i]
        padded = (texts + choices) * max(longest, length)
        full = len(chunk) == most_rows or padded > most_tokens
        sparse = on_cpu and padded - real - choices * length > threads * _PADDING_A_THREAD
        if chunk and (full or sparse or shapes[chunk[0]][0] != choices):
            yield chunk
            chunk, texts, longest, real = [], 0, 0, 0
        chunk.append(i)
        texts, longest, real = texts + choices, max(longest, length), real + choices * length
    if chunk:
        yield chunk


def by_length(shapes: Sequence[tuple[int, int]], some: Iterable[int] | None = None) -> list[int]:
    """Return features, by default all, in the order of their shapes: number of texts, then length of the longest."""
    return sorted(range(len(shapes)) if some is None else some, key=lambda i: (shapes[i], i))
