"""The steps of a training under way, on the hardware that Accelerate finds, in one process or several."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import accelerate
import numpy as np
import torch
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn
from transformers import get_scheduler

from . import processes, rate
from .batching import Batches
from .errors import TrainingError
from .evaluation import encode, outputs
from .feed import Feed
from .modules import blocks
from .position import Position, capture, restore
from .precision import Precision
from .settings import TrainingOptions
from .sharding import is_sharded, whole
from .signals import SIGNALS, Stop, StoppedError, heard
from .snapshot import Snapshot
from .trunk import cached
from .underway import SPLITS, Run
from .watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset


def loop(run: Run, mixed: Precision) -> Dataset | Feed:
    """Train in place, and note what learns as it was after the best epoch.

    Returns the validation rows to measure the finished model on: in fp32, nothing taken that isn't its own. Raises
    `StoppedError` where a signal asked for it.
    """
    options, watch = run.options, run.watch
    accelerator = accelerated(options, mixed)
    whole = encoded(run)
    batches = batches_of(whole["train"], options, accelerator.num_processes)
    each = accelerator.num_processes * options.gradient_accumulation_steps
    updates = sum(math.ceil(batches.count(epoch) / each) for epoch in range(options.num_train_epochs))
    with stepping(run, accelerator, whole) as steps, heard() as stop:
        loader: Any = torch.utils.data.DataLoader(
            steps.feeds["train"],  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # what it draws as an epoch begins is no part of the run's random numbers
        )
        loader = accelerator.prepare(loader)
        position = Position()
        if run.resumed is not None:
            run.strategy = replace(run.strategy, learning_rate=run.resumed.progress["learning_rate"])
        elif run.auto_rate:
            _find_rate(steps, batches, updates)
        optimizer = steps.optimizer()
        scheduler = steps.schedule(optimizer, updates)
        if run.resumed is not None:
            position = restore(run, accelerator, optimizer, scheduler, run.resumed)
            run.resumed = None
        for epoch in range(position.epoch, options.num_train_epochs + 1):
            batches.go_to(epoch - 1, position.batches)
            if not run.task.steady:
                steps.feeds["train"].draws = functools.partial(_draw, options.seed, epoch)
            with watch.bar(f"epoch {epoch}/{options.num_train_epochs}", len(loader)) as bar:
                steps.learn(loader, optimizer, scheduler, bar, position, stop)
            _note_epoch(run, epoch, position.loss / position.batches, predictions_of(run, steps.feeds["validation"]))
            if options.early_stopping_patience and epoch - run.best_epoch >= options.early_stopping_patience:
                watch.note("", f"no better epoch in {options.early_stopping_patience}: stopped early")
                break
            position = position.next_epoch()
            if epoch < options.num_train_epochs:
                steps.keep(optimizer, scheduler, position)
    return steps.feeds["validation"] if run.trunk is not None and run.trunk.whole else run.features["validation"]


def _draw(seed: int, epoch: int, row: int) -> int:
    """Return what a row's random numbers in an epoch are seeded with, in whichever process it is."""
    return int(np.random.SeedSequence([seed, epoch, row]).generate_state(1)[0])


def predictions_of(run: Run, features: Dataset | Feed) -> list[Any]:
    """Return what the run's model predicts for the validation rows."""
    size = run.options.per_device_eval_batch_size
    deal = not is_sharded(run.model.parameters())  # else every process has to take part in every batch
    said = outputs(run.task, run.model, features, run.base, batch_size=size, watch=run.watch, deal=deal)
    return run.task.predictions(said, run.features["validation"], run.data["validation"])


def accelerated(options: TrainingOptions, mixed: Precision) -> accelerate.Accelerator:
    """Return what runs steps on the hardware there is, in a precision."""
    accelerate.state.AcceleratorState._reset_state()  # it keeps the precision of the process's first run
    return accelerate.Accelerator(
        mixed_precision=mixed.name,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(even_batches=False),
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)],
    )


def encoded(run: Run) -> dict[str, Feed]:
    """Tokenise the rows of a run; return each split's features as its model takes them."""
    run.features = features_of(run, labelled=("train",))
    run.check_features()
    collate = run.task.collate(run.base.tokenizer, run.model)
    return {split: Feed(rows, collate) for split, rows in run.features.items()}


