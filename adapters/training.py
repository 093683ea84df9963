"""Train a strategy and a head on a shared base, under Accelerate, and give the base back as it was."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import accelerate
import numpy as np
import torch
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch import Tensor, nn
from transformers import get_scheduler

from .adapter import Adapter
from .base import Base
from .errors import AdapterkitError, BaseModelError, StrategyError, TrainingError
from .evaluation import encode, outputs
from .metrics import Metrics
from .modules import blocks
from .options import plain
from .patch import Patch, Replace
from .settings import TrainingOptions
from .snapshot import Snapshot
from .strategy import Strategy
from .watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset

    from .tasks import Task


@dataclass(frozen=True)
class Trained:
    """What a training gives: an adapter, the metrics of each epoch, and what it cost."""

    adapter: Adapter
    validation: Metrics  # of the epoch that was kept
    history: list[dict[str, float]]  # mean training loss and validation metrics, an entry per epoch
    best_epoch: int  # counted from 1
    trained_parameters: int
    seconds: float


@dataclass
class _Run:
    """One training under way: what learns, on what, and what has been best so far."""

    base: Base
    model: Any
    task: Task
    strategy: Strategy
    trainable: list[nn.Parameter]
    data: Mapping[str, Dataset]
    options: TrainingOptions
    watch: Watch
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best: tuple[list[Tensor], list[Any]] | None = None  # what learns, and the validation predictions, at that epoch


def train(
    base: Base,
    task: Task,
    strategy: Strategy,
    data: Mapping[str, Dataset],
    options: TrainingOptions,
    *,
    about: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Train `strategy` and the head of `task` on `data["train"]`; keep the epoch that is best on `data["validation"]`.

    The base is bit for bit itself again when this returns or raises. `about` goes into the adapter's manifest. Raises
    `StrategyError` where the strategy doesn't fit the base, and `TrainingError` where the loss isn't finite or no
    weight moved.
    """
    watch = watch or Watch()
    began = time.perf_counter()
    set_seed(options.seed)
    with base.held(), _fitted(base, strategy) as (learning, before):
        model, head, untied = _task_model(base, task, learning, len(before))
        in_use = {id(p) for p in model.parameters()}
        learning = [p for p in learning if id(p) in in_use]  # a pooler that this task has no use for doesn't learn
        trainable = [*learning, *head.values()]
        count, total = (sum(p.numel() for p in ps) for ps in (trainable, model.parameters()))
        watch.note("strategy", f"{count:,} of {total:,} parameters learn ({count / total:.2%})")
        start = [p.detach().clone() for p in trainable]
        run = _Run(base, model, task, strategy, trainable, data, options, watch)
        _loop(run)
        if all(torch.equal(p, s) for p, s in zip(trainable, start, strict=True)):
            raise TrainingError(
                f"no weight moved in {len(run.history)} epochs at learning_rate={strategy.learning_rate}"
            )
        assert run.best is not None
        with torch.no_grad():
            for p, values in zip(trainable, run.best[0], strict=True):
                p.copy_(values)
        task = task.calibrate(run.best[1], data["validation"])
        with _named(f"{type(strategy).__name__}.patches"):
            patches = {module: _moved(p, module, before) for module, p in strategy.patches(base.model).items()}
        adapter = Adapter.make(
            base,
            model,
            {module: patch for module, patch in patches.items() if patch.tensors()},
            {name: p.detach() for name, p in head.items()},
            {"task": {"name": task.name, "options": plain(task)}, "untied": untied, **(about or {})},
        )
        validation = task.metrics(run.best[1], data["validation"])
        few = encode(task, data["validation"].select(range(min(8, len(data["validation"])))), base, labelled=False)
        live = outputs(task, model, few, base, batch_size=8)
    _check_saved(adapter, strategy, base, few, live)
    return Trained(adapter, validation, run.history, run.best_epoch, count, time.perf_counter() - began)


def _check_saved(adapter: Adapter, strategy: Strategy, base: Base, few: Dataset, live: list[Any]) -> None:
    """Raise `StrategyError` where the adapter doesn't say of a few rows what the trained model said."""
    with adapter.attached(base) as model:
        saved = outputs(adapter.task, model, few, base, batch_size=8)
    difference = _apart(live, saved)
    if not difference <= 1e-4:  # a NaN is no less
        raise StrategyError(
            f"{type(strategy).__name__}.patches doesn't hold what was learned: outputs differ by {difference:.2g}"
        )


