"""Search for a run's learning rate on its own first steps, and undo them."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from ..errors import TrainingError
from ..features.length_batches import Batches
from ..watch import Watch
from . import lr_finder
from .steps import Steps


def searched_rate(steps: Steps, batches: Batches, updates: int) -> float:
    """Return a good learning rate; parameters and random numbers are afterwards as they were before."""
    training, accelerator = steps.training, steps.accelerator
    options = training.run.options
    batches.go_to(options.num_train_epochs)  # an order of the rows that no epoch of the run has
    mine = itertools.cycle(list(batches)[accelerator.process_index :: accelerator.num_processes])
    strategy, start = training.strategy, [p.detach().clone() for p in training.parameters]
    scale = {} if accelerator.scaler is None else accelerator.scaler.state_dict()

    def losses(first: float, factor: float) -> Iterator[float]:
        training.strategy = replace(strategy, learning_rate=first)
        optimizer = steps.optimizer()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer.optimizer, factor)
        while True:
            accumulated = itertools.islice(mine, options.gradient_accumulation_steps)
            try:
                yield steps.learn(map(steps.batch, accumulated), optimizer, scheduler, Watch())
            except TrainingError:
                return

    try:
        with _random_state_restored(accelerator.device):
            return lr_finder.search(strategy.learning_rate, updates, losses, training.run.watch)
    finally:
        training.strategy = strategy
        training.progress.losses.clear()
        accelerator.step = 0  # of gradient accumulation
        if accelerator.scaler is not None:  # fp16
            accelerator.scaler.load_state_dict(scale)
        with torch.no_grad():
            for p, values in zip(training.parameters, start, strict=True):
                p.copy_(values)
                p.grad = None


@contextlib.contextmanager
def _random_state_restored(device: torch.device) -> Iterator[None]:
    """Restore the state of all random number generators at the end."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    random.setstate(python)
    np.random.set_state(numpy)
