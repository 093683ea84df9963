"""The state of a training as a checkpoint holds it: parameters, optimizer, schedule, random numbers and position."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import TrainingError, named
from ..execution import processes
from ..execution.sharding import copy_full, full_tensor, sharded_like
from ..io import tensors as tensorfile
from .checkpoints import BEST, LEARNS, Checkpoint

if TYPE_CHECKING:
    from .stages import Training

_OPTIMIZER, _RANDOM, _STRATEGY = "optimizer/", "random/", "strategy/"


@dataclass
class Position:
    """How far a training is; the fields are keys of a checkpoint's JSON."""

    epoch: int = 1
    batches: int = 0  # of this epoch, by each process
    steps: int = 0  # of the optimizer, in all epochs
    loss: float = 0.0  # summed over this epoch's batches
    learning: list[str] | None = None  # names of what trains in this epoch; None: all trained parameters

    def next_epoch(self) -> Position:
        """Return the beginning of the epoch after this one."""
        return replace(self, epoch=self.epoch + 1, batches=0, loss=0.0, learning=None)


def capture(training: Training, accelerator: Any, optimizer: Any, scheduler: Any, position: Position) -> Checkpoint:
    """Return all that is needed to continue from here; every process has to call it."""
    tensors: dict[str, Tensor] = {}
    names = list(zip(training.target.names, training.parameters, strict=True))
    scalars: dict[str, dict[str, Any]] = {}
    for name, p in names:
        tensors[LEARNS + name] = full_tensor(p)
        for key, value in optimizer.optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{key}/{name}"] = full_tensor(value)
            else:
                scalars.setdefault(name, {})[key] = value
    for (name, _), values in zip(names, training.progress.best_values or (), strict=False):
        tensors[BEST + name] = full_tensor(values)
    tensors |= {_STRATEGY + key: values for key, values in _strategy_state(training).items()}
    random_values = {}
    for rank, (state, arrays) in enumerate(processes.gathered(_random_state(accelerator.device))):
        tensors |= {f"{_RANDOM}{rank}/{key}": torch.from_numpy(array.copy()) for key, array in arrays.items()}
        random_values[str(rank)] = state
    progress = {
        "position": asdict(position),
        "learning_rate": training.strategy.learning_rate,
        "start": training.progress.start,
        "history": training.progress.history,
        "best_epoch": training.progress.best_epoch,
        "optimizer": scalars,
        "scheduler": {k: v for k, v in scheduler.state_dict().items() if _is_plain(v)},
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
        "random": random_values,
        "threads": torch.get_num_threads(),
    }
    return Checkpoint(progress, tensors)


@contextlib.contextmanager
def _matching() -> Iterator[None]:
    """Raise `TrainingError` where an undamaged checkpoint doesn't fit the run."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise TrainingError(f"the checkpoint doesn't fit this run: {why}") from error


@_matching()
def learning_rate_of(checkpoint: Checkpoint) -> float:
    """Return the learning rate of a checkpoint's run; raises `TrainingError` where it holds none."""
    rate = checkpoint.progress["learning_rate"]
    if not isinstance(rate, int | float):
        raise ValueError(f"learning_rate is {str(rate)[:20]!r}")
    return rate


