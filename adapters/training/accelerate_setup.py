"""Set up Accelerate for a run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import accelerate
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs

from ..errors import TrainingError
from ..execution.precision import Precision
from ..settings import TrainingOptions


def accelerator_for(options: TrainingOptions, mixed: Precision) -> accelerate.Accelerator:
    """Return an accelerator for the hardware of this machine, in a precision."""
    accelerate.state.AcceleratorState._reset_state()  # else a second run would have the precision of the first
    return accelerate.Accelerator(
        mixed_precision=mixed.name,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(even_batches=False),
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)],
    )


def prepare(accelerator: accelerate.Accelerator, *parts: Any) -> Any:
    """Return a model, and maybe its optimizer, prepared by Accelerate."""
    with warnings.catch_warnings():  # Accelerate has no argument yet for what replaces `broadcast_buffers` in torch
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        return accelerator.prepare(*parts)


@contextlib.contextmanager
def checkpointed_activations(model: Any, options: TrainingOptions) -> Iterator[None]:
    """Recompute activations in the backward pass where the options ask for it."""
    if not options.gradient_checkpointing:
        yield
        return
    if not model.supports_gradient_checkpointing:
        raise TrainingError(f"a {type(model).__name__} doesn't support gradient checkpointing")
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.disable_input_require_grads()  # needed by reentrant checkpoints only
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
