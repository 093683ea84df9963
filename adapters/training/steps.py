"""The steps of a training, on the hardware that Accelerate sets up, in one process or several."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import accelerate
import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from transformers import get_scheduler

from ..base.snapshot import Snapshot
from ..errors import TrainingError, named
from ..evaluation.outputs import outputs
from ..execution import processes
from ..execution.sharding import full_tensor, is_sharded
from ..execution.stop_signals import SIGNALS, Stop, StoppedError
from ..features.feed import Feed
from ..watch import Watch
from .accelerate_setup import checkpointed_activations, prepare
from .checkpoints import Checkpoints
from .param_groups import parameter_groups
from .stages import Prepared, Training
from .training_state import Position, capture
from .trunk_cache import cache_trunk


def predictions_of(run: Prepared, model: Any, feed: Feed) -> list[Any]:
    """Return a model's predictions for the validation rows."""
    size = run.options.per_device_eval_batch_size
    distributed = not is_sharded(model.parameters())  # every process has to take part in each batch of a sharded model
    results = outputs(run.task, model, feed, run.base, batch_size=size, watch=run.watch, distributed=distributed)
    return run.task.predictions(results, feed.features, run.data["validation"])


@dataclass(frozen=True)
class _Agreed:
    """What all processes agree on at a step."""

    loss: float  # the mean over the rows of all processes
    weight: float  # of this process's gradients, 1 where all have as many rows
    checkpoint_due: bool
    stop: int  # the signal that asks to stop, or 0


