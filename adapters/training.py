"""Train a strategy and a head on a shared base, under Accelerate, and give the base back as it was."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import accelerate
import numpy as np
import torch
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch import Tensor, nn
from transformers import get_scheduler

from . import rate, solving
from .adapter import Adapter
from .base import Base
from .batching import Batches
from .errors import StrategyError, TrainingError
from .evaluation import apart, encode, outputs
from .feed import Feed
from .fitting import Fitted, fitted, moved, named, task_model
from .metrics import Metrics
from .modules import blocks
from .options import plain
from .precision import Precision, precision
from .settings import TrainingOptions
from .strategy import Strategy
from .trunk import Trunk, cached, room_for
from .watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset

    from .tasks import Task


SPLITS = ("train", "validation")
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


@dataclass
class Run:
    """One training under way: what learns, on what, and what has been best so far."""

    base: Base
    task: Task
    strategy: Strategy
    fit: Fitted
    data: Mapping[str, Dataset]
    options: TrainingOptions
    watch: Watch
    auto_rate: bool = False
    model: Any = None
    head: dict[str, nn.Parameter] = field(default_factory=dict)
    trainable: list[nn.Parameter] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)  # what the manifest says of the head
    features: dict[str, Dataset] = field(default_factory=dict)
    trunk: Trunk | None = None
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best: list[Tensor] | None = None  # what learns, as it was after that epoch; None: as it is
    predictions: list[Any] = field(default_factory=list)  # of the validation rows, after that epoch

    def check_features(self) -> None:
        """Raise `TrainingError` where a split has nothing to learn from."""
        for split, rows in self.features.items():
            if not len(rows):
                raise TrainingError(f"the {split} rows hold no text to learn from")


def train(
    base: Base,
    task: Task,
    strategy: Strategy,
    data: Mapping[str, Dataset],
    options: TrainingOptions,
    *,
    about: Mapping[str, Any] | None = None,
    auto_rate: bool = False,
    watch: Watch | None = None,
) -> Trained:
    """Train `strategy` and the head of `task` on `data["train"]`; keep the epoch that is best on `data["validation"]`.

    The base is bit for bit itself again when this returns or raises. `about` goes into the adapter's manifest. With
    `auto_rate`, a good learning rate is searched first, around the strategy's. Raises `StrategyError` where the
    strategy doesn't fit the base, and `TrainingError` where the loss isn't finite or no weight moved.
    """
    watch = watch or Watch()
    began = time.perf_counter()
    set_seed(options.seed)
    with base.held(), fitted(base, strategy) as fit:
        run = Run(base, task, strategy, fit, data, options, watch, auto_rate)
        mixed = precision(options.mixed_precision)
        watch.note("precision", mixed.why)
        predictions = solve(run, mixed) if probes(run) else learn(run, mixed)
        task = task.calibrate(predictions, data["validation"])
        adapter = adapter_of(run, task, about)
        validation = task.metrics(predictions, data["validation"])
        few = encode(task, data["validation"].select(range(min(8, len(data["validation"])))), base, labelled=False)
        live = outputs(task, run.model, few, base, batch_size=8)
    _check_saved(adapter, strategy, base, few, live)
    seconds = time.perf_counter() - began
    count, used = sum(p.numel() for p in run.trainable), run.strategy.learning_rate
    return Trained(adapter, validation, run.history, run.losses, run.best_epoch, count, seconds, used)


def adapter_of(run: Run, task: Task, about: Mapping[str, Any] | None = None) -> Adapter:
    """Return what learned so far as an adapter; of the base's own tensors, those that moved."""
    with named(f"{type(run.strategy).__name__}.patches"):
        patches = {m: moved(p, m, run.fit.before) for m, p in run.strategy.patches(run.base.model).items()}
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
    fits = not run.fit.learning and solving.applies(run.base, run.task)
    if wanted == "probe" and not fits:
        why = "the strategy changes the base" if run.fit.learning else f"{run.task.name} on this base has none"
        raise TrainingError(f"--head probe: {why}; --head model takes transformers' own")
    return fits and wanted != "model"


