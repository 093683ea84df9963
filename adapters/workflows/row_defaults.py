"""Defaults that the number of training rows decides: of few rows an epoch has few steps, and a run needs some hundred.

docs/explanation/defaults.md has the measurements.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..runtime import processes
from ..settings import TrainingOptions
from ..tasks import Task
from .plan import Plan

LEAST_STEPS = 100
"""The number of optimizer steps below which the default number of epochs is raised."""
MOST_EPOCHS = 30
"""The number of epochs that it is raised to at most."""


def with_row_defaults(plan: Plan, task: Task, rows: int) -> tuple[Plan, str]:
    """Return a plan with the options that `rows` training rows decide, and which these are; "" where there are none.

    Options that were set, by whatever means, stay.
    """
    options = plan.training
    # a probe is fitted without epochs, and a pretrained head needs no steps to become one
    in_steps = plan.strategy.needs_validation or options.head == "model"
    if "num_train_epochs" not in plan.by_rows or not task.new_head or not in_steps:
        return replace(plan, by_rows=frozenset()), ""
    steps = steps_per_epoch(options, rows)
    epochs = max(options.num_train_epochs, min(MOST_EPOCHS, math.ceil(LEAST_STEPS / steps)))
    resolved = replace(plan, training=replace(options, num_train_epochs=epochs), by_rows=frozenset())
    if epochs == options.num_train_epochs:
        return resolved, ""
    return resolved, (
        f"{epochs} epochs of {steps} steps, by rule: at least {LEAST_STEPS} steps, at most {MOST_EPOCHS} epochs; "
        "--epochs overrides"
    )


def steps_per_epoch(options: TrainingOptions, rows: int) -> int:
    """Return the number of optimizer steps in an epoch of `rows` rows."""
    batch = options.per_device_train_batch_size * options.gradient_accumulation_steps * processes.count()
    return max(1, math.ceil(rows / batch))
