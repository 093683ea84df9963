"""Train a strategy and a head on a shared base, under Accelerate, and restore the base."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..errors import StrategyError, TrainingError
from ..evaluation.outputs import largest_difference, outputs
from ..execution import processes
from ..execution.precision import Precision, precision
from ..features.feed import by_length
from ..features.shared_states import SharedStates
from ..features.tokenize import tokenized
from ..metrics import Metrics
from ..settings import TrainingOptions
from ..strategy import Strategy
from ..watch import Watch
from .advice import Advice, advice_on
from .checkpoints import Checkpoint, Checkpoints
from .first_token import attend_alike, starts_from_mean
from .fit import fitted, learned, moved, task_model, with_added
from .loop import loop
from .pairs import fit_by_pairs, trains_on_pairs
from .probe_head import fit_probe, fits_probe, initialise_head, probe_model, starts_from_probe, trains_probe
from .stages import Outcome, Prepared, TaskModel, Training, with_validation
from .steps import predictions_of

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task


_CHECKED, _CHECKED_OF_HEAD = 8, 2
"""Rows on which an adapter is compared with the trained model; eight would double the time of a head on few rows."""


@dataclass(frozen=True)
class Trained:
    """An adapter, the metrics of each epoch, and what training cost."""

    adapter: Adapter
    validation: Metrics  # of the best epoch, on the rows of `split`
    history: list[dict[str, float]]  # mean training loss and validation metrics, an entry per epoch
    losses: list[float]  # step by step
    best_epoch: int  # counted from 1; 0: the start
    trained_parameters: int
    seconds: float
    learning_rate: float  # the strategy's, or the result of a search
    split: str = "validation"  # without validation rows "train", or "cross-validation" for a probe of few texts
    advice: Advice | None = None  # on the course of the training
    predictions: Sequence[Any] = ()  # for the rows of `split`


def train(
    base: Base,
    task: Task,
    strategy: Strategy,
    data: Mapping[str, Dataset],
    options: TrainingOptions,
    *,
    about: Mapping[str, Any] | None = None,
    auto_rate: bool = False,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    shared: SharedStates | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Train `strategy` and the head of `task` on `data["train"]`; return the epoch that is best on `validation`.

    The state before training is epoch 0, and is returned where every epoch is worse; not that of a random head, whose
    metrics are luck. Without validation rows epochs are compared on the training rows, and a probe of few texts is
    cross-validated.

    The base has its original values, bit for bit, when this returns or raises. `about` is added to the adapter's
    manifest. With `auto_rate`, a learning rate is searched first, around the strategy's. `checkpoints`
    are written during training; with `resume`, it continues from the newest of them. Hidden states in `shared` that
    the strategy leaves as they are aren't computed again. Raises `StrategyError` where the
    strategy doesn't fit the base, and `TrainingError` where the loss isn't finite, no weight changed, or a signal
    requested a stop.

    >>> rows = datasets.Dataset.from_list([{"text": "good", "label": "a"}, {"text": "bad", "label": "b"}] * 8)
    >>> task = TASKS["text-classification"]().with_columns(rows.column_names).fit(rows)
    >>> trained = ak.train(base, task, strategy_class("head-only")(), {"train": rows}, TrainingOptions())
    >>> trained.adapter.task.labels
    ('a', 'b')
    """
    watch = watch or Watch()
    began = time.perf_counter()
    set_seed(options.seed)
    with base.locked(), fitted(base, strategy) as fit:
        data = with_validation(data)
        run = Prepared(base, task, strategy, fit, data, options, watch, shared)
        resumed = processes.from_main(checkpoints.newest) if checkpoints is not None and resume else None
        mixed = precision(options.mixed_precision)
        watch.note("precision", mixed.why)
        if fits_probe(run):
            outcome = fit_probe(run, mixed)
        elif trains_on_pairs(run):
            outcome = fit_by_pairs(run, mixed)
        else:
            outcome = fine_tune(run, mixed, search_rate=auto_rate, checkpoints=checkpoints, resumed=resumed)
        task = task.calibrate(outcome.predictions, data["validation"])
        adapter = adapter_of(run, outcome.target, task, about)
        validation = outcome.metrics(task, data["validation"])
        rows = data["validation"]
        few = tokenized(task, rows.select(range(min(len(rows), _CHECKED))), base, labelled=False)
        if not fit.trainable:
            few = few.select(by_length(base.modality.shapes(few))[:_CHECKED_OF_HEAD])
        trained_outputs = outputs(task, outcome.target.model, few, base, batch_size=8)
    _check_adapter(adapter, strategy, base, few, trained_outputs)
    return Trained(
        adapter=adapter,
        validation=validation,
        history=outcome.progress.history,
        losses=outcome.progress.losses,
        best_epoch=outcome.progress.best_epoch,
        trained_parameters=outcome.target.sizes()[0],
        seconds=time.perf_counter() - began,
        learning_rate=outcome.learning_rate,
        split=outcome.split,
        advice=advice_on(run, outcome, validation),
        predictions=outcome.predictions,
    )


