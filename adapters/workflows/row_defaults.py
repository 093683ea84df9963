"""Defaults that the training rows decide: epochs, and the head and learning rate where there are few rows a label.

docs/explanation/strategies-compared.md has the measurements.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ..execution import processes
from ..probe import few_texts
from ..settings import TrainingOptions
from ..tasks import Task
from .plan import RATE, Plan

if TYPE_CHECKING:
    from ..base.base import Base

LEAST_STEPS = 100
"""The number of optimizer steps below which the default number of epochs is raised."""
MOST_EPOCHS = 30
"""The number of epochs that it is raised to at most."""
LEAST_STEPS_OF_MEAN, MOST_EPOCHS_OF_MEAN = 40, 10
"""The same two numbers where the head reads the mean of tokens, and starts solved."""
LEAST_CUT = 200
"""The number of training texts below which such a head is trained on all of them, and none is cut off to validate."""
RATE_OF_PROBE = 0.3
"""The factor on the strategy's default learning rate where the head is a probe."""


def with_row_defaults(plan: Plan, task: Task, rows: int, base: Base | None = None) -> tuple[Plan, dict[str, str]]:
    """Return a plan with the options that `rows` training rows decide, and a line on each by its title.

    Options that were set, by whatever means, stay.
    """
    unset, of_mean = plan.by_rows, reads_mean(plan, task, rows, base)
    plan = replace(plan, by_rows=frozenset())
    # a probe is fitted without epochs, and a pretrained head needs no steps to become one
    if not task.new_head or not (plan.strategy.needs_validation or plan.training.head == "model"):
        return plan, {}
    notes: dict[str, str] = {}
    if of_mean and plan.training.head == "auto" and not plan.strategy.trains_weights:
        plan = replace(plan, training=replace(plan.training, head="probe"))
        notes["head"] = (
            f"probe of the mean of tokens, by rule: at most {few_texts.FEW_A_LABEL} rows a label, and a base that was "
            "trained on that mean; --head model can be merged and exported"
        )
    if of_mean and plan.training.head == "probe" and RATE in unset:
        rate = float(f"{RATE_OF_PROBE * plan.strategy.learning_rate:.2g}")
        plan = replace(plan, strategy=replace(plan.strategy, learning_rate=rate))
        notes["rate"] = f"{rate:g}, by rule: {RATE_OF_PROBE} of the default with a probe; --learning-rate overrides"
    if "num_train_epochs" in unset:
        limits = (LEAST_STEPS_OF_MEAN, MOST_EPOCHS_OF_MEAN) if of_mean else (LEAST_STEPS, MOST_EPOCHS)
        plan, notes["epochs"] = _with_epochs(plan, rows, *limits)
    return plan, {title: text for title, text in notes.items() if text}


def _with_epochs(plan: Plan, rows: int, least_steps: int, most: int) -> tuple[Plan, str]:
    """Return a plan with the number of epochs for some rows, and a line on it; "" where that is the default."""
    steps, before = steps_per_epoch(plan.training, rows), plan.training.num_train_epochs
    epochs = max(before, min(most, math.ceil(least_steps / steps)))
    if epochs == before:
        return plan, ""
    rule = f"by rule: {least_steps} steps or more, but at most {most} epochs; --epochs overrides"
    plan = replace(plan, training=replace(plan.training, num_train_epochs=epochs))
    return plan, f"{epochs} epochs of {steps} step{'s' * (steps > 1)}, {rule}"


def reads_mean(plan: Plan, task: Task, rows: int, base: Base | None) -> bool:
    """Return whether a strategy that trains the base has a head that reads the mean of tokens: as set, or by rule.

    The rule is for few texts and for bases whose mean of tokens was trained, and not the first token, which
    transformers' heads read. The head is then a probe, or, with a strategy that trains weights, transformers' own, for
    which the first token starts as that mean (`training.first_token`).
    """
    strategy, head = plan.strategy, plan.training.head
    if not strategy.needs_validation or head == "probe":
        return strategy.needs_validation
    few = few_texts.supports(task) and few_texts.few_a_label(task, rows)
    if strategy.trains_weights:
        return few and plan.training.head_init != "random" and _sentence_pooling(plan, base) == "mean"
    return few and "head" in plan.by_rows and _sentence_pooling(plan, base) is not None


def _sentence_pooling(plan: Plan, base: Base | None) -> str | None:
    from ..base import find_base
    from ..base.pooling import sentence_pooling

    if base is not None:
        return base.sentence_pooling
    return sentence_pooling(find_base(plan.base.base), plan.base.revision)


def steps_per_epoch(options: TrainingOptions, rows: int) -> int:
    """Return the number of optimizer steps in an epoch of `rows` rows."""
    batch = options.per_device_train_batch_size * options.gradient_accumulation_steps * processes.count()
    return max(1, math.ceil(rows / batch))