@dataclass
class Steps:
    """A training whose model is ready for steps, and the features it trains on, with cached hidden states or not."""

    training: Training
    accelerator: accelerate.Accelerator
    prepared: Any  # the model, by Accelerate
    uncached: Mapping[str, Feed]
    feeds: Mapping[str, Feed]
    checkpoints: Checkpoints | None = None
    _optimizer: Any = None
    _replay: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # closed, the trunk computes again

    def __post_init__(self) -> None:
        self.model = self._compiled()

    def _compiled(self) -> Any:
        return torch.compile(self.prepared) if self.training.run.options.torch_compile else self.prepared

    def optimizer(self) -> Any:
        """Return AdamW without state, at the strategy's learning rate."""
        groups = parameter_groups(self.training)
        if self._optimizer is None:
            self._optimizer = self.accelerator.prepare(torch.optim.AdamW(groups, fused=True))
        inner = self._optimizer.optimizer
        inner.state.clear()
        for group, new in zip(inner.param_groups, groups, strict=True):
            group["lr"] = group["initial_lr"] = new["lr"]
        return self._optimizer

    def schedule(self, optimizer: Any, updates: int) -> Any:
        """Return the learning rate schedule for a number of updates; Accelerate's would step once a process."""
        options = self.training.run.options
        warmup = int(updates * options.warmup_ratio)
        return get_scheduler(options.lr_scheduler_type, optimizer.optimizer, warmup, num_training_steps=updates)

    def learn(
        self,
        loader: Any,
        optimizer: Any,
        scheduler: Any,
        bar: Watch,
        position: Position | None = None,
        stop: Stop | None = None,
    ) -> float:
        """Train on every batch of a loader once and return the mean loss.

        `position` is moved along; with it, checkpoints are written when they are due, and the strategy's `on_step` is
        called.
        """
        self.model.train()
        if self.training.trunk is not None:
            self.training.trunk.set_eval()
        losses: list[float] = []
        for rows, batch in loader:
            agreed = self._step(rows, batch, optimizer, scheduler, losses, position, stop)
            bar.advance(loss=losses[-1], learning_rate=scheduler.get_last_lr()[0])
            if position is None:
                continue
            position.batches, position.loss = position.batches + 1, position.loss + agreed.loss
            if self.accelerator.sync_gradients:
                position.steps += 1
                if agreed.checkpoint_due or agreed.stop:
                    saved = self.save_checkpoint(optimizer, scheduler, position)
                    if agreed.stop:
                        raise self._stopped(agreed.stop, position, saved)
        self.training.progress.losses += losses
        return sum(losses) / max(1, len(losses))

    def _step(
        self,
        rows: list[int],
        batch: Mapping[str, Tensor],
        optimizer: Any,
        scheduler: Any,
        losses: list[float],
        position: Position | None,
        stop: Stop | None,
    ) -> _Agreed:
        """Run a batch forward and backward, and update parameters where gradients are complete; append its loss."""
        run, accelerator = self.training.run, self.accelerator
        is_real = rows[0] >= 0  # else there are fewer rows than processes: this one takes part with a weight of 0
        rows = rows if is_real else [~i for i in rows]
        with accelerator.accumulate(self.model), self.feeds["train"].using(rows, batch):
            loss = run.task.loss(self.model, batch, label_smoothing=run.options.label_smoothing_factor)
            checkpoints = self.checkpoints if position is not None else None
            due = position is not None and checkpoints is not None and checkpoints.due(position.steps + 1)
            agreed = self._agreed(loss, batch if is_real else None, due, stop)
            losses.append(agreed.loss)
            if not math.isfinite(agreed.loss):
                raise TrainingError(
                    f"the loss is {agreed.loss} at step {len(losses)} of this epoch; try a learning_rate below "
                    f"{self.training.strategy.learning_rate}"
                )
            accelerator.backward(loss * agreed.weight)
            if accelerator.sync_gradients:
                self._gradients_complete(call_strategy=position is not None)
            optimizer.step()
            if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
                scheduler.step()
            optimizer.zero_grad()
        return agreed

    def _gradients_complete(self, *, call_strategy: bool) -> None:
        run, strategy = self.training.run, self.training.strategy
        if run.options.max_grad_norm:
            self.accelerator.clip_grad_norm_(self.training.parameters, run.options.max_grad_norm)
        if call_strategy:
            with named(f"{type(strategy).__name__}.on_step"):
                strategy.on_step(run.base.model)

    def _agreed(self, loss: Tensor, batch: Mapping[str, Tensor] | None, due: bool, stop: Stop | None) -> _Agreed:
        """Exchange losses, and what is to be done at this step, between processes.

        Gradients of a process are weighted by its share of the rows, or of the labels.
        """
        stop_signal = (stop.signal or 0) if stop is not None else 0
        if self.accelerator.num_processes == 1:
            return _Agreed(loss.item(), 1.0, due, stop_signal)
        share = 0.0 if batch is None else float(self.training.run.task.loss_weight(batch))
        mine = [float(loss.detach()) * share, share, float(due and processes.index() == 0)]
        mine += [float(stop_signal == number) for number in SIGNALS]
        each = torch.tensor(mine, dtype=torch.float64, device=loss.device)
        total, shares, checkpoints_due, *signals = self.accelerator.reduce(each, "sum").tolist()
        number = next((n for n, count in zip(SIGNALS, signals, strict=True) if count), 0)
        return _Agreed(total / shares, share * self.accelerator.num_processes / shares, checkpoints_due > 0, number)

    # ---- which parameters train

    def begin(self, position: Position) -> None:
        """Train the parameters that the strategy chooses for an epoch, or, resumed within it, those of before."""
        training = self.training
        strategy, base = training.strategy, training.run.base.model
        chosen = None
        if not position.batches:
            with named(f"{type(strategy).__name__}.on_epoch"):
                chosen = strategy.on_epoch(base, position.epoch)
        if chosen is None and position.learning is None and not training.refrozen:
            return
        names = {id(p): name for name, p in zip(training.target.names, training.parameters, strict=True)}
        if chosen is not None:
            ids = {*map(id, chosen), *map(id, training.target.head.values())}
            position.learning = [name for key, name in names.items() if key in ids]
        wanted = {*names.values()} if position.learning is None else {*position.learning}
        if {names[id(p)] for p in training.parameters if p.requires_grad} != wanted:
            self._train_only(wanted, names)

    def _train_only(self, wanted: set[str], names: Mapping[int, str]) -> None:
        """Freeze and unfreeze parameters by name; the trunk and Accelerate's model are made anew."""
        training = self.training
        if training.sharded:
            raise TrainingError(f"{type(training.strategy).__name__} freezes parameters, and sharded ones can't be")
        self.release()
        training.trunk, self.feeds = None, self.uncached
        training.target.model.eval()
        for p in training.parameters:
            p.requires_grad_(names[id(p)] in wanted)
            p.grad = None
        training.refrozen = True
        self.prepared = prepare(self.accelerator, training.target.model)
        self.model = self._compiled()
        self.cache()

    # ---- the trunk

    def cache(self) -> None:
        """Cache hidden states of the frozen layers below all that trains, where that pays, and replay them."""
        training, run = self.training, self.training.run
        options = run.options
        if training.refrozen:  # layers that are frozen now may have been trained before
            options = replace(options, keep_features=False)
        training.trunk, self.feeds = cache_trunk(
            run.base, training.target.model, run.task, run.fit, self.uncached, options, run.watch, run.shared
        )
        if training.trunk is not None:
            self._replay.enter_context(training.trunk.installed())

    def release(self) -> None:
        """Restore the model: without replay, without Accelerate's wrappers, and with all parameters trainable."""
        self._replay.close()
        if self.training.refrozen:
            self.training.trunk = None  # its values belong to the last epoch, and not to the best one
            for p in self.training.parameters:
                p.requires_grad_(True)
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)

    # ---- checkpoints

    def save_checkpoint(self, optimizer: Any, scheduler: Any, position: Position) -> bool:
        """Write a checkpoint, if the run writes any; return whether it was written."""
        checkpoints = self.checkpoints
        if checkpoints is None:
            return False
        state = capture(self.training, self.accelerator, optimizer, scheduler, position)
        return processes.from_main(lambda: checkpoints.save(state, position.steps))

    def _stopped(self, number: int, position: Position, saved: bool) -> StoppedError:
        name, folder = signal.Signals(number).name, self.checkpoints.folder if self.checkpoints else ""
        after = f"`adapt resume {folder}` continues it" if saved else "no checkpoint was written"
        return StoppedError(number, f"stopped by {name} in epoch {position.epoch}, at step {position.steps}; {after}")

    def batch(self, rows: list[int]) -> tuple[list[int], dict[str, Tensor]]:
        """Return some training rows as a loader does."""
        batch = self.feeds["train"].batch(rows)
        return rows, {key: value.to(self.accelerator.device) for key, value in batch.items()}


