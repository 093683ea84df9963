"""A merged model compared with its base and adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from adapterkit import Adapter, Base
from adapterkit.convert.merge import merge
from tests.helpers import tolerance
from tests.helpers.adapters import said
from tests.helpers.bases import same, state

TYPES = ["cat", "linear", "svd"]


def tensors_of(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def check_merged(base: Base, adapter: Adapter, folder: Path) -> Any:
    """Check that a merged model is the attached one, and that the base is itself; return the model."""
    before, task, config = state(base), adapter.task, base.model.config.to_dict()
    with adapter.attached(base) as attached:
        ours, tensors = said(attached, task.name), tensors_of(attached)
    assert merge(base, adapter, folder) == folder
    model = getattr(transformers, task.auto_class).from_pretrained(folder)
    theirs = said(model, task.name)
    assert len(ours) == len(theirs) > 0
    tolerance.assert_near(theirs, ours, tolerance.of_base(base))  # an update that is folded rounds otherwise
    updated = {m for m, patch in adapter.manifest["patches"].items() if patch["kind"] != "replace"}
    read, prefix = model.state_dict(), adapter.manifest["base"]["prefix"]
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        if name.removeprefix(prefix).rpartition(".")[0] not in updated:
            assert torch.equal(read[name], tensor), name
    assert same(state(base), before)
    assert base.model.config.to_dict() == config
    return model
