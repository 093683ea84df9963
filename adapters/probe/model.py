"""A linear probe: a linear map of hidden states of one layer or a few, on a frozen base."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..base.base import Base
from ..base.pooling import POOLINGS, pooled
from ..base.tracing import forward_arguments, record
from ..errors import AdapterError
from ..modules import blocks
from ..tasks import Task


@dataclass(frozen=True)
class Form:
    """Which hidden states a probe reads, and how a text's tokens become one vector.

    With several layers, their vectors are concatenated.
    """

    layers: tuple[int, ...]
    """0 is the input of the lowest block, k the output of block k, counted from 1; the last is the base's output."""
    pooling: str | None  # None: a vector for each token

    def plain(self) -> dict[str, Any]:
        """Return the form as JSON values."""
        return {"layers": list(self.layers), "pooling": self.pooling}

    @classmethod
    def of(cls, stored: Any) -> Form:
        """Return a form from its JSON values; raises `AdapterError` where they are invalid."""
        if not isinstance(stored, Mapping) or set(stored) != {"layers", "pooling"}:
            raise AdapterError(f"a probe must have layers and a pooling, got {str(stored)[:60]}")
        layers, pooling = stored["layers"], stored["pooling"]
        numbers = isinstance(layers, list) and all(type(k) is int and k >= 0 for k in layers)
        if not numbers or not layers or sorted(set(layers)) != layers:
            raise AdapterError(f"layers of a probe must be ascending numbers from 0, got {str(layers)[:60]}")
        if pooling is not None and pooling not in POOLINGS:
            raise AdapterError(f"pooling of a probe must be {', '.join(POOLINGS)} or null, got {str(pooling)[:60]}")
        return cls(tuple(layers), pooling)

    def check(self, depth: int) -> None:
        """Raise `AdapterError` where a base with `depth` blocks lacks a layer."""
        if self.layers[-1] > depth:
            raise AdapterError(f"the probe reads layer {self.layers[-1]}, but the base has {depth} blocks")

    def read(self, hidden: Mapping[int, Tensor]) -> Tensor:
        """Return the vectors of all layers concatenated, (texts, tokens, features)."""
        return torch.cat([hidden[k] for k in self.layers], -1) if len(self.layers) > 1 else hidden[self.layers[0]]

    def __str__(self) -> str:
        of = "layer" if len(self.layers) == 1 else "layers"
        return f"{self.pooling or 'each token'} of {of} {', '.join(map(str, self.layers))}"


class ProbeHead(nn.Module):
    """Scores of hidden states, as the output that the task's own model would return."""

    def __init__(self, task: Task, form: Form, config: Any, *, width: int) -> None:
        """Create a head for hidden states of `width` features per layer.

        Raises `AdapterError` if the task labels tokens and the form yields a vector per text, or the reverse.
        """
        super().__init__()
        if task.probe_unit is None or (form.pooling is None) != (task.probe_unit == "token"):
            raise AdapterError(f"a probe for {task.name} can't read {form}")
        self.task, self.form, self.config = task, form, config
        self.score = nn.Linear(width * len(form.layers), task.probe_outputs(config))

    def forward(self, hidden: Tensor, mask: Tensor, choices: int | None, **labels: Tensor) -> Any:
        """Return the output for hidden states, (texts, tokens, features), where `mask` is 0 on padding.

        `choices` is the number of texts per row in multiple choice, else None.
        """
        scores = self.score(hidden if self.form.pooling is None else pooled(hidden, mask, self.form.pooling))
        return self.output(scores, mask, choices, **labels)

    def output(self, scores: Tensor, mask: Tensor, choices: int | None, **labels: Any) -> Any:
        """Return scores, (texts, outputs) or (texts, tokens, outputs), as the task's output, with its loss."""
        return self.task.probe_output(scores, mask, choices, self.config, **labels)


class ProbeModel(nn.Module):
    """A shared base up to the layer that a probe reads, and the probe, called like a transformers model."""

    base_model_prefix = "base"
    supports_gradient_checkpointing = False

    def __init__(self, base: Base, task: Task, form: Form) -> None:
        """Raise `AdapterError` where the base has no such layer."""
        super().__init__()
        self.config = copy.deepcopy(base.model.config)
        for key, value in task.config().items():
            setattr(self.config, key, value)
        self.base, self.modality = base.model, base.modality
        form.check(len(blocks(base.model)))
        self.probe = ProbeHead(task, form, self.config, width=base.model.config.hidden_size)
        self.probe.to(base.model.device, base.model.dtype).requires_grad_(True)
        self.eval()

    @property
    def base_model(self) -> Any:
        """The base."""
        return self.base

    @property
    def device(self) -> torch.device:
        """The base's device."""
        device: torch.device = self.base.device
        return device

    def forward(self, **inputs: Any) -> Any:
        """Return the task's outputs; blocks above the highest layer that the probe reads are not run."""
        labels = {k: inputs.pop(k) for k in self.probe.task.label_names if k in inputs}
        flat, (_, *choices) = self.modality.flat(inputs)
        form = self.probe.form
        hidden = layers_of(self.base, flat, frozenset(form.layers))
        mask = self.modality.mask(flat).long()
        return self.probe(form.read(hidden), mask, choices[0] if choices else None, **labels)


def layers_of(base: Any, inputs: Mapping[str, Tensor], layers: frozenset[int]) -> dict[int, Tensor]:
    """Return the hidden states of some layers by number, (items, positions, features); no block above them is run.

    `inputs` are the base's arguments with a row for each item.
    """
    all_blocks = list(blocks(base).values())
    depth, highest = len(all_blocks), max(layers)
    recorded, output = record(
        lambda: base(**forward_arguments(base, inputs)),
        inputs={0: all_blocks[0]} if 0 in layers and all_blocks else {},
        outputs={k: all_blocks[k - 1] for k in layers if 0 < k < depth},
        last=highest if highest < depth else None,
    )
    hidden = {k: value[0] if isinstance(value, tuple) else value for k, value in recorded.items()}
    return hidden if output is None else {**hidden, depth: output[0]}