@_matching()
def restore(training: Training, accelerator: Any, optimizer: Any, scheduler: Any, checkpoint: Checkpoint) -> Position:
    """Restore the state of a checkpoint; raises `TrainingError` where it doesn't fit the run."""
    position = _position_of(checkpoint, training.run.options.num_train_epochs)
    progress = checkpoint.progress
    named_parameters = list(zip(training.target.names, training.parameters, strict=True))
    best = checkpoint.named(BEST)
    training.progress.history, training.progress.best_epoch = progress["history"], progress["best_epoch"]
    training.progress.start = progress.get("start")  # earlier versions didn't measure it
    training.progress.best_values = [sharded_like(p, best[name]) for name, p in named_parameters] if best else None
    _restore_parameters(named_parameters, optimizer, checkpoint)
    for key, values in _strategy_state(training).items():
        copy_full(values, checkpoint.tensors[_STRATEGY + key])
    scheduler.load_state_dict({**scheduler.state_dict(), **progress["scheduler"]})
    for group, rate in zip(optimizer.optimizer.param_groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = rate
    if accelerator.scaler is not None and progress["scaler"]:
        accelerator.scaler.load_state_dict(progress["scaler"])
    rank = processes.index()
    arrays = {k: v.numpy() for k, v in checkpoint.named(f"{_RANDOM}{rank}/").items()}
    _set_random_state(progress["random"][str(rank)], arrays, accelerator.device)
    if progress["threads"] != (threads := torch.get_num_threads()):
        before = progress["threads"]
        training.run.watch.note("", f"started with {before} threads, resumed with {threads}: last bits may differ")
    return position


def _position_of(checkpoint: Checkpoint, epochs: int) -> Position:
    position = Position(**checkpoint.progress["position"])
    counts = [position.epoch, position.batches, position.steps, epochs + 1 - position.epoch]
    if not tensorfile.is_counts(counts) or not isinstance(position.loss, int | float):
        raise ValueError(f"its position is {str(checkpoint.progress['position'])[:80]}, of {epochs} epochs")
    return position


def _restore_parameters(
    named_parameters: list[tuple[str, torch.nn.Parameter]], optimizer: Any, checkpoint: Checkpoint
) -> None:
    """Restore parameters and what the optimizer holds for each of them."""
    trained = checkpoint.named(LEARNS)
    states: dict[str, dict[str, Any]] = {
        name: dict(values) for name, values in checkpoint.progress["optimizer"].items()
    }
    for path, values in checkpoint.named(_OPTIMIZER).items():
        key, _, name = path.partition("/")
        states.setdefault(name, {})[key] = values
    for name, p in named_parameters:
        if trained[name].shape != getattr(p, "ds_shape", p.shape):  # `ds_shape`: DeepSpeed's, while p is sharded
            raise ValueError(f"'{name}' has shape {tuple(trained[name].shape)}, but the run's has {tuple(p.shape)}")
        copy_full(p, trained[name])
        if name in states:
            optimizer.optimizer.state[p] = {
                k: sharded_like(p, v) if isinstance(v, Tensor) else v for k, v in states[name].items()
            }


def _strategy_state(training: Training) -> Mapping[str, Tensor]:
    strategy = training.strategy
    with named(f"{type(strategy).__name__}.state"):
        return dict(strategy.state(training.run.base.model))


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, list) and all(map(_is_plain, value)))


def _random_state(device: torch.device) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the state of this process's random number generators: JSON values, and arrays."""
    version, words, gauss = random.getstate()
    name, keys, at, has_gauss, cached = np.random.get_state()
    arrays = {
        "python": np.array(words, dtype=np.int64).astype(np.uint32).view(np.int32),
        "numpy": np.asarray(keys, dtype=np.uint32).view(np.int32),
        "torch": torch.get_rng_state().numpy(),
    }
    if device.type == "cuda":
        arrays["cuda"] = torch.cuda.get_rng_state(device).numpy()
    return {"python": [version, gauss], "numpy": [name, int(at), int(has_gauss), float(cached)]}, arrays


def _set_random_state(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
    version, gauss = plain["python"]
    random.setstate((version, tuple(int(w) for w in arrays["python"].view(np.uint32)), gauss))
    name, at, has_gauss, cached = plain["numpy"]
    np.random.set_state((name, arrays["numpy"].view(np.uint32), at, has_gauss, cached))
    torch.set_rng_state(torch.from_numpy(arrays["torch"].copy()))
    if device.type == "cuda" and "cuda" in arrays:
        torch.cuda.set_rng_state(torch.from_numpy(arrays["cuda"].copy()), device)
