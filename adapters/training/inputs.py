"""Tokenized rows and batches of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import TrainingError
from ..execution import processes
from ..features.feed import Feed
from ..features.length_batches import Batches
from ..features.tokenize import tokenized
from ..settings import TrainingOptions
from .stages import SPLITS, Prepared

if TYPE_CHECKING:
    from datasets import Dataset


def feeds_of(run: Prepared, model: Any) -> dict[str, Feed]:
    """Tokenize the rows of a run; return each split's features as batches for a model."""
    features = features_of(run, labelled=("train",))
    collate = run.task.collate(run.base.tokenizer, model)
    return {split: Feed(rows, collate, run.base.modality) for split, rows in features.items()}


def features_of(run: Prepared, labelled: Sequence[str] = SPLITS, splits: Sequence[str] = SPLITS) -> dict[str, Dataset]:
    """Tokenize the rows of a run, with labels in some splits; raises `TrainingError` where a split has no text."""
    with processes.first_of_node_first():
        features = {
            split: tokenized(run.task, run.data[split], run.base, labelled=split in labelled, watch=run.watch)
            for split in splits
        }
    _check(features)
    return features


def _check(features: Mapping[str, Dataset]) -> None:
    for split, rows in features.items():
        if not len(rows):
            raise TrainingError(f"the {split} rows contain no text")


def batches_of(feed: Feed, options: TrainingOptions, processes: int) -> Batches:
    """Return the batches of a run's training rows."""
    return Batches(
        [count * longest for count, longest in feed.shapes],
        options.per_device_train_batch_size,
        seed=options.seed,
        by_length=options.group_by_length,
        max_tokens=options.max_tokens_per_batch,
        processes=processes,
    )
