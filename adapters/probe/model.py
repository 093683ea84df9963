"""A probe: a linear map of the hidden states of a layer or a few, for tasks that leave the base as it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import modeling_outputs
from transformers.loss import loss_utils

from ..base.base import Base
from ..base.tracing import forward_arguments
from ..errors import AdapterError, PoolError, unknown
from ..modules import blocks

POOLINGS = ("cls", "mean", "max")
POOLED = ("AutoModelForSequenceClassification", "AutoModelForMultipleChoice")
BY_TOKEN = ("AutoModelForTokenClassification", "AutoModelForQuestionAnswering")


@dataclass(frozen=True)
class Form:
    """Which hidden states a probe reads, and how a text's tokens become one vector.

    Of several layers, a text or token has the vectors of all, one after another.
    """

    layers: tuple[int, ...]
    """0 is what the lowest block is given, k what block k gives, counted from 1; the last is what the base gives."""
    pooling: str | None  # None where each token is asked

    def plain(self) -> dict[str, Any]:
        """Return the form as JSON values."""
        return {"layers": list(self.layers), "pooling": self.pooling}

    @classmethod
    def of(cls, stored: Any) -> Form:
        """Read what `plain` gave; raises `AdapterError` where it is something else."""
        if not isinstance(stored, Mapping) or set(stored) != {"layers", "pooling"}:
            raise AdapterError(f"a probe has layers and a pooling, not {str(stored)[:60]}")
        layers, pooling = stored["layers"], stored["pooling"]
        numbers = isinstance(layers, list) and all(type(k) is int and k >= 0 for k in layers)
        if not numbers or not layers or sorted(set(layers)) != layers:
            raise AdapterError(f"the layers of a probe are numbers from 0 on, in order, not {str(layers)[:60]}")
        if pooling is not None and pooling not in POOLINGS:
            raise AdapterError(f"the pooling of a probe is {', '.join(POOLINGS)}, or none, not {str(pooling)[:60]}")
        return cls(tuple(layers), pooling)

    def check(self, depth: int) -> None:
        """Raise `AdapterError` where a base of so many blocks doesn't have all the layers."""
        if self.layers[-1] > depth:
            raise AdapterError(f"the probe reads layer {self.layers[-1]}, and the base has {depth} blocks")

    def read(self, hidden: Mapping[int, Tensor]) -> Tensor:
        """Return the vectors of all layers side by side, (texts, tokens, features)."""
        return torch.cat([hidden[k] for k in self.layers], -1) if len(self.layers) > 1 else hidden[self.layers[0]]

    def __str__(self) -> str:
        of = "layer" if len(self.layers) == 1 else "layers"
        return f"{self.pooling or 'each token'} of {of} {', '.join(map(str, self.layers))}"


class ProbeHead(nn.Module):
    """Scores of hidden states, and the loss and outputs that transformers' own model for the task would give."""

    def __init__(self, auto_class: str, form: Form, config: Any, *, width: int) -> None:
        """Make one for hidden states of `width` features a layer.

        Raises `AdapterError` where the task reads tokens and the form a text, or the other way round.
        """
        super().__init__()
        if (form.pooling is None) != (auto_class in BY_TOKEN):
            raise AdapterError(f"a probe for {auto_class.removeprefix('AutoModelFor')} can't read {form}")
        self.auto_class, self.form, self.config = auto_class, form, config
        outs = {"AutoModelForQuestionAnswering": 2, "AutoModelForMultipleChoice": 1}.get(auto_class, config.num_labels)
        self.score = nn.Linear(width * len(form.layers), outs)

    def forward(self, hidden: Tensor, mask: Tensor, choices: int | None, **labels: Tensor) -> Any:
        """Return what is said of hidden states, (texts, tokens, features), where `mask` says which are there.

        `choices` is the number of endings a row has in multiple choice.
        """
        scores = self.score(hidden if self.form.pooling is None else pooled(hidden, mask, self.form.pooling))
        return self.said(scores, mask, choices, **labels)

    def said(self, scores: Tensor, mask: Tensor, choices: int | None, **labels: Any) -> Any:
        """Return scores, (texts, outputs) or (texts, tokens, outputs), as the task's outputs with their loss."""
        target = labels.get("labels")
        if self.auto_class == "AutoModelForQuestionAnswering":
            scores = scores.masked_fill(~mask.bool().unsqueeze(-1), -1e4)
            starts, ends = scores.unbind(-1)
            places = labels.get("start_positions"), labels.get("end_positions")
            loss = None if places[0] is None else loss_utils.ForQuestionAnsweringLoss(starts, ends, *places)
            return modeling_outputs.QuestionAnsweringModelOutput(loss=loss, start_logits=starts, end_logits=ends)
        if self.auto_class == "AutoModelForMultipleChoice":
            scores = scores.view(-1, choices or 1)
            loss = None if target is None else nn.functional.cross_entropy(scores, target)
            return modeling_outputs.MultipleChoiceModelOutput(loss=loss, logits=scores)
        if self.auto_class == "AutoModelForTokenClassification":
            loss = None if target is None else loss_utils.ForTokenClassification(scores, target, self.config)
            return modeling_outputs.TokenClassifierOutput(loss=loss, logits=scores)
        loss = None if target is None else loss_utils.ForSequenceClassificationLoss(target, scores.float(), self.config)
        return modeling_outputs.SequenceClassifierOutput(loss=loss, logits=scores)


