"""The heads of a pool: one transformers model for each task and head shape, or one probe, over the routed base."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..base.base import Base
from ..base.stub import BaseStub
from ..probe.model import Form, ProbeHead
from ..tasks import Task
from .context import PassContext, current, entered
from .rows import Rows


class TaskHead:
    """A transformers model of one task and head shape, which many adapters share.

    Unless it `includes_base`, its base is a stub, and it computes outputs from the base's outputs.
    """

    form: Form | None = None
    """The hidden states that a probe reads; None for a head that reads the base's output."""

    def __init__(self, model: Any, base: Base, *, includes_base: bool) -> None:
        self.model = model
        self.generating = threading.Lock()
        self.parameters = {name: _owner(model, name) for name in base.head_names(model)}
        """The module and the parameter's name in it, by the head's parameter names."""
        self.pretrained = base.from_checkpoint(model)
        """The names of the tensors that come from the base's checkpoint."""
        has_head = model.base_model is not model and type(model.base_model) is type(base.model)
        new_modules = bool(base.newly_initialized - {"pooler"})
        self.includes_base = includes_base or not has_head or base.model.config.is_encoder_decoder or new_modules
        if not self.includes_base:
            pooler = getattr(model.base_model, "pooler", None) if "pooler" in base.newly_initialized else None
            setattr(model, model.base_model_prefix, BaseStub(base.model, _base_outputs, pooler))

    def outputs(self, task: Task, batch: Mapping[str, Tensor], rows: Rows, base_outputs: Any) -> list[Any]:
        """Return the outputs of `task` for each row, with each row's head; `base_outputs` are the base's for them."""
        with entered(PassContext(rows, base_outputs=base_outputs)):
            return task.outputs(self.model, batch)


class SharedProbe(TaskHead):
    """A linear probe of hidden states, which adapters with probes of the same form share."""

    def __init__(self, task: Task, form: Form, base: Base, depth: int) -> None:
        """Build the probe for a base of `depth` blocks. Raises `AdapterError` where it lacks a layer of the form."""
        form.check(depth)
        self.includes_base, self.pretrained, self.form = False, set(), form
        config = copy.deepcopy(base.model.config)
        for key, value in task.config().items():
            setattr(config, key, value)
        self.model = ProbeHead(task, form, config, width=config.hidden_size)
        self.model.to(base.model.device, base.model.dtype).requires_grad_(False).eval()
        self.parameters = {f"probe.{name}": _owner(self.model, name) for name, _ in self.model.named_parameters()}

    def probe_outputs(self, task: Task, hidden: Tensor, mask: Tensor, choices: int | None, rows: Rows) -> list[Any]:
        """Return the outputs of `task` for hidden states, (texts, tokens, features), with each row's probe.

        `mask`, (texts, tokens), is 0 on padding; `choices` is the number of texts in a row where it has several.
        """

        def model(**_: Any) -> Any:
            return self.model(hidden, mask, choices)

        with entered(PassContext(rows)):
            return task.outputs(model, {})


def _base_outputs(*_: Any, **__: Any) -> Any:
    context = current()
    if context is None:
        raise RuntimeError("a head of a pool runs within a pass only")
    return context.base_outputs


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, parameter = name.rpartition(".")
    return model.get_submodule(path), parameter