def solve(run: Run, mixed: Precision) -> list[Any]:
    """Solve a probe on what the frozen base says; return the validation predictions."""
    run.features = {s: encode(run.task, run.data[s], run.base, labelled=True, watch=run.watch) for s in SPLITS}
    run.check_features()
    try:
        run.model, found, predictions = solving.probe(
            run.base, run.task, run.features, run.data, how_solved(run, mixed)
        )
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


def how_solved(run: Run, mixed: Precision) -> solving.How:
    """Return what a run's options say about solving."""
    return solving.How(mixed.name, run.options.label_smoothing_factor, room_for(run.options), run.watch)


def starts_solved(run: Run) -> bool:
    """Tell whether the head is to be solved before anything else learns.

    By itself where texts or tokens have one of three labels or more: there it was measured to pay (docs/training.md).
    """
    if run.options.head_init == "auto":
        return len(getattr(run.task, "labels", ())) > 2 and run.task.new_head
    return run.options.head_init == "probe"


def start_head(run: Run, mixed: Precision) -> None:
    """Solve the last linear map of the head, if it has one, before anything else learns."""
    features = {s: encode(run.task, run.data[s], run.base, labelled=True, watch=run.watch) for s in SPLITS}
    try:
        found = solving.start(run.base, run.model, run.task, features, run.data, how_solved(run, mixed))
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
    if starts_solved(run):
        start_head(run, mixed)
    start = run.fit.starts(run.trainable)
    validation = _loop(run, mixed)
    if all(torch.equal(p, s) for p, s in zip(run.trainable, start, strict=True)):
        raise TrainingError(
            f"no weight moved in {len(run.history)} epochs at learning_rate={run.strategy.learning_rate}"
        )
    with torch.no_grad():
        for p, values in zip(run.trainable, run.best or run.trainable, strict=True):
            p.copy_(values)
            p.grad = None
    run.best = None
    if run.trunk is None and mixed.name == "no":
        return run.predictions
    with run.trunk.exchanged() if run.trunk is not None and run.trunk.whole else contextlib.nullcontext():
        return _predictions(run, validation)


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
    difference = apart(live, saved)
    if not difference <= 1e-4:  # a NaN is no less
        raise StrategyError(
            f"{type(strategy).__name__}.patches doesn't hold what was learned: outputs differ by {difference:.2g}"
        )


def _predictions(run: Run, features: Dataset | Feed) -> list[Any]:
    size = run.options.per_device_eval_batch_size
    said = outputs(run.task, run.model, features, run.base, batch_size=size, watch=run.watch)
    return run.task.predictions(said, run.features["validation"], run.data["validation"])


def _loop(run: Run, mixed: Precision) -> Dataset | Feed:
    """Train in place, and note what learns as it was after the best epoch.

    Returns the validation rows to measure the finished model on: in fp32, nothing taken that isn't its own.
    """
    options, watch = run.options, run.watch
    accelerator = accelerated(options, mixed)
    whole = encoded(run)
    batches = batches_of(whole["train"], options, accelerator.num_processes)
    each = accelerator.num_processes * options.gradient_accumulation_steps
    updates = sum(math.ceil(batches.count(epoch) / each) for epoch in range(options.num_train_epochs))
    with stepping(run, accelerator, whole) as steps:
        loader: Any = torch.utils.data.DataLoader(steps.feeds["train"], batch_sampler=batches, collate_fn=_as_it_is)  # type: ignore[arg-type]
        loader = accelerator.prepare(loader)
        if run.auto_rate:
            _find_rate(steps, batches, updates)
        optimizer = steps.optimizer()
        scheduler = steps.schedule(optimizer, updates)
        for epoch in range(1, options.num_train_epochs + 1):
            batches.set_epoch(epoch - 1)
            with watch.bar(f"epoch {epoch}/{options.num_train_epochs}", len(loader)) as bar:
                loss = steps.learn(loader, optimizer, scheduler, bar)
            _note_epoch(run, epoch, loss, _predictions(run, steps.feeds["validation"]))
            if options.early_stopping_patience and epoch - run.best_epoch >= options.early_stopping_patience:
                watch.note("", f"no better epoch in {options.early_stopping_patience}: stopped early")
                break
    return steps.feeds["validation"] if run.trunk is not None and run.trunk.whole else run.features["validation"]


