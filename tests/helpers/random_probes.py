"""Linear probes with random weights, made without training."""

from __future__ import annotations

import torch

from adapterkit import Adapter, Base
from adapterkit.probe.model import Form, ProbeModel
from adapterkit.tasks import Task


def probe(base: Base, task: Task, layers: tuple[int, ...], pooling: str | None, *, seed: int = 0) -> Adapter:
    """Return an adapter that is a probe of `layers`."""
    form = Form(layers, pooling)
    torch.manual_seed(seed)
    model = ProbeModel(base, task, form)
    head = {f"probe.{name}": p.detach() for name, p in model.probe.named_parameters()}
    about = {
        "task": {"name": task.name, "options": task.recorded()},
        "strategy": {"name": "head-only"},
        "metrics": {},
        "probe": form.plain(),
    }
    return Adapter.make(base, model, {}, head, about)
