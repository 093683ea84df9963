"""What a task model computes for rows, and how good that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .adapter import Adapter
from .base import Base
from .tasks import Task
from .watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset


def encode(task: Task, data: Dataset, tokenizer: Any, *, labelled: bool) -> Dataset:
    """Return the features of `data`, tokenised once and cached by content."""

    def features(rows: Any) -> dict[str, Any]:
        return task.encode(rows, tokenizer, labelled=labelled)

    return data.map(features, batched=True, remove_columns=data.column_names)


def logits(
    model: Any, features: Any, collate: Callable[[list[Any]], Any], *, batch_size: int, watch: Watch | None = None
) -> np.ndarray:
    """Return the logits of every row, (rows, ...), in the order of `features`.

    Rows of like length share a batch, so that little is spent on padding.
    """
    watch = watch or Watch()
    lengths = [len(ids) for ids in features["input_ids"]]
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    rows: list[Any] = [None] * len(order)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), watch.bar("evaluating", len(order)) as bar:
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                batch = {key: value.to(model.device) for key, value in collate([features[i] for i in chosen]).items()}
                batch.pop("labels", None)
                for i, row in zip(chosen, model(**batch).logits.float().cpu().numpy(), strict=True):
                    rows[i] = row
                bar.advance(len(chosen))
    finally:
        model.train(was_training)
    return np.stack(rows)


def evaluate(
    base: Base, adapter: Adapter, data: Dataset, *, batch_size: int = 64, watch: Watch | None = None
) -> dict[str, float]:
    """Return the metrics of an adapter on labelled rows, and `n`, the number of rows they were measured on."""
    task = adapter.task
    features = encode(task, data, base.tokenizer, labelled=False)
    with adapter.attached(base) as model:
        found = logits(model, features, task.collate(base.tokenizer), batch_size=batch_size, watch=watch)
    return {**task.metrics(found, data), "n": len(data)}


def predict(
    base: Base, adapter: Adapter, texts: Iterable[str], *, batch_size: int = 64, watch: Watch | None = None
) -> list[dict[str, Any]]:
    """Return one answer for each text, such as {"label": "positive", "score": 0.98}."""
    import datasets

    task = adapter.task
    texts = list(texts)
    if not texts:
        return []
    features = datasets.Dataset.from_dict(dict(task.encode(task.rows(texts), base.tokenizer, labelled=False)))
    with adapter.attached(base) as model:
        found = logits(model, features, task.collate(base.tokenizer), batch_size=batch_size, watch=watch)
    return task.answers(found)
