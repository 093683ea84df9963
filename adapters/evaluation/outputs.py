"""Outputs of a task model on tokenized rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..base.base import Base
from ..errors import DataError
from ..features.feed import Feed
from ..runtime import processes
from ..tasks import Task
from ..watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset


def outputs(
    task: Task,
    model: Any,
    features: Dataset | Feed,
    base: Base,
    *,
    batch_size: int,
    watch: Watch | None = None,
    deal: bool = False,
) -> list[Any]:
    """Return what the model says of each feature, in order; features of like length share a batch.

    With `deal`, each process asks the model about some of the batches, and all of them get all answers.
    """

    def say(batch: dict[str, Any]) -> list[Any]:
        return task.outputs(model, batch)

    feed = features if isinstance(features, Feed) else Feed(features, task.collate(base.tokenizer, model))
    return _batched(model, feed, say, batch_size=batch_size, watch=watch, deal=deal)


def generate(
    task: Task,
    model: Any,
    prompts: Dataset,
    base: Base,
    *,
    batch_size: int,
    watch: Watch | None = None,
    deal: bool = False,
) -> list[str]:
    """Return the text that the model generates for each prompt, in order; `deal` as in `outputs`."""

    def say(batch: dict[str, Any]) -> list[Any]:
        check_room(base, task, batch, {})
        return task.generate(model, batch, base.tokenizer)

    feed = Feed(prompts, task.collate(base.tokenizer, model))
    return _batched(model, feed, say, batch_size=batch_size, watch=watch, deal=deal)


def check_room(base: Base, task: Task, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> None:
    """Raise `DataError` where a prompt and what is to be generated after it are more than a causal base takes."""
    most, tokens = base.max_length, batch["input_ids"].shape[-1]
    if most is None:
        return
    room = 0 if base.model.config.is_encoder_decoder else {**task.generation, **options}["max_new_tokens"]
    if tokens + room > most:
        wanted = f" and {room} new ones" if room else ""
        raise DataError(f"a text of {tokens} tokens{wanted} is more than the {most} that the base takes")


def apart(a: Any, b: Any) -> float:
    """Return the largest difference between two nests of numbers; NaN where one of them holds one."""
    if isinstance(a, list | tuple):
        found = [apart(x, y) for x, y in zip(a, b, strict=True)]
        return float(np.max(found)) if found else 0.0
    difference = np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))
    return float(difference.max()) if difference.size else 0.0


def _turns(shapes: Sequence[tuple[int, int]], size: int) -> Iterator[list[int]]:
    """Yield features of like length together, of as many texts each."""
    order = sorted(range(len(shapes)), key=lambda i: (shapes[i], i))
    start = 0
    while start < len(order):
        chosen = order[start : start + size]
        chosen = [i for i in chosen if shapes[i][0] == shapes[chosen[0]][0]]
        start += len(chosen)
        yield chosen


def _batched(model: Any, feed: Feed, say: Any, *, batch_size: int, watch: Watch | None, deal: bool) -> list[Any]:
    found: dict[int, Any] = {}
    turns = list(_turns(feed.shapes, batch_size))
    mine = turns[processes.index() :: processes.count()] if deal else turns
    was_training = model.training
    model.eval()
    still = torch.inference_mode() if deal or processes.count() == 1 else torch.no_grad()
    try:
        with still, (watch or Watch()).bar("evaluating", sum(map(len, mine))) as bar:
            for chosen in mine:
                batch = {key: value.to(model.device) for key, value in feed.batch(chosen).items()}
                with feed.using(chosen, batch):
                    said = say(batch)
                for i, value in zip(chosen, said, strict=True):
                    found[i] = value
                bar.advance(len(chosen))
    finally:
        model.train(was_training)
    for part in processes.gathered(found) if deal else []:
        found |= part
    return [found[i] for i in range(len(feed))]
