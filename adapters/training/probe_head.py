"""Fit a run's head as a linear probe on the frozen base: in place of training, or to initialise a head before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import TrainingError
from ..probe import search
from ..runtime import processes
from ..runtime.precision import Precision
from .inputs import features_of
from .stages import SPLITS, Outcome, Prepared, Progress, TaskModel
from .trunk_cache import memory_for_cache

HEAD_SCALE, HEAD_SCALE_OF_TWO = 0.3, 0.03
"""The factors on a probe's weights as the head of a training, of more than two labels and of two.

The head answers the same, less confidently.

A head that fits the training rows already leaves the base little gradient, and hidden states that vary little make its
weights so large that a rate that trains the base doesn't change them (docs/explanation/strategies-compared.md).
"""


def fits_probe(run: Prepared) -> bool:
    """Return whether the head is a linear probe; raises `TrainingError` where it is required but impossible."""
    wanted = run.options.head
    possible = not run.fit.trainable and search.applies(run.base, run.task)
    if wanted == "probe" and not possible:
        why = "the strategy trains parameters of the base" if run.fit.trainable else f"{run.task.name} on this base"
        why += "" if run.fit.trainable else " has none"
        raise TrainingError(f"--head probe: {why}; --head model is transformers' own head")
    return possible and wanted != "model"


def fit_probe(run: Prepared, mixed: Precision, *, rows: int | None = None) -> Outcome:
    """Fit a linear probe on hidden states of the frozen base; raises `TrainingError` where the disk has no room.

    `rows` are the training rows that the fit is for, where `run` has a part of them.
    """
    splits = SPLITS if run.held_out else ("train",)
    try:
        probed = search.probe(
            run.base,
            run.task,
            features_of(run, splits=splits),
            {split: run.data[split] for split in splits},
            replace(solver_options(run, mixed), rows=rows),
        )
    except OSError as error:
        raise TrainingError(f"no disk space for hidden states: {error.strerror or error}") from error
    model = probed.model
    head = {name: p for name, p in model.named_parameters() if name.startswith("probe.")}
    target = TaskModel.of(model, head, list(head.values()), {"probe": model.probe.form.plain()})
    run.watch.note("probe", f"{model.probe.form}, {target.sizes()[0]:,} parameters")
    outcome = Outcome(
        target,
        probed.predictions,
        Progress(best_epoch=1),
        run.strategy.learning_rate,
        probed.split,
        probed.repeats,
        probed.notes,
    )
    metrics = outcome.metrics(run.task, run.data["validation"])
    outcome.progress.history.append({"train_loss": probed.loss, **metrics.values})
    run.watch.epoch(1, 1, outcome.progress.history[0])
    return replace(outcome, measured=(run.task, metrics))


def solver_options(run: Prepared, mixed: Precision) -> search.SolverOptions:
    """Return those of a run's options that concern a linear probe."""
    memory = min(processes.gathered(memory_for_cache(run.options)))
    return search.SolverOptions(
        mixed=mixed.name,
        smoothing=run.options.label_smoothing_factor,
        memory=memory,
        watch=run.watch,
        shared=run.shared,
    )


def starts_from_probe(run: Prepared) -> bool:
    """Return whether the head is initialised by a linear probe; with `head_init="auto"`, the task decides."""
    if run.options.head_init == "auto":
        return run.task.head_starts_solved
    return run.options.head_init == "probe"


def initialise_head(run: Prepared, model: Any, mixed: Precision) -> bool:
    """Set the last linear layer of a model's head to a linear probe's weights; return whether it has such a layer."""
    scale = HEAD_SCALE if model.config.num_labels > 2 else HEAD_SCALE_OF_TWO
    try:
        result = search.initialise(
            run.base, model, run.task, features_of(run), run.data, solver_options(run, mixed), scale=scale
        )
    except OSError as error:
        result = f"no disk space for hidden states: {error.strerror or error}"
    if not isinstance(result, str):
        run.watch.note(
            "head",
            f"initialised by a linear probe: {run.task.best} {result.value:.4f} at an L2 penalty of {result.penalty:g}",
        )
    elif run.options.head_init == "probe":
        raise TrainingError(f"--head-init probe: {result}; leave it out")
    else:
        run.watch.note("head", f"initialised at random: {result}")
    return not isinstance(result, str)
