"""Features of a split as padded batches of tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from datasets import Dataset

_TOKENS, _ROWS = 8192, 64  # of a batch without gradients
Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Feed:
    """The features of a split, read from disk and padded batch by batch; a data set for `DataLoader`."""

    def __init__(self, features: Dataset, collate: Collate) -> None:
        self.features, self.collate = features, collate
        self.shapes = shapes(features)
        """For each feature, how many texts it has (choices, or 1) and the tokens of the longest."""
        self.draws: Callable[[int], int] | None = None
        """The random seed of each feature, where the task draws its inputs anew in every epoch."""

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitems__(self, indices: Sequence[int]) -> tuple[list[int], dict[str, Any]]:
        return list(indices), self.batch([~i if i < 0 else i for i in indices])

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


def shapes(features: Dataset) -> list[tuple[int, int]]:
    """Return for each feature how many texts it has (choices, or 1) and the tokens of the longest."""
    result = []
    for start in range(0, len(features), 10_000):
        result += [_shape(ids) for ids in features["input_ids"][start : start + 10_000]]
    return result


def _shape(ids: Sequence[Any]) -> tuple[int, int]:
    return (len(ids), max(map(len, ids))) if ids and isinstance(ids[0], list) else (1, len(ids))


def rows(features: Dataset, indices: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
    """Return some rows of a data set, each as a dict."""
    columns = features[list(indices)]
    return [{key: values[i] for key, values in columns.items()} for i in range(len(indices))]


def chunks(order: Sequence[int], shapes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield features in batches within a budget of rows and tokens, all of one number of texts."""
    chunk: list[int] = []
    for i in order:
        choices, longest = shapes[i]
        full = (len(chunk) + 1) * choices > _ROWS or (len(chunk) + 1) * choices * longest > _TOKENS
        if chunk and (full or shapes[chunk[0]][0] != choices):
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk
