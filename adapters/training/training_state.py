"""Where a training is, as a checkpoint holds it: what learns, the optimizer, rates, random numbers, how far it is."""

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
from ..io import tensors as tensorfile
from ..runtime import processes
from ..runtime.sharding import like, put, whole
from .checkpoints import BEST, LEARNS, Checkpoint

if TYPE_CHECKING:
    from .run_state import Run

_OPTIMIZER, _RANDOM, _STRATEGY = "optimizer/", "random/", "strategy/"


@dataclass
class Position:
    """How far a training is."""

    epoch: int = 1
    batches: int = 0  # of this epoch that were learned from, by each process
    steps: int = 0  # of the optimizer, in all
    loss: float = 0.0  # summed over this epoch's batches
    learning: list[str] | None = None  # what learns in this epoch, where it isn't all that does at some time

    def next_epoch(self) -> Position:
        """Return the beginning of the epoch after this one."""
        return replace(self, epoch=self.epoch + 1, batches=0, loss=0.0, learning=None)


def capture(run: Run, accelerator: Any, optimizer: Any, scheduler: Any, position: Position) -> Checkpoint:
    """Return all that is needed to go on from here; every process has to ask for it."""
    tensors: dict[str, Tensor] = {}
    names = list(zip(run.names, run.trainable, strict=True))
    scalars: dict[str, dict[str, Any]] = {}
    for name, p in names:
        tensors[LEARNS + name] = whole(p)
        for key, value in optimizer.optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{key}/{name}"] = whole(value)
            else:
                scalars.setdefault(name, {})[key] = value
    for (name, _), values in zip(names, run.best or (), strict=False):
        tensors[BEST + name] = whole(values)
    tensors |= {_STRATEGY + key: values for key, values in _own_state(run).items()}
    plain = {}
    for rank, (own, arrays) in enumerate(processes.gathered(_random_state(accelerator.device))):
        tensors |= {f"{_RANDOM}{rank}/{key}": torch.from_numpy(array.copy()) for key, array in arrays.items()}
        plain[str(rank)] = own
    progress = {
        "position": asdict(position),
        "learning_rate": run.strategy.learning_rate,
        "history": run.history,
        "best_epoch": run.best_epoch,
        "optimizer": scalars,
        "scheduler": {k: v for k, v in scheduler.state_dict().items() if _is_plain(v)},
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
        "random": plain,
        "threads": torch.get_num_threads(),
    }
    return Checkpoint(progress, tensors)


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Raise `TrainingError` where a checkpoint that is as it was written isn't one of such a run."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise TrainingError(f"the checkpoint isn't one of such a run: {why}") from error


@_fitting()
def rate_of(found: Checkpoint) -> float:
    """Return the learning rate of the run that a checkpoint is of; raises `TrainingError` where it has none."""
    rate = found.progress["learning_rate"]
    if not isinstance(rate, int | float):
        raise ValueError(f"a learning rate of {str(rate)[:20]!r}")
    return rate


@_fitting()
def restore(run: Run, accelerator: Any, optimizer: Any, scheduler: Any, found: Checkpoint) -> Position:
    """Put a run where a checkpoint was taken; raises `TrainingError` where it isn't one of such a run."""
    progress = found.progress
    position = Position(**progress["position"])
    counts = (position.epoch, position.batches, position.steps, run.options.num_train_epochs + 1 - position.epoch)
    if not tensorfile.is_counts(list(counts)) or not isinstance(position.loss, int | float):
        raise ValueError(f"it is at {str(progress['position'])[:80]} of {run.options.num_train_epochs} epochs")
    learns, best = found.named(LEARNS), found.named(BEST)
    run.history, run.best_epoch = progress["history"], progress["best_epoch"]
    run.best = [like(p, best[name]) for name, p in zip(run.names, run.trainable, strict=True)] if best else None
    states: dict[str, dict[str, Any]] = {name: dict(values) for name, values in progress["optimizer"].items()}
    for path, values in found.named(_OPTIMIZER).items():
        key, _, name = path.partition("/")
        states.setdefault(name, {})[key] = values
    for name, p in zip(run.names, run.trainable, strict=True):
        if learns[name].shape != getattr(p, "ds_shape", p.shape):  # DeepSpeed's own note of it, while it is in pieces
            raise ValueError(f"'{name}' is {tuple(learns[name].shape)}, but the run's is {tuple(p.shape)}")
        put(p, learns[name])
        if name in states:
            state = {k: like(p, v) if isinstance(v, Tensor) else v for k, v in states[name].items()}
            optimizer.optimizer.state[p] = state
    for key, values in _own_state(run).items():
        put(values, found.tensors[_STRATEGY + key])
    scheduler.load_state_dict({**scheduler.state_dict(), **progress["scheduler"]})
    for group, rate in zip(optimizer.optimizer.param_groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = rate
    if accelerator.scaler is not None and progress["scaler"]:
        accelerator.scaler.load_state_dict(progress["scaler"])
    rank = processes.index()
    arrays = {k: v.numpy() for k, v in found.named(f"{_RANDOM}{rank}/").items()}
    _set_random_state(progress["random"][str(rank)], arrays, accelerator.device)
    if progress["threads"] != (threads := torch.get_num_threads()):
        begun = progress["threads"]
        run.watch.note("", f"begun with {begun} threads, and goes on with {threads}: last bits may differ")
    return position


def _own_state(run: Run) -> Mapping[str, Tensor]:
    with named(f"{type(run.strategy).__name__}.state"):
        return dict(run.strategy.state(run.base.model))


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, list) and all(map(_is_plain, value)))


def _random_state(device: torch.device) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what this process's random numbers come from: small values, and arrays."""
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
