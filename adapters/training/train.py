"""Train a strategy and a head on a shared base, under Accelerate, and give the base back as it was."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..errors import StrategyError, TrainingError
from ..evaluation.outputs import largest_difference, outputs
from ..features.tokenize import tokenized
from ..metrics import Metrics
from ..options import plain
from ..probe import search
from ..runtime import processes
from ..runtime.precision import Precision, precision
from ..settings import TrainingOptions
from ..strategy import Strategy
from ..watch import Watch
from .checkpoints import Checkpoints
from .fit import fitted, learned, moved, task_model, with_added
from .inputs import features_of
from .loop import loop
from .run_state import Run
from .steps import predictions_of
from .trunk_cache import memory_for_cache

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task


# oneDNN keeps code for each shape it met, a thousand by default: 0.2 GB where every batch has a length of its own
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


@dataclass(frozen=True)
class Trained:
    """What a training gives: an adapter, the metrics of each epoch, and what it cost."""

    adapter: Adapter
    validation: Metrics  # of the adapter, from the epoch that was kept
    history: list[dict[str, float]]  # mean training loss and validation metrics, an entry per epoch
    losses: list[float]  # step by step
    best_epoch: int  # counted from 1
    trained_parameters: int
    seconds: float
    learning_rate: float  # the strategy's, or the one that was found


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
    watch: Watch | None = None,
) -> Trained:
    """Train `strategy` and the head of `task` on `data["train"]`; keep the epoch that is best on `data["validation"]`.

    The base is bit for bit itself again when this returns or raises. `about` goes into the adapter's manifest. With
    `auto_rate`, a good learning rate is searched first, around the strategy's. With `checkpoints`, it is kept now and
    then; with `resume`, it goes on from the newest of them. Raises `StrategyError` where the strategy doesn't fit the
    base, and `TrainingError` where the loss isn't finite, no weight moved, or a signal asked to stop.
    """
    watch = watch or Watch()
    began = time.perf_counter()
    set_seed(options.seed)
    with base.held(), fitted(base, strategy) as fit:
        run = Run(base, task, strategy, fit, data, options, watch, auto_rate, checkpoints=checkpoints)
        if checkpoints is not None and resume:
            run.resumed = processes.from_main(checkpoints.newest)
        mixed = precision(options.mixed_precision)
        watch.note("precision", mixed.why)
        predictions = solve(run, mixed) if probes(run) else learn(run, mixed)
        task = task.calibrate(predictions, data["validation"])
        adapter = adapter_of(run, task, about)
        validation = task.metrics(predictions, data["validation"])
        few = tokenized(task, data["validation"].select(range(min(8, len(data["validation"])))), base, labelled=False)
        live = outputs(task, run.model, few, base, batch_size=8)
    _check_saved(adapter, strategy, base, few, live)
    seconds = time.perf_counter() - began
    count, used = sum(p.numel() for p in run.trainable), run.strategy.learning_rate
    return Trained(adapter, validation, run.history, run.losses, run.best_epoch, count, seconds, used)


def adapter_of(run: Run, task: Task, about: Mapping[str, Any] | None = None) -> Adapter:
    """Return what learned so far as an adapter; of the base's own tensors, those that moved."""
    own = with_added(run.base, learned(run.base, run.strategy))
    patches = {m: moved(p, m, run.fit.before) for m, p in own.items()}
    return Adapter.make(
        run.base,
        run.model,
        {module: patch for module, patch in patches.items() if patch.tensors()},
        {name: p.detach() for name, p in run.head.items()},
        {"task": {"name": task.name, "options": plain(task)}, **run.about, **(about or {})},
    )


def probes(run: Run) -> bool:
    """Tell whether the head is to be solved; raises `TrainingError` where that is asked for and can't be."""
    wanted = run.options.head
    fits = not run.fit.learning and search.applies(run.base, run.task)
    if wanted == "probe" and not fits:
        why = "the strategy changes the base" if run.fit.learning else f"{run.task.name} on this base has none"
        raise TrainingError(f"--head probe: {why}; --head model takes transformers' own")
    return fits and wanted != "model"


