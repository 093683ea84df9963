"""A base under a head that is no class of transformers, called as a transformers model is."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import TaskError
from .stub import BaseStub
from .tracing import forward_arguments

if TYPE_CHECKING:
    from .base import Base
    from .modality import Modality

Head = Callable[[Any], nn.Module]
"""Makes a head for a model's config: a module from hidden states and their mask to logits."""


class HeadModel(nn.Module):
    """A base, shared or of its own, and a head on its last hidden states."""

    base_model_prefix = "base"

    def __init__(self, base: Any, head: nn.Module, config: Any, modality: Modality) -> None:
        """Put `head` on `base`, a transformers model without a head.

        `head(hidden, mask)` maps (items, positions, features) and (items, positions) to logits of any shape
        (items, ...); an item is a text, and its positions are tokens, where the base reads tokens.
        """
        super().__init__()
        self.base, self.head, self.config, self.modality = base, head, config, modality
        self.part: tuple[Tensor, int] | None = None
        """The texts, and the tokens of each, that the current pass computes; None for all of the batch."""

    @property
    def base_model(self) -> Any:
        """The base, as in a transformers model."""
        return self.base

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        device: torch.device = self.base.device
        return device

    @property
    def supports_gradient_checkpointing(self) -> bool:
        """Whether the base can recompute activations in place of storing them."""
        return bool(self.base.supports_gradient_checkpointing)

    def activation_checkpointing_enable(self, options: dict[str, Any]) -> None:
        """Recompute the base's activations, as transformers does with these options."""
        self.base.activation_checkpointing_enable(options)

    def activation_checkpointing_disable(self) -> None:
        """Store activations again."""
        self.base.activation_checkpointing_disable()

    def disable_input_require_grads(self) -> None:
        """Undo what reentrant checkpoints need."""
        self.base.disable_input_require_grads()

    def get_output_embeddings(self) -> None:
        """Return None: the head predicts no tokens."""

    def can_generate(self) -> bool:
        """Return False."""
        return False

    @property
    def neutral(self) -> frozenset[str]:
        """The parameters of the head that start as the base's own function; adapters may leave them out."""
        return frozenset(f"head.{name}" for name in getattr(self.head, "neutral", ()))

    def forward(
        self,
        *,
        part_size: int = 0,
        recompute: bool = False,
        **arguments: Any,
    ) -> Any:
        """Return an output with `logits`; arguments that the base doesn't take, such as labels, are ignored.

        Rows of several texts, (rows, texts, tokens), have logits of (rows, texts, ...). With a `part_size`, so many
        texts of similar length run at a time, without the padding of longer ones; with `recompute`, activations of a
        part are computed again for its gradients, so that memory is that of one part (GradCache, arXiv:2101.06983).
        """
        accepted = inspect.signature(type(self.base).forward).parameters
        always = (self.modality.name, "attention_mask")
        inputs = {key: value for key, value in arguments.items() if key in accepted or key in always}
        flat, rows = self.modality.flat(inputs)
        if part_size and not isinstance(self.base, BaseStub):
            logits = self._in_parts(flat, part_size, recompute)
        else:
            logits = self._logits(flat)
        return transformers.modeling_outputs.SequenceClassifierOutput(logits=logits.view(*rows, *logits.shape[1:]))

    def _in_parts(self, inputs: dict[str, Any], size: int, recompute: bool) -> Tensor:
        lengths = inputs["attention_mask"].sum(-1)
        order = lengths.argsort(descending=True)
        logits = []
        for rows in order.split(size):
            part = (rows, max(1, int(lengths[rows[0]])))
            if recompute and torch.is_grad_enabled():
                logits.append(checkpoint(self._part, inputs, part, use_reentrant=False))
            else:
                logits.append(self._part(inputs, part))
        return torch.cat(logits)[order.argsort()]

    def _part(self, inputs: dict[str, Any], part: tuple[Tensor, int]) -> Tensor:
        rows, width = part
        shape = inputs["input_ids"].shape
        cut = {k: v[rows, :width] if isinstance(v, Tensor) and v.shape == shape else v for k, v in inputs.items()}
        self.part = part
        try:
            return self._logits(cut)
        finally:
            self.part = None

    def _logits(self, inputs: dict[str, Any]) -> Tensor:
        hidden = self.base(**forward_arguments(self.base, inputs))[0]
        logits: Tensor = self.head(hidden, self.modality.mask(inputs).long())
        return logits


def with_head(base: Base, head: Head, config: Mapping[str, Any]) -> HeadModel:
    """Return a model of the shared base under a new head, drawn from torch's global generator.

    Raises `TaskError` for an encoder-decoder, whose last hidden states belong to a text that isn't there yet.
    """
    if base.model.config.is_encoder_decoder:
        raise TaskError(f"'{base.name}' is an encoder-decoder, and a head of a task's own needs an encoder or decoder")
    settings = _settings(base.model.config, config)
    model = HeadModel(base.model, head(settings).to(base.model.device, base.model.dtype), settings, base.modality)
    return model.eval()


def unshared(base: Base, auto_class: str, head: Head | None, config: Mapping[str, Any]) -> Any:
    """Load the base's checkpoint again under a head, as a model that shares nothing.

    The model is one of `auto_class`, or of `HeadModel` where there is a `head`.
    """
    options: dict[str, Any] = {
        "revision": base.revision or "main",
        "use_safetensors": True,
        "trust_remote_code": base.trust_remote_code,
    }
    config = base.with_padding(config)
    if head is None:
        return getattr(transformers, auto_class).from_pretrained(base.path, **options, **config)
    plain = transformers.AutoModel.from_pretrained(base.path, **options)
    settings = _settings(plain.config, config)
    return HeadModel(plain, head(settings).to(plain.dtype), settings, base.modality)


def _settings(config: Any, changes: Mapping[str, Any]) -> Any:
    settings = copy.deepcopy(config)
    for key, value in changes.items():
        setattr(settings, key, value)
    return settings
