"""Adapters with random weights, made without training: structure without time."""

from __future__ import annotations

from typing import Any

import torch

from adapterkit import Adapter, Base, Replace, Strategy
from adapterkit.discovery import strategy_class
from adapterkit.options import plain
from adapterkit.tasks import Task
from adapterkit.training.fit import fitted, task_model


def adapter(
    base: Base, task: Task, strategy: str | Strategy = "lora", *, seed: int = 0, std: float = 0.05, **options: Any
) -> Adapter:
    """Return an adapter whose weights are the strategy's own, each moved at random."""
    made = strategy_class(strategy)(**options) if isinstance(strategy, str) else strategy
    torch.manual_seed(seed)
    with base.locked(), fitted(base, made) as fit:
        learning = fit.trainable
        model, head, untied = task_model(base, task, learning, len(fit.before))
        in_use = {id(p) for p in model.parameters()}
        with torch.no_grad():
            for p in [*(p for p in learning if id(p) in in_use), *head.values()]:
                p.add_(torch.randn_like(p) * std)
        patches = made.patches(base.model)
        patches = {m: p for m, p in patches.items() if not isinstance(p, Replace) or p.replaced}
        about = {
            "task": {"name": task.name, "options": plain(task)},
            "strategy": {"name": str(strategy), "distribution": "adapterkit", "version": "0", "options": plain(made)},
            "untied": untied,
            "metrics": {},
        }
        return Adapter.make(base, model, patches, {name: p.detach() for name, p in head.items()}, about)