def solve(run: Run, mixed: Precision) -> list[Any]:
    """Solve a probe on what the frozen base says; return the validation predictions."""
    run.features = features_of(run)
    run.check_features()
    try:
        run.model, found, predictions = search.probe(run.base, run.task, run.features, run.data, how_solved(run, mixed))
    except OSError as error:
        raise TrainingError(f"no room for what the base says: {error.strerror or error}") from error
    run.head = {name: p for name, p in run.model.named_parameters() if name.startswith("probe.")}
    run.trainable = list(run.head.values())
    run.about = {"probe": run.model.probe.form.plain()}
    run.watch.note("probe", f"{run.model.probe.form}, {sum(p.numel() for p in run.trainable):,} parameters")
    run.best_epoch = 1
    run.history.append({"train_loss": found.loss, **run.task.metrics(predictions, run.data["validation"]).values})
    run.watch.epoch(1, 1, run.history[-1])
    return predictions


def how_solved(run: Run, mixed: Precision) -> search.How:
    """Return what a run's options say about solving."""
    room = min(processes.gathered(memory_for_cache(run.options)))
    return search.How(mixed.name, run.options.label_smoothing_factor, room, run.watch)


def starts_solved(run: Run) -> bool:
    """Tell whether the head is to be solved before anything else learns.

    With three labels or more for texts or tokens it pays by itself (measured in docs/explanation/training-cost.md).
    """
    if run.options.head_init == "auto":
        return run.task.head_starts_solved
    return run.options.head_init == "probe"


def start_head(run: Run, mixed: Precision) -> None:
    """Solve the last linear map of the head, if it has one, before anything else learns."""
    try:
        found = search.start(run.base, run.model, run.task, features_of(run), run.data, how_solved(run, mixed))
    except OSError as error:
        found = f"no room for what the base says: {error.strerror or error}"
    if isinstance(found, str):
        if run.options.head_init == "probe":
            raise TrainingError(f"--head-init probe: {found}; leave it out")
        run.watch.note("head", f"starts at random: {found}")
        return
    run.watch.note("head", f"starts solved: {run.task.best} {found.value:.4f} at a penalty of {found.penalty:g}")


def learn(run: Run, mixed: Precision) -> list[Any]:
    """Train the model of the task by gradient descent; return the validation predictions of its best epoch."""
    make_model(run)
    if run.resumed is None and starts_solved(run):
        start_head(run, mixed)
    start = run.fit.starts(run.trainable)
    if processes.index():
        torch.manual_seed(run.options.seed + processes.index())  # dropout is each process's own
    validation = loop(run, mixed)
    if all(torch.equal(p, s) for p, s in zip(run.trainable, start, strict=True)):
        raise TrainingError(
            f"no weight moved in {len(run.history)} epochs at learning_rate={run.strategy.learning_rate}"
        )
    with torch.no_grad():
        for p, values in zip(run.trainable, run.best or run.trainable, strict=True):
            p.copy_(values)
            p.grad = None
    run.best = None
    if run.predictions is not None and (run.sharded or (run.trunk is None and mixed.name == "no" and not run.refrozen)):
        return run.predictions
    with run.trunk.installed() if run.trunk is not None and run.trunk.is_whole_base else contextlib.nullcontext():
        return predictions_of(run, validation)


def make_model(run: Run) -> None:
    """Give a run the task's model, and tell what of it learns."""
    run.model, run.head, untied = task_model(run.base, run.task, run.fit.learning, len(run.fit.before))
    run.about = {"untied": untied}
    in_use = {id(p) for p in run.model.parameters()}  # a pooler that this task has no use for doesn't learn
    run.trainable = [*(p for p in run.fit.learning if id(p) in in_use), *run.head.values()]
    count, total = (sum(p.numel() for p in ps) for ps in (run.trainable, run.model.parameters()))
    run.watch.note("strategy", f"{count:,} of {total:,} parameters learn ({count / total:.2%})")


def _check_saved(adapter: Adapter, strategy: Strategy, base: Base, few: Dataset, live: list[Any]) -> None:
    """Raise `StrategyError` where the adapter doesn't say of a few rows what the trained model said."""
    with adapter.attached(base) as model:
        saved = outputs(adapter.task, model, few, base, batch_size=8)
    difference = largest_difference(live, saved)
    near = 1e-4 if base.quantization != "8bit" else 0.1  # there activations are rounded to 8 bits, too
    if not difference <= near:  # a NaN is no less
        raise StrategyError(
            f"{type(strategy).__name__}.patches doesn't hold what was learned: outputs differ by {difference:.2g}"
        )
