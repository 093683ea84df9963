"""Fit a run's head as a linear probe on the frozen base: in place of training, or to initialise a head before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from ..errors import TrainingError
from ..execution import processes
from ..execution.precision import Precision
from ..modules import blocks
from ..probe import few_texts, search
from ..probe.model import Form, ProbeModel
from ..probe.solver import Solved
from ..strategy import Strategy
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
    """Return whether the run is nothing but a linear probe's fit.

    Raises `TrainingError` where a probe is required but impossible.
    """
    possible = search.applies(run.base, run.task)
    if run.options.head == "probe":
        if not possible:
            raise TrainingError(
                f"--head probe: {run.task.name} on this base has none; --head model is transformers' own head"
            )
        if run.fit.trainable and not few_texts.supports(run.task):
            raise TrainingError(
                f"--head probe: the strategy trains parameters of the base, and for {run.task.name} a probe is only "
                "fitted to a frozen one; --head model is transformers' own head"
            )
    return possible and not run.fit.trainable and run.options.head != "model"


def trains_probe(run: Prepared) -> bool:
    """Return whether the head that is trained with the base is a linear probe instead of transformers' own."""
    return run.options.head == "probe" and bool(run.fit.trainable)


def probe_model(run: Prepared) -> tuple[ProbeModel, dict[str, nn.Parameter], dict[str, Any]]:
    """Return a model whose head is a probe, its head's parameters, and their manifest."""
    model = ProbeModel(run.base, run.task, _trained_form(run))
    head = {name: p for name, p in model.named_parameters() if name.startswith("probe.")}
    run.watch.note("probe", f"{model.probe.form}, {sum(p.numel() for p in head.values()):,} parameters")
    return model, head, {"probe": model.probe.form.plain()}


def _trained_form(run: Prepared) -> Form:
    """Return the form for few texts, of the trained blocks alone: outputs of cached layers below them aren't computed.

    A strategy that freezes blocks between epochs has the base's output alone.
    """
    all_blocks = blocks(run.base.model)
    trained = {id(p) for p in run.fit.trainable}
    changed = [k for k, b in enumerate(all_blocks.values(), 1) if any(id(p) in trained for p in b.parameters())]
    depth, refreezes = len(all_blocks), type(run.strategy).on_epoch is not Strategy.on_epoch
    form = few_texts.form(depth)
    lowest = depth if refreezes else min(changed, default=depth)
    return replace(form, layers=tuple(k for k in form.layers if k >= lowest))


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


def initialise_head(run: Prepared, model: Any, mixed: Precision, *, of_mean: bool = False) -> bool:
    """Set the last linear layer of a model's head to a linear probe's weights; return whether it has such a layer.

    `of_mean` is whether it reads the mean of tokens, as that of a probe does: it is trained as it was fitted.
    """
    scale = HEAD_SCALE if model.config.num_labels > 2 else HEAD_SCALE_OF_TWO
    by_validation = run.held_out or not few_texts.supports(run.task)
    if trains_probe(run) or of_mean:
        scale = 1.0
        by_validation = not few_texts.applies(run.task, len(run.data["train"]))  # the penalty is fixed, too
    splits = SPLITS if by_validation else ("train",)
    solver = solver_options(run, mixed)
    if of_mean:  # the base is no longer the one whose hidden states others share
        solver = replace(solver, shared=None)
    try:
        result = search.initialise(
            run.base,
            model,
            run.task,
            features_of(run, splits=splits),
            run.data,
            solver,
            scale=scale,
        )
    except OSError as error:
        result = f"no disk space for hidden states: {error.strerror or error}"
    if isinstance(result, Solved):
        by = f"{run.task.best} {result.value:.4f} at an L2 penalty of {result.penalty:g}"
        run.watch.note("head", f"initialised by a linear probe: {by}")
    elif not isinstance(result, str):
        run.watch.note("head", "initialised by a linear probe of all training rows")
    elif run.options.head_init == "probe":
        raise TrainingError(f"--head-init probe: {result}; leave it out")
    else:
        run.watch.note("head", f"initialised at random: {result}")
    return not isinstance(result, str)
