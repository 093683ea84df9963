"""Prepare a run for Accelerate."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import accelerate
import torch
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch import nn

from ..base.snapshot import Snapshot
from ..errors import TrainingError
from ..runtime.precision import Precision
from ..runtime.sharding import whole
from ..settings import TrainingOptions
from .run_state import Run

if TYPE_CHECKING:
    pass


def accelerated(options: TrainingOptions, mixed: Precision) -> accelerate.Accelerator:
    """Return what runs steps on the hardware there is, in a precision."""
    accelerate.state.AcceleratorState._reset_state()  # it keeps the precision of the process's first run
    return accelerate.Accelerator(
        mixed_precision=mixed.name,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(even_batches=False),
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)],
    )


def _prepared(accelerator: accelerate.Accelerator, *parts: Any) -> Any:
    """Return a model, and what else there is, as Accelerate prepares it."""
    with warnings.catch_warnings():  # torch's new name for what Accelerate is told has no place there yet
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        return accelerator.prepare(*parts)


@torch.no_grad()
def _put_together(run: Run, before: Snapshot, own: list[nn.Parameter]) -> None:
    """Give a model whose parameters lie in pieces its own back, with what was learned in them."""
    learned = [whole(p).to(o.device) for p, o in zip(run.trainable, own, strict=True)]
    run.best = None if run.best is None else [whole(b).to(o.device) for b, o in zip(run.best, own, strict=True)]
    before.restore()
    for p, values in zip(own, learned, strict=True):
        p.copy_(values)
    run.trainable = own


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
