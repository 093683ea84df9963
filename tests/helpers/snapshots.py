"""A snapshot of a base, and a check that nothing of it changed."""

from __future__ import annotations

from typing import Any

import torch

from adapterkit import Base


def state(base: Base) -> dict[str, Any]:
    tensors = {name: p.detach().clone() for name, p in base.model.named_parameters()}
    return {"tensors": tensors, "modules": [type(m) for m in base.model.modules()], "training": base.model.training}


def assert_same(base: Base, before: dict[str, Any]) -> None:
    now = state(base)
    assert all(torch.equal(now["tensors"][name], t) for name, t in before["tensors"].items())
    assert {k: now[k] for k in ("modules", "training")} == {k: before[k] for k in ("modules", "training")}
    assert not any(p.requires_grad or p.grad is not None for p in base.model.parameters())
    assert not base.changed_tensors()