class ProbeModel(nn.Module):
    """A shared base up to the layer that a probe reads, and the probe, called as a transformers model is."""

    base_model_prefix = "base"
    supports_gradient_checkpointing = False

    def __init__(self, base: Base, auto_class: str, form: Form, **config: Any) -> None:
        """Raise `AdapterError` where the base has no such layer."""
        super().__init__()
        self.config = copy.deepcopy(base.model.config)
        for key, value in config.items():
            setattr(self.config, key, value)
        self.base = base.model
        form.check(len(blocks(base.model)))
        self.probe = ProbeHead(auto_class, form, self.config, width=base.model.config.hidden_size)
        self.probe.to(base.model.device, base.model.dtype).requires_grad_(True)
        self.eval()

    @property
    def base_model(self) -> Any:
        """The base."""
        return self.base

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        found: torch.device = self.base.device
        return found

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Any) -> Any:
        """Return the task's outputs; the blocks above the layer that is read don't run."""
        labels = {k: others.pop(k) for k in ("labels", "start_positions", "end_positions") if k in others}
        choices = input_ids.shape[1] if input_ids.ndim == 3 else None
        flat = {k: v.flatten(0, -2) for k, v in {"attention_mask": attention_mask, **others}.items()}
        form = self.probe.form
        hidden = layers_of(self.base, input_ids.flatten(0, -2), frozenset(form.layers), **flat)
        return self.probe(form.read(hidden), flat["attention_mask"], choices, **labels)


class _Reached(Exception):
    """The highest layer that is wanted has been seen."""


def layers_of(
    base: Any, input_ids: Tensor, layers: frozenset[int], attention_mask: Tensor, **others: Tensor
) -> dict[int, Tensor]:
    """Return the hidden states of some layers by number, (texts, tokens, features), and run no block above them."""
    found: dict[int, Tensor] = {}
    above = list(blocks(base).values())
    handles = []

    def given(module: nn.Module, args: Any, kwargs: Any) -> None:
        found[0] = args[0] if args else next(iter(kwargs.values()))
        if max(layers) == 0:
            raise _Reached

    def gave(k: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            found[k] = output[0] if isinstance(output, tuple) else output
            if k == max(layers):
                raise _Reached

        return hook

    if 0 in layers and above:
        handles.append(above[0].register_forward_pre_hook(given, with_kwargs=True))
    handles += [above[k - 1].register_forward_hook(gave(k)) for k in layers if 0 < k < len(above)]
    try:
        found[len(above)] = base(**forward_arguments(base, input_ids, attention_mask), **others)[0]
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found


def pooled(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return (rows, tokens, features) as (rows, features): the mean or the largest over a text's tokens, or the first.

    Raises `PoolError` for another `pooling`.
    """
    here = mask.bool().unsqueeze(-1)
    if pooling == "mean":  # a text without tokens is nothing: zeros
        return hidden.masked_fill(~here, 0.0).sum(1) / here.sum(1).clamp(min=1)
    if pooling == "max":
        return hidden.masked_fill(~here, float("-inf")).amax(1).where(here.any(1), 0.0)
    if pooling == "cls":
        return hidden[:, 0].where(here.any(1), 0.0)
    raise PoolError(unknown("pooling", pooling, POOLINGS, known_as="there are"))