def features_of(run: Run, labelled: Sequence[str] = SPLITS) -> dict[str, Dataset]:
    """Tokenise the rows of a run, with labels in some splits."""
    with processes.first_of_node_first():
        return {s: encode(run.task, run.data[s], run.base, labelled=s in labelled, watch=run.watch) for s in SPLITS}


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


@dataclass(frozen=True)
class _Told:
    """What all processes know of a step."""

    loss: float  # the mean over the rows of all
    share: float  # of this process in the gradient, 1 where all have as much
    due: bool  # whether a checkpoint is
    stop: int  # the signal that asks to stop, or 0


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
        """Return the schedule of the run's rate over so many updates; Accelerate's would step once a process."""
        kind, warmup = self.run.options.lr_scheduler_type, int(updates * self.run.options.warmup_ratio)
        return get_scheduler(kind, optimizer.optimizer, warmup, num_training_steps=updates)

    def learn(
        self,
        loader: Any,
        optimizer: Any,
        scheduler: Any,
        bar: Watch,
        position: Position | None = None,
        stop: Stop | None = None,
    ) -> float:
        """Learn from every batch of a loader once and return the mean loss.

        `position` goes along; where it is given, checkpoints are kept when they are due.
        """
        run, accelerator, feed = self.run, self.accelerator, self.feeds["train"]
        self.model.train()
        if run.trunk is not None:
            run.trunk.still()
        losses: list[float] = []
        for rows, batch in loader:
            counts = rows[0] >= 0  # or there are fewer rows than processes, and this one only takes part
            rows = rows if counts else [~i for i in rows]
            with accelerator.accumulate(self.model), feed.using(rows, batch):
                loss = run.task.loss(self.model, batch, label_smoothing=run.options.label_smoothing_factor)
                due = position is not None and run.checkpoints is not None and run.checkpoints.due(position.steps + 1)
                told = self._told(loss, batch if counts else None, due, stop)
                losses.append(told.loss)
                if not math.isfinite(told.loss):
                    raise TrainingError(
                        f"the loss is {told.loss} at step {len(losses)} of this epoch; learning_rate is "
                        f"{run.strategy.learning_rate}, try a lower one"
                    )
                accelerator.backward(loss * told.share)
                if accelerator.sync_gradients and run.options.max_grad_norm:
                    accelerator.clip_grad_norm_(run.trainable, run.options.max_grad_norm)
                optimizer.step()
                if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
                    scheduler.step()
                optimizer.zero_grad()
            bar.advance(loss=losses[-1], learning_rate=scheduler.get_last_lr()[0])
            if position is None:
                continue
            position.batches, position.loss = position.batches + 1, position.loss + told.loss
            if accelerator.sync_gradients:
                position.steps += 1
                if told.due or told.stop:
                    saved = self.keep(optimizer, scheduler, position)
                    if told.stop:
                        raise self._stopped(told.stop, position, saved)
        run.losses += losses
        return sum(losses) / max(1, len(losses))

    def _told(self, loss: Tensor, batch: Mapping[str, Tensor] | None, due: bool, stop: Stop | None) -> _Told:
        """Return what the processes tell one another at a step: the mean loss of all rows, and what is to be done.

        What each of them adds to the gradients goes by its share of the rows, or of the labels.
        """
        asked = (stop.signal or 0) if stop is not None else 0
        if self.accelerator.num_processes == 1:
            return _Told(loss.item(), 1.0, due, asked)
        share = 0.0 if batch is None else float(self.run.task.share(batch))
        mine = [float(loss.detach()) * share, share, float(due and processes.index() == 0)]
        mine += [float(asked == number) for number in SIGNALS]
        each = torch.tensor(mine, dtype=torch.float64, device=loss.device)
        total, shares, wanted, *signals = self.accelerator.reduce(each, "sum").tolist()
        number = next((n for n, count in zip(SIGNALS, signals, strict=True) if count), 0)
        return _Told(total / shares, share * self.accelerator.num_processes / shares, wanted > 0, number)

    def keep(self, optimizer: Any, scheduler: Any, position: Position) -> bool:
        """Write a checkpoint, if the run has any; return whether it is there."""
        run = self.run
        if run.checkpoints is None:
            return False
        checkpoint = capture(run, self.accelerator, optimizer, scheduler, position)
        kept = run.checkpoints
        return processes.from_main(lambda: kept.save(checkpoint, position.steps))

    def _stopped(self, number: int, position: Position, saved: bool) -> StoppedError:
        name, folder = signal.Signals(number).name, self.run.checkpoints.folder if self.run.checkpoints else ""
        after = f"`adapt resume {folder}` goes on" if saved else "no checkpoint was written"
        return StoppedError(number, f"stopped by {name} in epoch {position.epoch}, at step {position.steps}; {after}")

    def batch(self, rows: list[int]) -> tuple[list[int], dict[str, Tensor]]:
        """Return some training rows as a loader does."""
        batch = self.feeds["train"].batch(rows)
        return rows, {key: value.to(self.accelerator.device) for key, value in batch.items()}