def accelerated(options: TrainingOptions, mixed: Precision) -> accelerate.Accelerator:
    """Return what runs steps on the hardware there is, in a precision."""
    accelerate.state.AcceleratorState._reset_state()  # it keeps the precision of the process's first run
    return accelerate.Accelerator(
        mixed_precision=mixed.name,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(even_batches=False),
    )


def encoded(run: Run) -> dict[str, Feed]:
    """Tokenise the rows of a run; return each split's features as its model takes them."""
    run.features = {
        split: encode(run.task, run.data[split], run.base, labelled=split == "train", watch=run.watch)
        for split in SPLITS
    }
    run.check_features()
    collate = run.task.collate(run.base.tokenizer, run.model)
    return {split: Feed(rows, collate) for split, rows in run.features.items()}


def batches_of(feed: Feed, options: TrainingOptions, processes: int) -> Batches:
    """Return the batches of a run's training rows."""
    return Batches(
        [count * longest for count, longest in feed.shapes],
        options.per_device_train_batch_size,
        seed=options.seed,
        by_length=options.group_by_length,
        max_tokens=options.max_tokens_per_batch,
        processes=processes,
    )


@dataclass
class Steps:
    """A run whose model can learn step by step, and what it is fed: features, or what the trunk said of them."""

    run: Run
    accelerator: accelerate.Accelerator
    model: Any  # as it is called
    feeds: Mapping[str, Feed]
    _optimizer: Any = None

    def optimizer(self) -> Any:
        """Return AdamW as new, at the strategy's rate."""
        groups = _groups(self.run)
        if self._optimizer is None:
            self._optimizer = self.accelerator.prepare(torch.optim.AdamW(groups, fused=True))
        inner = self._optimizer.optimizer
        inner.state.clear()
        for group, new in zip(inner.param_groups, groups, strict=True):
            group["lr"] = group["initial_lr"] = new["lr"]
        return self._optimizer

    def schedule(self, optimizer: Any, updates: int) -> Any:
        """Return the schedule of the run's rate over so many updates."""
        kind, warmup = self.run.options.lr_scheduler_type, int(updates * self.run.options.warmup_ratio)
        return self.accelerator.prepare(get_scheduler(kind, optimizer.optimizer, warmup, num_training_steps=updates))

    def learn(self, loader: Any, optimizer: Any, scheduler: Any, bar: Watch) -> float:
        """Learn from every batch of a loader once and return the mean loss."""
        return _epoch(self.run, self.accelerator, self.model, loader, self.feeds["train"], optimizer, scheduler, bar)

    def batch(self, rows: list[int]) -> tuple[list[int], dict[str, Tensor]]:
        """Return some training rows as a loader does."""
        batch = self.feeds["train"].batch(rows)
        return rows, {key: value.to(self.accelerator.device) for key, value in batch.items()}


@contextlib.contextmanager
def stepping(run: Run, accelerator: accelerate.Accelerator, feeds: Mapping[str, Feed]) -> Iterator[Steps]:
    """Make the model of a run ready to learn from feeds, with the trunk kept where that pays, and undo it all."""
    with _memory_saved(run), contextlib.ExitStack() as undo:
        prepared = accelerator.prepare(run.model)
        undo.callback(accelerator.unwrap_model, prepared, keep_fp32_wrapper=False)  # autocast was for training alone
        run.trunk, feeds = cached(run.base, run.model, run.task, run.fit, feeds, run.options, run.watch)
        if run.trunk is not None:
            undo.enter_context(run.trunk.exchanged())
        yield Steps(run, accelerator, torch.compile(prepared) if run.options.torch_compile else prepared, feeds)


