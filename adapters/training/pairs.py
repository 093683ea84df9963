"""Train a base on pairs of texts, alike where they share a label, then solve a probe on its vectors (arXiv:2209.11055).

SetFit compares two texts at a time. Here a step compares all pairs of a batch, and the texts of a batch run in parts of
similar length over cached activations of the frozen blocks.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import get_scheduler

from ..base.tracing import record
from ..errors import TrainingError
from ..execution import processes
from ..execution.precision import Precision
from ..features.feed import Feed
from ..modules import blocks
from ..probe import few_texts, search
from ..probe.model import Form, ProbeModel
from .head_inputs import moved_to
from .inputs import features_of, feeds_of
from .param_groups import parameter_groups
from .probe_head import solver_options
from .stages import Outcome, Prepared, Progress, TaskModel, Training
from .steps import predictions_of
from .trunk_cache import cache_trunk

if TYPE_CHECKING:
    from ..strategy import PairTraining

_PART = 16  # texts that run together, of similar length


def trains_on_pairs(run: Prepared) -> bool:
    """Return whether a run's strategy trains on pairs of texts, and the task, the base and the head allow it."""
    if run.strategy.pair_training() is None:
        return False
    reason = reason_against(run)
    if reason:
        run.watch.note("pairs", f"not trained on: {reason}; the task's loss is trained")
    return not reason


def reason_against(run: Prepared) -> str:
    """Return why the head, the task or the base of a run can't be trained on pairs of texts; "" where they can."""
    if run.options.head == "model":
        return "--head model"
    if not (few_texts.supports(run.task) and search.applies(run.base, run.task)):
        return f"{run.task.name} on this base has no vector and label for each text"
    return "" if run.task.strata(run.data["train"]) else "texts must have one label each"


def pair_model(run: Prepared) -> TaskModel:
    """Return a model whose head is a probe of the mean of the last layer's tokens."""
    form = Form((len(blocks(run.base.model)),), "mean")
    model = ProbeModel(run.base, run.task, form)
    head = {name: p for name, p in model.named_parameters() if name.startswith("probe.")}
    used = {id(p) for p in model.parameters()}
    parameters = [*(p for p in run.fit.trainable if id(p) in used), *head.values()]
    target = TaskModel.of(model, head, parameters, {"probe": form.plain()})
    count, total = target.sizes()
    run.watch.note("strategy", f"{count:,} of {total:,} parameters are trained ({count / total:.2%})")
    return target


def fit_by_pairs(run: Prepared, mixed: Precision) -> Outcome:
    """Train the base on pairs of the training texts, solve the probe, and return what it predicts."""
    target = pair_model(run)
    feeds = feeds_of(run, target.model)
    losses = _train(run, target, feeds["train"], mixed)
    _solve(run, target, mixed)
    predictions = predictions_of(run, target.model, feeds["validation"])
    split = "validation" if run.held_out else "train"
    outcome = Outcome(target, predictions, Progress(best_epoch=1), run.strategy.learning_rate, split)
    metrics = outcome.metrics(run.task, run.data["validation"])
    outcome.progress.history.append({"train_loss": losses[-1], **metrics.values})
    run.watch.epoch(1, 1, outcome.progress.history[0])
    return outcome


