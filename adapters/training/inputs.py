"""Tokenized rows and batches of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..features.feed import Feed
from ..features.length_batches import Batches
from ..features.tokenize import tokenized
from ..runtime import processes
from ..settings import TrainingOptions
from .run_state import SPLITS, Run

if TYPE_CHECKING:
    from datasets import Dataset


def encoded(run: Run) -> dict[str, Feed]:
    """Tokenise the rows of a run; return each split's features as its model takes them."""
    run.features = features_of(run, labelled=("train",))
    run.check_features()
    collate = run.task.collate(run.base.tokenizer, run.model)
    return {split: Feed(rows, collate) for split, rows in run.features.items()}


def features_of(run: Run, labelled: Sequence[str] = SPLITS) -> dict[str, Dataset]:
    """Tokenise the rows of a run, with labels in some splits."""
    with processes.first_of_node_first():
        return {s: tokenized(run.task, run.data[s], run.base, labelled=s in labelled, watch=run.watch) for s in SPLITS}


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