@contextlib.contextmanager
def stepping(run: Run, accelerator: accelerate.Accelerator, feeds: Mapping[str, Feed]) -> Iterator[Steps]:
    """Make the model of a run ready to learn from feeds, with the trunk kept where that pays, and undo it all."""
    with _memory_saved(run), contextlib.ExitStack() as undo:
        names, before, optimizer = run.names, Snapshot(run.model), None
        deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        if deepspeed:
            settings = accelerator.state.deepspeed_plugin.deepspeed_config
            settings["train_micro_batch_size_per_gpu"] = run.options.per_device_train_batch_size
            if run.checkpoints is not None:
                run.watch.note("checkpoint", "none is written under DeepSpeed")
                run.checkpoints = None
        if accelerator.is_fsdp2 or deepspeed:  # which take both or none
            new = torch.optim.AdamW(_groups(run), fused=not deepspeed)
            prepared, optimizer = accelerator.prepare(run.model, new)
        else:
            prepared = accelerator.prepare(run.model)
        undo.callback(accelerator.unwrap_model, prepared, keep_fp32_wrapper=False)  # autocast was for training alone
        if is_sharded(run.model.parameters()):
            undo.callback(_put_together, run, before, run.trainable)
            own = dict(run.model.named_parameters())
            run.trainable, run.sharded = [own[name] for name in names], True
            if run.options.cache_trunk == "on":
                raise TrainingError("--cache-trunk on: parameters lie in pieces on several devices")
        else:
            run.trunk, feeds = cached(run.base, run.model, run.task, run.fit, feeds, run.options, run.watch)
        if run.trunk is not None:
            undo.enter_context(run.trunk.exchanged())
        called = torch.compile(prepared) if run.options.torch_compile else prepared
        yield Steps(run, accelerator, called, feeds, optimizer)


@torch.no_grad()
def _put_together(run: Run, before: Snapshot, own: list[nn.Parameter]) -> None:
    """Give a model whose parameters lie in pieces its own back, with what was learned in them."""
    learned = [whole(p).to(o.device) for p, o in zip(run.trainable, own, strict=True)]
    run.best = None if run.best is None else [whole(b).to(o.device) for b, o in zip(run.best, own, strict=True)]
    before.restore()
    for p, values in zip(own, learned, strict=True):
        p.copy_(values)
    run.trainable = own


def _find_rate(steps: Steps, batches: Batches, updates: int) -> None:
    """Give a run's strategy a good learning rate; all else, random numbers among it, is then as it was before."""
    run, accelerator, each = steps.run, steps.accelerator, steps.run.options.gradient_accumulation_steps
    batches.go_to(run.options.num_train_epochs)  # an order that the run doesn't see
    mine = itertools.cycle(list(batches)[accelerator.process_index :: accelerator.num_processes])
    strategy, start = run.strategy, [p.detach().clone() for p in run.trainable]
    scale = {} if accelerator.scaler is None else accelerator.scaler.state_dict()

    def losses(first: float, factor: float) -> Iterator[float]:
        run.strategy = replace(strategy, learning_rate=first)
        optimizer = steps.optimizer()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer.optimizer, factor)
        while True:
            try:
                yield steps.learn(map(steps.batch, itertools.islice(mine, each)), optimizer, scheduler, Watch())
            except TrainingError:
                return

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