def _apart(a: Any, b: Any) -> float:
    """Return the largest difference between two nests of numbers."""
    if isinstance(a, list | tuple):
        return max([_apart(x, y) for x, y in zip(a, b, strict=True)], default=0.0)
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).max(initial=0.0))


@contextlib.contextmanager
def _fitted(base: Base, strategy: Strategy) -> Iterator[tuple[list[nn.Parameter], dict[str, Tensor]]]:
    """Apply a strategy; yield what learns, and copies of the base's own tensors among it; put all back at the end.

    Modules, hooks and storages are put back whatever the strategy did; values changed behind our back are found by
    their digests and read again from where the base came from.
    """
    if base.serving:
        raise BaseModelError(f"an open pool answers from base '{base.name}'; close it, or train on another copy")
    who = type(strategy).__name__
    snapshot, own = Snapshot(base.model), dict(base.model.named_parameters())
    before: dict[str, Tensor] = {}
    try:
        learning = _applied(base, strategy)
        chosen = {id(p) for p in learning}
        before.update({name: p.detach().clone() for name, p in own.items() if id(p) in chosen})
        yield learning, before
        with _named(f"{who}.remove"):
            strategy.remove(base.model)
        if left := snapshot.changed(base.model):
            raise StrategyError(f"{who}.remove left the base changed, first at {left[0].strip()}")
    finally:
        snapshot.restore()
        with torch.no_grad():
            for name, values in before.items():
                own[name].copy_(values)
        base.model.requires_grad_(False).eval()
        if base.altered():
            base.reload()


def _applied(base: Base, strategy: Strategy) -> list[nn.Parameter]:
    """Apply a strategy, make only what it returned learn, and return that.

    Raises `StrategyError` where it returned what the base doesn't have, or changed the base's values.
    """
    who = f"{type(strategy).__name__}.apply"
    own = dict(base.model.named_parameters())
    with _named(who):
        learning = list({id(p): p for p in strategy.apply(base.model)}.values())
    there = {id(p) for p in base.model.parameters()}
    for p in learning:
        if not isinstance(p, nn.Parameter) or id(p) not in there:
            raise StrategyError(f"{who} returned what is no parameter of the base: {type(p).__name__}")
    now = dict(base.model.named_parameters())
    altered = [name for name in base.altered() if name in own and now.get(name) is own[name]]
    if altered:
        raise StrategyError(f"{who} changed the values of '{altered[0]}'; a new adapter starts as the base itself")
    base.model.requires_grad_(False)
    for p in learning:
        p.requires_grad_(True)
    return learning


@contextlib.contextmanager
def _named(who: str) -> Iterator[None]:
    """Say whose error it is, where a plugin's is not one of ours."""
    try:
        yield
    except AdapterkitError:
        raise
    except Exception as error:
        raise StrategyError(f"{who} failed: {type(error).__name__}: {error}") from error


def _task_model(
    base: Base, task: Task, learning: list[nn.Parameter], base_parameters: int
) -> tuple[Any, dict[str, nn.Parameter], bool]:
    """Return the model of a task, the parameters of its head that learn, and whether its output embeddings are untied.

    A new head always learns. A head that came with the base learns with strategies that train all of the base, and
    with those that train nothing of it; where it is tied to the base's embeddings, these get a copy to train.
    """
    model = base.task_model(task.auto_class, **task.config())
    names = set(base.head_names(model))
    whole = base_parameters == len(list(base.model.parameters()))
    if not task.new_head and learning and not whole:
        names -= base.from_checkpoint(model)
    untied = not names and not learning
    if untied:
        model = base.task_model(task.auto_class, untied=True, **task.config())
        names = set(base.head_names(model))
    for name, p in model.named_parameters():
        if name in base.head_names(model):
            p.requires_grad_(name in names)
    return model, {name: p for name, p in model.named_parameters() if name in names}, untied


def _moved(patch: Patch, module: str, before: Mapping[str, Tensor]) -> Patch:
    """Drop from a patch of replaced tensors those that are what the base has."""
    if not isinstance(patch, Replace):
        return patch
    was = {name: before.get(f"{module}.{name}" if module else name) for name in patch.replaced}
    return Replace({n: t for n, t in patch.replaced.items() if was[n] is None or not torch.equal(t, was[n])})  # type: ignore[arg-type]