def _train(run: Prepared, target: TaskModel, feed: Feed, mixed: Precision) -> list[float]:
    """Train on pairs; return the loss of each step. Raises `TrainingError` where it isn't finite."""
    how = run.strategy.pair_training()
    assert how is not None
    training = Training.start(run, target)
    optimizer = torch.optim.AdamW(parameter_groups(training), fused=True)
    batches = list(pair_batches(feed.features["labels"][:], how, run.options.seed))
    warmup = int(len(batches) * run.options.warmup_ratio)
    scheduler = get_scheduler(run.options.lr_scheduler_type, optimizer, warmup, num_training_steps=len(batches))
    trunk, cached = cache_trunk(
        run.base, target.model, run.task, run.fit, {"train": feed}, run.options, run.watch, run.shared
    )
    target.model.train()
    if trunk is not None:
        trunk.set_eval()
    losses: list[float] = []
    with (
        trunk.installed() if trunk is not None else contextlib.nullcontext(),
        run.watch.bar("pairs", len(batches)) as bar,
    ):
        for texts in batches:
            loss = pair_loss(*_vectors(target.model, cached["train"], texts, mixed))
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss is {losses[-1]} at step {len(losses)}; try a learning_rate below "
                    f"{run.strategy.learning_rate}"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            if run.options.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(run.fit.trainable, run.options.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            bar.advance(loss=losses[-1], learning_rate=scheduler.get_last_lr()[0])
    target.model.eval()
    _equalise(run)
    return losses


def _vectors(model: Any, feed: Feed, texts: Sequence[int], mixed: Precision) -> tuple[Tensor, Tensor]:
    """Return the vectors that the probe reads, (texts, features), and the labels; texts run in parts by length."""
    order = sorted(texts, key=lambda i: feed.shapes[i])
    vectors, labels = [], []
    for start in range(0, len(order), _PART):
        part = order[start : start + _PART]
        batch = moved_to(feed.batch(part), model.device)
        labels.append(batch.pop("labels"))
        autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=mixed.name == "bf16")
        with feed.using(part, batch), autocast:
            recorded, _ = record(functools.partial(model, **batch), inputs={"x": model.probe.score}, last="x")
        vectors.append(recorded["x"])
    return torch.cat(vectors), torch.cat(labels)


def pair_loss(vectors: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared error of all cosines, whose target is 1 for texts of one label and 0 for others.

    Pairs of one label and pairs of two count half each, as SetFit draws as many of both.
    """
    vectors = normalize(vectors.float(), dim=1)
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=vectors.device)
    same = (labels[first] == labels[second]).float()
    errors = ((vectors[first] * vectors[second]).sum(1) - same) ** 2
    means = [(errors * kind).sum() / kind.sum().clamp(min=1) for kind in (same, 1 - same)]
    return (means[0] + means[1]) / 2


def pair_batches(labels: Sequence[int], how: PairTraining, seed: int) -> Iterator[list[int]]:
    """Yield as many batches as the passes have, each with several texts of each of its labels.

    Every text of a label has its turn before one comes again.
    """
    draw = np.random.default_rng(seed)
    by_label = {label: np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels))}
    each = max(2, how.batch_texts // len(by_label))
    waiting: dict[int, list[int]] = {label: [] for label in by_label}
    turn: list[int] = []
    for _ in range(how.passes * math.ceil(len(labels) / how.batch_texts)):
        batch: list[int] = []
        while len(batch) < min(how.batch_texts, len(labels)):
            turn = turn or draw.permutation(list(by_label)).tolist()
            label = turn.pop()
            if len(waiting[label]) < min(each, len(by_label[label])):
                waiting[label] += draw.permutation(by_label[label]).tolist()
            batch += waiting[label][:each]
            waiting[label] = waiting[label][each:]
        yield list(dict.fromkeys(batch))


def _equalise(run: Prepared) -> None:
    """Set the trained values of all processes, each of which has trained on all texts, to those of the first."""
    if processes.count() == 1:
        return
    values = processes.from_main(lambda: [p.detach().cpu() for p in run.fit.trainable])
    with torch.no_grad():
        for p, value in zip(run.fit.trainable, values, strict=True):
            p.copy_(value)


def _solve(run: Prepared, target: TaskModel, mixed: Precision) -> None:
    """Fit the probe to the vectors of all training texts; raises `TrainingError` where the disk has no room."""
    features = features_of(run, splits=("train",))
    try:
        search.initialise(
            run.base, target.model, run.task, features, run.data, solver_options(run, mixed), base_trained=True
        )
    except OSError as error:
        raise TrainingError(f"no disk space for hidden states: {error.strerror or error}") from error
    run.watch.note("head", f"{target.model.probe.form}: a linear probe of all training rows")
