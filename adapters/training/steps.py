"""The steps of a training under way, on the hardware that Accelerate finds, in one process or several."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import accelerate
import torch
from accelerate.utils import DistributedType
from torch import Tensor
from transformers import get_scheduler

from ..base.snapshot import Snapshot
from ..errors import TrainingError, named
from ..evaluation.outputs import outputs
from ..features.feed import Feed
from ..runtime import processes
from ..runtime.sharding import is_sharded
from ..runtime.stop_signals import SIGNALS, Stop, StoppedError
from ..watch import Watch
from .accelerate_setup import _memory_saved, _prepared, _put_together
from .param_groups import groups
from .run_state import Run
from .training_state import Position, capture
from .trunk_cache import cache_trunk

if TYPE_CHECKING:
    from datasets import Dataset


def predictions_of(run: Run, features: Dataset | Feed) -> list[Any]:
    """Return what the run's model predicts for the validation rows."""
    size = run.options.per_device_eval_batch_size
    deal = not is_sharded(run.model.parameters())  # else every process has to take part in every batch
    said = outputs(run.task, run.model, features, run.base, batch_size=size, watch=run.watch, distributed=deal)
    return run.task.predictions(said, run.features["validation"], run.data["validation"])


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
    prepared: Any  # the model, by Accelerate
    whole: Mapping[str, Feed]
    feeds: Mapping[str, Feed]
    _optimizer: Any = None
    _cut: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # undoes what stands for the trunk

    def __post_init__(self) -> None:
        self.model = self._called()

    def _called(self) -> Any:
        return torch.compile(self.prepared) if self.run.options.torch_compile else self.prepared

    def optimizer(self) -> Any:
        """Return AdamW as new, at the strategy's rate."""
        found = groups(self.run)
        if self._optimizer is None:
            self._optimizer = self.accelerator.prepare(torch.optim.AdamW(found, fused=True))
        inner = self._optimizer.optimizer
        inner.state.clear()
        for group, new in zip(inner.param_groups, found, strict=True):
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
            run.trunk.set_eval()
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
                if accelerator.sync_gradients:
                    if run.options.max_grad_norm:
                        accelerator.clip_grad_norm_(run.trainable, run.options.max_grad_norm)
                    if position is not None:
                        with named(f"{type(run.strategy).__name__}.on_step"):
                            run.strategy.on_step(run.base.model)
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
        share = 0.0 if batch is None else float(self.run.task.loss_weight(batch))
        mine = [float(loss.detach()) * share, share, float(due and processes.index() == 0)]
        mine += [float(asked == number) for number in SIGNALS]
        each = torch.tensor(mine, dtype=torch.float64, device=loss.device)
        total, shares, wanted, *signals = self.accelerator.reduce(each, "sum").tolist()
        number = next((n for n, count in zip(SIGNALS, signals, strict=True) if count), 0)
        return _Told(total / shares, share * self.accelerator.num_processes / shares, wanted > 0, number)

    def begin(self, position: Position) -> None:
        """Have learn what the strategy says of an epoch, or, in the middle of one, what learned in it before."""
        run = self.run
        chosen = None
        if not position.batches:
            with named(f"{type(run.strategy).__name__}.on_epoch"):
                chosen = run.strategy.on_epoch(run.base.model, position.epoch)
        if chosen is None and position.learning is None and not run.refrozen:
            return
        names = {id(p): name for name, p in zip(run.names, run.trainable, strict=True)}
        if chosen is not None:
            there = {*map(id, chosen), *map(id, run.head.values())}
            position.learning = [name for key, name in names.items() if key in there]
        wanted = {*names.values()} if position.learning is None else {*position.learning}
        if {names[id(p)] for p in run.trainable if p.requires_grad} != wanted:
            self._have_learn(wanted, names)

    def _have_learn(self, wanted: set[str], names: Mapping[int, str]) -> None:
        """Freeze and thaw what a run trains; the trunk, and what several processes share, follow."""
        run = self.run
        if run.sharded:
            raise TrainingError(f"{type(run.strategy).__name__} freezes and thaws, which parameters in pieces can't")
        self.release()
        run.trunk, self.feeds = None, self.whole
        run.model.eval()
        for p in run.trainable:
            p.requires_grad_(names[id(p)] in wanted)
            p.grad = None
        run.options = replace(run.options, keep_features=False)  # what is frozen now may have learned
        run.refrozen = True
        self.prepared = _prepared(self.accelerator, run.model)
        self.model = self._called()
        self.cut()

    def cut(self) -> None:
        """Run what is frozen below the lowest thing that learns once, where that pays, and feed the rest."""
        run = self.run
        run.trunk, self.feeds = cache_trunk(run.base, run.model, run.task, run.fit, self.whole, run.options, run.watch)
        if run.trunk is not None:
            self._cut.enter_context(run.trunk.installed())

    def release(self) -> None:
        """Give the run its model back as it was, all of it."""
        self._cut.close()
        if self.run.refrozen:
            self.run.trunk = None  # what was kept is of what learned last, and not of the best epoch
            for p in self.run.trainable:
                p.requires_grad_(True)
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)  # autocast was for training alone

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
        names, optimizer = run.names, None
        deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        pieces = accelerator.is_fsdp2 or deepspeed  # maybe: then a model and its optimizer are taken together
        before = Snapshot(run.model)
        if deepspeed:
            settings = accelerator.state.deepspeed_plugin.deepspeed_config
            settings["train_micro_batch_size_per_gpu"] = run.options.per_device_train_batch_size
            if run.checkpoints is not None:
                run.watch.note("checkpoint", "none is written under DeepSpeed")
                run.checkpoints = None
        if pieces:
            new = torch.optim.AdamW(groups(run), fused=not deepspeed)
            prepared, optimizer = _prepared(accelerator, run.model, new)
        else:
            prepared = _prepared(accelerator, run.model)
        steps = Steps(run, accelerator, prepared, feeds, feeds, optimizer)
        undo.callback(steps.release)
        if is_sharded(run.model.parameters()):
            undo.callback(_put_together, run, before, run.trainable)
            own = dict(run.model.named_parameters())
            run.trainable, run.sharded = [own[name] for name in names], True
            if run.options.cache_trunk == "on":
                raise TrainingError("--cache-trunk on: parameters lie in pieces on several devices")
        else:
            steps.cut()
        yield steps