def _loop(run: _Run) -> None:
    """Train in place, and note what learns as it was after the best epoch."""
    task, options = run.task, run.options
    accelerator = accelerate.Accelerator(
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=options.seed),
    )
    features = {
        split: encode(task, run.data[split], run.base, labelled=split == "train", watch=run.watch)
        for split in ("train", "validation")
    }
    for split, rows in features.items():
        if not len(rows):
            raise TrainingError(f"the {split} rows hold no text to learn from")
    loader = torch.utils.data.DataLoader(
        features["train"],
        batch_size=options.per_device_train_batch_size,
        shuffle=True,
        collate_fn=task.collate(run.base.tokenizer, run.model),
    )
    optimizer = torch.optim.AdamW(_groups(run), lr=run.strategy.learning_rate, fused=True)
    updates = math.ceil(len(loader) / options.gradient_accumulation_steps) * options.num_train_epochs
    scheduler = get_scheduler(
        options.lr_scheduler_type, optimizer, int(updates * options.warmup_ratio), num_training_steps=updates
    )
    prepared, optimizer, loader, scheduler = accelerator.prepare(run.model, optimizer, loader, scheduler)
    for epoch in range(1, options.num_train_epochs + 1):
        loader.set_epoch(epoch - 1)
        with run.watch.bar(f"epoch {epoch}/{options.num_train_epochs}", len(loader)) as bar:
            loss = _epoch(run, accelerator, prepared, loader, optimizer, scheduler, bar)
        said = outputs(
            task,
            run.model,
            features["validation"],
            run.base,
            batch_size=options.per_device_eval_batch_size,
            watch=run.watch,
        )
        _note_epoch(run, epoch, loss, task.predictions(said, features["validation"], run.data["validation"]))
        if options.early_stopping_patience and epoch - run.best_epoch >= options.early_stopping_patience:
            run.watch.note("", f"no better epoch in {options.early_stopping_patience}: stopped early")
            break
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)  # autocast was for training alone


def _note_epoch(run: _Run, epoch: int, loss: float, predictions: list[Any]) -> None:
    """Add an epoch to the history, and keep what was learned if it is the best one yet."""
    metrics = run.task.metrics(predictions, run.data["validation"])
    run.history.append({"train_loss": loss, **metrics.values})
    run.watch.epoch(epoch, run.options.num_train_epochs, run.history[-1])
    value = metrics.values[run.task.best]
    before = run.history[run.best_epoch - 1][run.task.best] if run.best_epoch else None
    if before is None or (value < before if run.task.lower_is_better else value > before):
        run.best_epoch, run.best = epoch, ([p.detach().clone() for p in run.trainable], predictions)


def _epoch(
    run: _Run, accelerator: accelerate.Accelerator, model: Any, loader: Any, optimizer: Any, scheduler: Any, bar: Watch
) -> float:
    """Learn from every batch once and return the mean loss."""
    model.train()
    options = run.options
    losses: list[float] = []
    for batch in loader:
        with accelerator.accumulate(model):
            loss = run.task.loss(model, batch, label_smoothing=options.label_smoothing_factor)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss is {losses[-1]} at step {len(losses)} of this epoch; learning_rate is "
                    f"{run.strategy.learning_rate}, try a lower one"
                )
            accelerator.backward(loss)
            if accelerator.sync_gradients and options.max_grad_norm:
                accelerator.clip_grad_norm_(model.parameters(), options.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        bar.advance(loss=losses[-1], learning_rate=scheduler.get_last_lr()[0])
    return sum(losses) / len(losses)


def _groups(run: _Run) -> list[dict[str, Any]]:
    """Return AdamW's groups by rate and decay.

    Weights decay, biases and norms (one dimension) don't, as in the BERT paper's recipe. With `layer_lr_decay`, a
    block's rate is that of the block above times it, the embeddings' that of the lowest block times it (Sun et al.
    2019, arXiv:1905.05583); heads and top blocks have the full rate.
    """
    depth = _depths(run.base.model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in run.trainable:
        rate = run.strategy.learning_rate * run.options.layer_lr_decay ** depth.get(id(p), 0)
        groups.setdefault((rate, run.options.weight_decay if p.ndim > 1 else 0.0), []).append(p)
    return [{"params": ps, "lr": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()]


def _depths(base: nn.Module) -> dict[int, int]:
    """Return for each parameter of the base, by identity, how many blocks lie above it."""
    found = blocks(base)
    first = next(iter(found), "")
    depths: dict[int, int] = {}
    below = True  # embeddings come before the blocks, poolers and last norms after them
    for name, p in base.named_parameters():
        at = next((i for i, block in enumerate(found) if name.startswith(f"{block}.")), None)
        below = below and not name.startswith(f"{first}.")
        depths[id(p)] = len(found) - 1 - at if at is not None else (len(found) if below and found else 0)
    return depths
