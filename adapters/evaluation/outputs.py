"""Outputs of a task model on tokenized rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..base.base import Base
from ..errors import DataError, OptionError
from ..execution import processes
from ..features.feed import Feed, by_length, chunks
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
    distributed: bool = False,
) -> list[Any]:
    """Return the output of the model for each feature, in order; features of similar length share a batch.

    With `distributed`, each process runs some of the batches, and all of them return all outputs.
    """

    def run(batch: dict[str, Any]) -> list[Any]:
        return task.outputs(model, batch)

    feed = (
        features if isinstance(features, Feed) else Feed(features, task.collate(base.tokenizer, model), base.modality)
    )
    return _batched(model, feed, run, batch_size=batch_size, watch=watch, distributed=distributed)


def generate(
    task: Task,
    model: Any,
    prompts: Dataset,
    base: Base,
    *,
    batch_size: int,
    watch: Watch | None = None,
    distributed: bool = False,
) -> list[str]:
    """Return the text that the model generates for each prompt, in order; `distributed` as in `outputs`."""

    def run(batch: dict[str, Any]) -> list[Any]:
        check_room(base, task, batch, {})
        return task.generate(model, batch, base.tokenizer)

    feed = Feed(prompts, task.collate(base.tokenizer, model), base.modality)
    return _batched(model, feed, run, batch_size=batch_size, watch=watch, distributed=distributed, generates=True)


def check_room(base: Base, task: Task, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> None:
    """Raise `DataError` where a prompt and the tokens to generate exceed the length of a causal base."""
    most, tokens = base.max_length, batch["input_ids"].shape[-1]
    if most is None:
        return
    room = 0 if base.model.config.is_encoder_decoder else {**task.generation, **options}["max_new_tokens"]
    if tokens + room > most:
        new = f" and {room} new ones" if room else ""
        raise DataError(f"a text of {tokens} tokens{new} exceeds the {most} tokens of the base")


def largest_difference(a: Any, b: Any) -> float:
    """Return the largest absolute difference between two nests of numbers; NaN where one holds a NaN."""
    if isinstance(a, list | tuple):
        differences = [largest_difference(x, y) for x, y in zip(a, b, strict=True)]
        return float(np.max(differences)) if differences else 0.0
    difference = np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))
    return float(difference.max()) if difference.size else 0.0


def evaluation_batches(feed: Feed, device: torch.device | None, size: int) -> list[list[int]]:
    """Return features of similar length together, at most `size`; on a CPU, fewer where they are long.

    Without a device, `size` alone bounds them: a step of a generation has one token of each row.
    """
    bounded = device if device is not None and device.type == "cpu" else None
    return list(chunks(by_length(feed.shapes), feed.shapes, bounded, size))


def _batched(
    model: Any,
    feed: Feed,
    run: Callable[[dict[str, Any]], list[Any]],
    *,
    batch_size: int,
    watch: Watch | None,
    distributed: bool,
    generates: bool = False,
) -> list[Any]:
    if type(batch_size) is not int or batch_size < 1:
        raise OptionError(f"batch_size must be an integer >= 1, got {batch_size!r}")
    by_feature: dict[int, Any] = {}
    batches = evaluation_batches(feed, None if generates else model.device, batch_size)
    own_share = batches[processes.index() :: processes.count()] if distributed else batches
    was_training = model.training
    model.eval()
    without_gradients = torch.inference_mode() if distributed or processes.count() == 1 else torch.no_grad()
    try:
        with without_gradients, (watch or Watch()).bar("evaluating", sum(map(len, own_share))) as bar:
            for chosen in own_share:
                batch = {key: value.to(model.device) for key, value in feed.batch(chosen).items()}
                with feed.using(chosen, batch):
                    values = run(batch)
                for i, value in zip(chosen, values, strict=True):
                    by_feature[i] = value
                bar.advance(len(chosen))
    finally:
        model.train(was_training)
    for part in processes.gathered(by_feature) if distributed else []:
        by_feature |= part
    return [by_feature[i] for i in range(len(feed))]