def _find_rate(steps: Steps, batches: Batches, updates: int) -> None:
    """Give a run's strategy a good learning rate; all else, random numbers among it, is then as it was before."""
    run, accelerator, each = steps.run, steps.accelerator, steps.run.options.gradient_accumulation_steps
    batches.set_epoch(run.options.num_train_epochs)  # an order that the run doesn't see
    mine = itertools.cycle(list(batches)[accelerator.process_index :: accelerator.num_processes])
    strategy, start = run.strategy, [p.detach().clone() for p in run.trainable]
    scale = {} if accelerator.scaler is None else accelerator.scaler.state_dict()

    def losses(first: float, factor: float) -> Iterator[float]:
        run.strategy = replace(strategy, learning_rate=first)
        optimizer = steps.optimizer()
        growing = torch.optim.lr_scheduler.ExponentialLR(optimizer.optimizer, factor ** (1 / accelerator.num_processes))
        scheduler = accelerator.prepare(growing)  # which steps once for each process
        while True:
            try:
                some = map(steps.batch, itertools.islice(mine, each))
                loss = torch.tensor(steps.learn(some, optimizer, scheduler, Watch()), device=accelerator.device)
            except TrainingError:
                return
            yield float(accelerator.gather(loss).mean())

    try:
        with _random_kept(accelerator.device):
            found = rate.search(strategy.learning_rate, updates, losses, run.watch)
    finally:
        run.losses.clear()
        accelerator.step = 0  # of those that accumulate
        if accelerator.scaler is not None:  # fp16
            accelerator.scaler.load_state_dict(scale)
        with torch.no_grad():
            for p, values in zip(run.trainable, start, strict=True):
                p.copy_(values)
                p.grad = None
    run.strategy = replace(strategy, learning_rate=found)


@contextlib.contextmanager
def _random_kept(device: torch.device) -> Iterator[None]:
    """Have random numbers go on afterwards as if none had been drawn."""
    ours, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    random.setstate(ours)
    np.random.set_state(numpy)


def _as_it_is(batch: Any) -> Any:
    return batch


@contextlib.contextmanager
def _memory_saved(run: Run) -> Iterator[None]:
    """Compute activations again instead of keeping them, where that is asked for."""
    if not run.options.gradient_checkpointing:
        yield
        return
    if not run.model.supports_gradient_checkpointing:
        raise TrainingError(f"a {type(run.model).__name__} has no gradient checkpointing")
    run.model.activation_checkpointing_enable({"use_reentrant": False})
    run.model.disable_input_require_grads()  # which reentrant checkpoints alone need
    try:
        yield
    finally:
        run.model.activation_checkpointing_disable()


def _note_epoch(run: Run, epoch: int, loss: float, predictions: list[Any]) -> None:
    """Add an epoch to the history, and keep what was learned if it is the best one yet."""
    metrics = run.task.metrics(predictions, run.data["validation"])
    run.history.append({"train_loss": loss, **metrics.values})
    run.watch.epoch(epoch, run.options.num_train_epochs, run.history[-1])
    value = metrics.values[run.task.best]
    before = run.history[run.best_epoch - 1][run.task.best] if run.best_epoch else None
    if before is None or (value < before if run.task.lower_is_better else value > before):
        run.best_epoch, run.predictions = epoch, predictions
        if epoch == run.options.num_train_epochs:  # nothing comes that could change it
            run.best = None
        elif run.best is None:
            run.best = [p.detach().clone() for p in run.trainable]
        else:
            with torch.no_grad():
                for values, p in zip(run.best, run.trainable, strict=True):
                    values.copy_(p)


def _epoch(
    run: Run,
    accelerator: accelerate.Accelerator,
    model: Any,
    loader: Any,
    feed: Feed,
    optimizer: Any,
    scheduler: Any,
    bar: Watch,
) -> float:
    """Learn from every batch once and return the mean loss."""
    model.train()
    if run.trunk is not None:
        run.trunk.still()
    options = run.options
    losses: list[float] = []
    for rows, batch in loader:
        with accelerator.accumulate(model), feed.using(rows, batch):
            loss = run.task.loss(model, batch, label_smoothing=options.label_smoothing_factor)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss is {losses[-1]} at step {len(losses)} of this epoch; learning_rate is "
                    f"{run.strategy.learning_rate}, try a lower one"
                )
            accelerator.backward(loss)
            if accelerator.sync_gradients and options.max_grad_norm:
                accelerator.clip_grad_norm_(run.trainable, options.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        bar.advance(loss=losses[-1], learning_rate=scheduler.get_last_lr()[0])
    run.losses += losses
    return sum(losses) / len(losses)


def _groups(run: Run) -> list[dict[str, Any]]:
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
