"""The epochs of a training under way."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import TrainingError
from ..features.feed import Feed
from ..features.length_batches import Batches
from ..runtime.precision import Precision
from ..runtime.stop_signals import heard
from ..watch import Watch
from . import lr_finder
from .accelerate_setup import accelerated
from .inputs import batches_of, encoded
from .run_state import Run
from .steps import Steps, predictions_of, stepping
from .training_state import Position, rate_of, restore

if TYPE_CHECKING:
    from datasets import Dataset


def loop(run: Run, mixed: Precision) -> Dataset | Feed:
    """Train in place, and note what learns as it was after the best epoch.

    Returns the validation rows to measure the finished model on: in fp32, nothing taken that isn't its own. Raises
    `StoppedError` where a signal asked for it.
    """
    options, watch = run.options, run.watch
    accelerator = accelerated(options, mixed)
    whole = encoded(run)
    batches = batches_of(whole["train"], options, accelerator.num_processes)
    each = accelerator.num_processes * options.gradient_accumulation_steps
    updates = sum(math.ceil(batches.count(epoch) / each) for epoch in range(options.num_train_epochs))
    with stepping(run, accelerator, whole) as steps, heard() as stop:
        loader: Any = torch.utils.data.DataLoader(
            _Now(steps),  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # what it draws as an epoch begins is no part of the run's random numbers
        )
        loader = accelerator.prepare(loader)
        position = Position()
        if run.resumed is not None:
            run.strategy = replace(run.strategy, learning_rate=rate_of(run.resumed))
        elif run.auto_rate:
            _find_rate(steps, batches, updates)
        optimizer = steps.optimizer()
        scheduler = steps.schedule(optimizer, updates)
        if run.resumed is not None:
            position = restore(run, accelerator, optimizer, scheduler, run.resumed)
            run.resumed = None
        for epoch in range(position.epoch, options.num_train_epochs + 1):
            steps.begin(position)
            batches.go_to(epoch - 1, position.batches)
            if not run.task.fixed_features:
                steps.feeds["train"].draws = functools.partial(_draw, options.seed, epoch)
            with watch.bar(f"epoch {epoch}/{options.num_train_epochs}", len(loader)) as bar:
                steps.learn(loader, optimizer, scheduler, bar, position, stop)
            _note_epoch(run, epoch, position.loss / position.batches, predictions_of(run, steps.feeds["validation"]))
            if options.early_stopping_patience and epoch - run.best_epoch >= options.early_stopping_patience:
                watch.note("", f"no better epoch in {options.early_stopping_patience}: stopped early")
                break
            position = position.next_epoch()
            if epoch < options.num_train_epochs:
                steps.keep(optimizer, scheduler, position)
        validation = steps.feeds["validation"]
    return validation if run.trunk is not None and run.trunk.is_whole_base else run.features["validation"]


@dataclass
class _Now:
    """What a run learns from at a time; another trunk makes other features."""

    steps: Steps

    def __len__(self) -> int:
        return len(self.steps.feeds["train"])

    def __getitems__(self, indices: list[int]) -> Any:
        return self.steps.feeds["train"].__getitems__(indices)


def _draw(seed: int, epoch: int, row: int) -> int:
    """Return what a row's random numbers in an epoch are seeded with, in whichever process it is."""
    return int(np.random.SeedSequence([seed, epoch, row]).generate_state(1)[0])


def _find_rate(steps: Steps, batches: Batches, updates: int) -> None:
    """Give a run's strategy a good learning rate; all else, random numbers among it, is then as it was before."""
    run, accelerator, each = steps.run, steps.accelerator, steps.run.options.gradient_accumulation_steps
    batches.go_to(run.options.num_train_epochs)  # an order that the run doesn't see
    mine = itertools.cycle(list(batches)[accelerator.process_index :: accelerator.num_processes])
    strategy, start = run.strategy, [p.detach().clone() for p in run.trainable]
    scale = {} if accelerator.scaler is None else accelerator.scaler.state_dict()

    def losses(first: float, factor: float) -> Iterator[float]:
        run.strategy = replace(strategy, learning_rate=first)
        optimizer = steps.optimizer()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer.optimizer, factor)
        while True:
            try:
                yield steps.learn(map(steps.batch, itertools.islice(mine, each)), optimizer, scheduler, Watch())
            except TrainingError:
                return

    try:
        with _random_kept(accelerator.device):
            found = lr_finder.search(strategy.learning_rate, updates, losses, run.watch)
    finally:
        run.losses.clear()
        accelerator.step = 0  # of those that accumulate
        if accelerator.scaler is not None:  # fp16
            accelerator.scaler.load_state_dict(scale)
        with torch.no_grad():
            for p, values in zip(run.trainable, start, strict=True):
                p.copy_(values)
                p.grad = None
    run.strategy = replace(strategy, learning_rate=found)


@contextlib.contextmanager
def _random_kept(device: torch.device) -> Iterator[None]:
    """Have random numbers go on afterwards as if none had been drawn."""
    ours, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    random.setstate(ours)
    np.random.set_state(numpy)


def _as_it_is(batch: Any) -> Any:
    return batch


def _note_epoch(run: Run, epoch: int, loss: float, predictions: list[Any]) -> None:
    """Add an epoch to the history, and keep what was learned if it is the best one yet."""
    metrics = run.task.metrics(predictions, run.data["validation"])
    run.history.append({"train_loss": loss, **metrics.values})
    run.watch.epoch(epoch, run.options.num_train_epochs, run.history[-1])
    value = metrics.values[run.task.best]
    before = run.history[run.best_epoch - 1][run.task.best] if run.best_epoch else None
    if before is None or (value < before if run.task.lower_is_better else value > before):
        run.best_epoch, run.predictions = epoch, predictions
        if epoch == run.options.num_train_epochs:  # nothing comes that could change it
            run.best = None
        elif run.best is None:
            run.best = [p.detach().clone() for p in run.trainable]
        else:
            with torch.no_grad():
                for values, p in zip(run.best, run.trainable, strict=True):
                    values.copy_(p)
