"""Run the epochs of a training: steps, validation, early stopping and the best epoch."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..execution.precision import Precision
from ..execution.stop_signals import signals_noted
from ..features.feed import Feed
from ..metrics import Metrics
from .accelerate_setup import accelerator_for
from .advice import chance_of
from .checkpoints import Checkpoint, Checkpoints
from .inputs import batches_of, feeds_of
from .rate_search import searched_rate
from .stages import Training
from .steps import Steps, predictions_of, stepping
from .training_state import Position, learning_rate_of, restore

INTERVAL_ERRORS = 2 * 1.96
"""The width of a 95 % interval, in standard errors."""


def loop(
    training: Training,
    mixed: Precision,
    *,
    search_rate: bool = False,
    checkpoints: Checkpoints | None = None,
    resumed: Checkpoint | None = None,
) -> Feed:
    """Train in place, and save the values of the best epoch.

    Returns the validation rows on which the finished model is to be measured: cached in fp32 where the whole base is
    frozen, else not cached. Raises `StoppedError` where a signal requested a stop.
    """
    run, options = training.run, training.run.options
    accelerator = accelerator_for(options, mixed)
    feeds = feeds_of(run, training.target.model)
    batches = batches_of(feeds["train"], options, accelerator.num_processes)
    per_update = accelerator.num_processes * options.gradient_accumulation_steps
    updates = sum(math.ceil(batches.count(epoch) / per_update) for epoch in range(options.num_train_epochs))
    with stepping(training, accelerator, feeds, checkpoints) as steps, signals_noted() as stop:
        loader = _loader(steps, batches)
        position = Position()
        if resumed is not None:
            training.strategy = replace(training.strategy, learning_rate=learning_rate_of(resumed))
        else:
            _note_start(training, predictions_of(run, training.target.model, steps.feeds["validation"]))
            if search_rate:
                rate = searched_rate(steps, batches, updates)
                training.strategy = replace(training.strategy, learning_rate=rate)
        optimizer = steps.optimizer()
        scheduler = steps.schedule(optimizer, updates)
        if resumed is not None:
            position = restore(training, accelerator, optimizer, scheduler, resumed)
        for epoch in range(position.epoch, options.num_train_epochs + 1):
            steps.begin(position)
            batches.go_to(epoch - 1, position.batches)
            if not run.task.fixed_features:
                steps.feeds["train"].draws = functools.partial(_seed_of, options.seed, epoch)
            with run.watch.bar(f"epoch {epoch}/{options.num_train_epochs}", len(loader)) as bar:
                steps.learn(loader, optimizer, scheduler, bar, position, stop)
            predictions = predictions_of(run, training.target.model, steps.feeds["validation"])
            _note_epoch(training, epoch, position.loss / position.batches, predictions)
            if _stops_early(training, epoch):
                break
            position = position.next_epoch()
            if epoch < options.num_train_epochs:
                steps.save_checkpoint(optimizer, scheduler, position)
        validation = steps.feeds["validation"]
    return validation if training.trunk is not None and training.trunk.is_whole_base else feeds["validation"]


def _loader(steps: Steps, batches: Any) -> Any:
    """Return a loader of the training rows; its generator leaves the run's random numbers alone as an epoch begins."""
    loader: Any = torch.utils.data.DataLoader(
        _TrainingRows(steps),  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=_unchanged,
        generator=torch.Generator(),
    )
    return steps.accelerator.prepare(loader)


@dataclass
class _TrainingRows:
    """The rows to train on, looked up for each batch, because the feed changes when other layers are frozen."""

    steps: Steps

    def __len__(self) -> int:
        return len(self.steps.feeds["train"])

    def __getitems__(self, indices: list[int]) -> Any:
        return self.steps.feeds["train"].__getitems__(indices)


def _unchanged(batch: Any) -> Any:
    return batch


def _seed_of(seed: int, epoch: int, row: int) -> int:
    """Return the random seed of a row in an epoch, the same in each process."""
    return int(np.random.SeedSequence([seed, epoch, row]).generate_state(1)[0])


def _stops_early(training: Training, epoch: int) -> bool:
    patience = training.run.options.early_stopping_patience
    if not patience or epoch - _last_improvement(training) < patience:
        return False
    training.run.watch.note("", f"stopped early: no better epoch in the last {patience}")
    return True


def _last_improvement(training: Training) -> int:
    """Return the first epoch with the best value so far; 0 is the start."""
    progress, task = training.progress, training.run.task
    values = [(progress.start or {}).get(task.best, math.nan), *(epoch[task.best] for epoch in progress.history)]
    ordered = [-value if task.lower_is_better else value for value in values]
    best = max((value for value in ordered if not math.isnan(value)), default=math.nan)
    return ordered.index(best) if best in ordered else 0


def _note_start(training: Training, predictions: list[Any]) -> None:
    """Measure the state before training: with a head that isn't random, it is saved unless an epoch is as good."""
    run, progress = training.run, training.progress
    values = run.task.metrics(predictions, run.data["validation"]).values
    run.watch.epoch(0, run.options.num_train_epochs, {"train_loss": math.nan, **values})
    if progress.best_values is not None:
        progress.start, progress.best_predictions = values, predictions


def _note_epoch(training: Training, epoch: int, loss: float, predictions: list[Any]) -> None:
    """Add an epoch to the history, and copy the trained values if it is the best so far."""
    run, progress = training.run, training.progress
    metrics = run.task.metrics(predictions, run.data["validation"])
    progress.history.append({"train_loss": loss, **metrics.values})
    run.watch.epoch(epoch, run.options.num_train_epochs, progress.history[-1])
    if not is_saved(training, metrics):
        return
    at_start = progress.best_epoch == 0  # whose values are also needed to tell whether any changed
    progress.best_epoch, progress.best_predictions = epoch, predictions
    if epoch == run.options.num_train_epochs:  # no later epoch changes the values
        progress.best_values = None
    elif at_start or progress.best_values is None:
        progress.best_values = [p.detach().clone() for p in training.parameters]
    else:
        with torch.no_grad():
            for values, p in zip(progress.best_values, training.parameters, strict=True):
                values.copy_(p)


def is_saved(training: Training, metrics: Metrics) -> bool:
    """Return whether an epoch with these metrics is saved, in place of the start or of the best epoch so far.

    It has to be at least as good as the best epoch. Of equally good epochs, which few validation rows often make, the
    most trained one is the best. The start stays only if it is better by more than a standard error, or the epoch is at
    chance: few rows like the start by chance more often than a training does harm. A metric that is better the lower it
    is, such as perplexity, measures rows more finely, and is compared with the start as it is.
    """
    progress, task = training.progress, training.run.task
    value = metrics.values[task.best]
    before = progress.history[progress.best_epoch - 1] if progress.best_epoch else progress.start
    if before is None or math.isnan(before[task.best]):
        return True
    if task.lower_is_better:
        return value <= before[task.best]
    error, chance = 0.0, -math.inf
    if not progress.best_epoch:
        low, high = metrics.intervals.get(task.best, (value, value))
        error, of_one_answer = (high - low) / INTERVAL_ERRORS, chance_of(training.run)
        chance = chance if of_one_answer is None else of_one_answer
    return value >= before[task.best] - (error if value > chance else 0.0)