@contextlib.contextmanager
def stepping(
    training: Training,
    accelerator: accelerate.Accelerator,
    feeds: Mapping[str, Feed],
    checkpoints: Checkpoints | None = None,
) -> Iterator[Steps]:
    """Prepare a model for training on feeds, with hidden states cached where that pays, and undo it at the end."""
    run, target = training.run, training.target
    with checkpointed_activations(target.model, run.options), contextlib.ExitStack() as undo:
        if accelerator.distributed_type == DistributedType.DEEPSPEED and checkpoints is not None:
            run.watch.note("checkpoint", "none is written under DeepSpeed")
            checkpoints = None
        before = Snapshot(target.model)
        prepared, optimizer = _prepared(training, accelerator)
        steps = Steps(training, accelerator, prepared, feeds, feeds, checkpoints, optimizer)
        undo.callback(steps.release)
        if is_sharded(target.model.parameters()):
            undo.callback(_unshard, training, before, training.parameters)
            sharded = dict(target.model.named_parameters())
            training.parameters, training.sharded = [sharded[name] for name in target.names], True
            if run.options.cache_trunk == "on":
                raise TrainingError("--cache-trunk on: parameters are sharded over several devices")
        else:
            steps.cache()
        yield steps


def _prepared(training: Training, accelerator: accelerate.Accelerator) -> tuple[Any, Any]:
    """Return the model prepared by Accelerate, and its optimizer where the two can only be prepared together."""
    deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    if deepspeed:
        config = accelerator.state.deepspeed_plugin.deepspeed_config
        config["train_micro_batch_size_per_gpu"] = training.run.options.per_device_train_batch_size
    if not (accelerator.is_fsdp2 or deepspeed):
        return prepare(accelerator, training.target.model), None
    optimizer = torch.optim.AdamW(parameter_groups(training), fused=not deepspeed)
    prepared, optimizer = prepare(accelerator, training.target.model, optimizer)
    return prepared, optimizer


@torch.no_grad()
def _unshard(training: Training, before: Snapshot, parameters: list[nn.Parameter]) -> None:
    """Put a model's own parameters back in the place of their shards, with the values that were trained."""
    pairs = list(zip(training.parameters, parameters, strict=True))
    values = [full_tensor(shard).to(p.device) for shard, p in pairs]
    best = training.progress.best_values
    if best is not None:
        best = [full_tensor(value).to(p.device) for value, p in zip(best, parameters, strict=True)]
    training.progress.best_values = best
    before.restore()
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)
    training.parameters = parameters