def adapter_of(run: Prepared, target: TaskModel, task: Task, about: Mapping[str, Any] | None = None) -> Adapter:
    """Return an adapter of the trained values; of the base's tensors, it has those that changed."""
    patches = with_added(run.base, learned(run.base, run.strategy))
    changed = {module: moved(patch, module, run.fit.before) for module, patch in patches.items()}
    return Adapter.make(
        run.base,
        target.model,
        {module: patch for module, patch in changed.items() if patch.tensors()},
        {name: p.detach() for name, p in target.head.items()},
        {"task": {"name": task.name, "options": task.recorded()}, **target.manifest, **(about or {})},
    )


def build_model(run: Prepared) -> TaskModel:
    """Return the task's model on the base, and which of its parameters train."""
    if trains_probe(run):
        model, head, manifest = probe_model(run)
    else:
        model, head, untied = task_model(run.base, run.task, run.fit.trainable, len(run.fit.before))
        manifest = {"untied": untied}
    used = {id(p) for p in model.parameters()}  # a task may have no use for the base's pooler
    parameters = [*(p for p in run.fit.trainable if id(p) in used), *head.values()]
    target = TaskModel.of(model, head, parameters, manifest)
    count, total = target.sizes()
    run.watch.note("strategy", f"{count:,} of {total:,} parameters are trained ({count / total:.2%})")
    return target


def fine_tune(
    run: Prepared,
    mixed: Precision,
    *,
    search_rate: bool = False,
    checkpoints: Checkpoints | None = None,
    resumed: Checkpoint | None = None,
) -> Outcome:
    """Train the model of the task by gradient descent, and set it to the values of its best epoch."""
    target = build_model(run)
    of_mean = resumed is None and starts_from_mean(run) and attend_alike(run, target.model)
    solved = resumed is None and starts_from_probe(run) and initialise_head(run, target.model, mixed, of_mean=of_mean)
    start = run.fit.starts(target.parameters)
    if processes.index():
        torch.manual_seed(run.options.seed + processes.index())  # so that dropout differs between processes
    training = Training.start(run, target)
    if solved or not run.task.new_head:
        training.progress.best_values = start
    validation = loop(training, mixed, search_rate=search_rate, checkpoints=checkpoints, resumed=resumed)
    _check_changed(training, start)
    _set_to_best(training)
    trunk, predictions = training.trunk, training.progress.best_predictions
    # predictions of the best epoch are the finished model's where nothing rounds otherwise and nothing was cached
    exact = trunk is None and mixed.name == "no" and not training.refrozen
    if predictions is None or not (training.sharded or exact):
        with trunk.installed() if trunk is not None and trunk.is_whole_base else contextlib.nullcontext():
            predictions = predictions_of(run, target.model, validation)
    split = "validation" if run.held_out else "train"
    return Outcome(target, predictions, training.progress, training.strategy.learning_rate, split)


def _check_changed(training: Training, start: list[torch.Tensor]) -> None:
    """Raise `TrainingError` where every trained parameter has the value it started with."""
    if all(torch.equal(p, values) for p, values in zip(training.parameters, start, strict=True)):
        epochs, rate = len(training.progress.history), training.strategy.learning_rate
        raise TrainingError(f"no weight changed in {epochs} epochs at learning_rate={rate}")


def _set_to_best(training: Training) -> None:
    with torch.no_grad():
        for p, values in zip(training.parameters, training.progress.best_values or training.parameters, strict=True):
            p.copy_(values)
            p.grad = None
    training.progress.best_values = None


def _check_adapter(adapter: Adapter, strategy: Strategy, base: Base, few: Dataset, trained: list[Any]) -> None:
    """Raise `StrategyError` where outputs with the adapter attached differ from those of the trained model."""
    with adapter.attached(base) as model:
        attached = outputs(adapter.task, model, few, base, batch_size=8)
    difference = largest_difference(trained, attached)
    tolerance = 1e-4 if base.quantization != "8bit" else 0.1  # where activations are rounded to 8 bits, too
    if not difference <= tolerance:  # nor a NaN
        raise StrategyError(
            f"{type(strategy).__name__}.patches doesn't return what was trained: outputs differ by {difference:.2g}"
        )
