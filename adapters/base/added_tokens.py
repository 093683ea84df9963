"""Add an adapter's tokens to a base: extend the tokenizer, and give embedding and output modules rows for them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BaseModelError


class Wider(nn.Module):
    """A module over a vocabulary with separate rows, `added`, for the ids from `first` on.

    `widen` derives a class from a subclass of this and the module's class, so that the weight's name doesn't change.
    """

    first: int
    added: nn.Parameter  # (tokens, features)

    def joined(self, original: Tensor, added: Tensor, dim: int = 0) -> Tensor:
        """Return `original`, indexed by token id along `dim`, with the entries from `first` on replaced by `added`."""
        end = min(self.first + added.shape[dim], original.shape[dim])
        before, after = original.narrow(dim, 0, self.first), original.narrow(dim, end, original.shape[dim] - end)
        return torch.cat([before, added, after], dim)


class WiderEmbedding(Wider):
    """An embedding with rows for added tokens."""

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of (..., tokens) ids, (..., tokens, features)."""
        weight: Tensor = self.get_parameter("weight")
        original: Tensor = super().forward(ids.clamp(max=len(weight) - 1))
        index = ids - self.first
        is_added = (index >= 0) & (index < len(self.added))
        twin = copy.copy(self)  # the module's class may scale its rows, and must do so with the added ones
        twin._parameters = {"weight": self.added}
        rows = super(WiderEmbedding, twin).forward(index.clamp(0, len(self.added) - 1))
        return torch.where(is_added.unsqueeze(-1), rows, original)


class WiderLinear(Wider):
    """A linear output layer with rows for added tokens; these have no bias."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (..., tokens), of (..., features)."""
        return self.joined(super().forward(x), nn.functional.linear(x, self.added), -1)


def widen(module: nn.Module, first: int, added: nn.Parameter) -> None:
    """Give an embedding or a linear output layer separate rows for the ids from `first` on, in place."""
    kind = WiderEmbedding if isinstance(module, nn.Embedding) else WiderLinear
    module.__class__ = type(f"Wider{type(module).__name__}", (kind, type(module)), {})
    vars(module)["first"] = first
    module.register_parameter("added", added)


def initial_rows(weight: Tensor, pieces: Sequence[Sequence[int]]) -> nn.Parameter:
    """Return initial rows, (tokens, features): for each token, the mean of `weight`'s rows of its `pieces`.

    `pieces` are the token ids of each added token before it was added.
    """
    rows = [(weight[list(ids)] if len(ids) else weight).mean(0) for ids in pieces]
    return nn.Parameter(torch.stack(rows).detach().clone(), requires_grad=False)


def tokenizer_with(tokenizer: Any, tokens: Sequence[str]) -> tuple[Any, dict[str, int]]:
    """Return a copy of a tokenizer with `tokens` added, and their ids, which are consecutive.

    Raises `BaseModelError` for a token that the tokenizer has already, that is repeated, or that isn't a stripped
    text.
    """
    vocabulary, wider = tokenizer.get_vocab(), copy.deepcopy(tokenizer)
    for token in tokens:
        if not token or token != token.strip() or token in vocabulary or tokens.count(token) > 1:
            exists = token in vocabulary
            why = "it exists already" if exists else "tokens must be distinct texts without surrounding spaces"
            raise BaseModelError(f"added_tokens: '{token}' can't be added to the tokenizer: {why}")
    wider.add_tokens(list(tokens))
    ids = {token: wider.convert_tokens_to_ids(token) for token in tokens}
    if list(ids.values()) != list(range(len(tokenizer), len(tokenizer) + len(tokens))):
        raise BaseModelError(
            f"added_tokens: the tokenizer assigns the ids {list(ids.values())}, which don't continue its own"
        )
    return wider, ids


def widen_base(model: Any, first: int, pieces: Sequence[Sequence[int]]) -> None:
    """Give a base's embeddings rows for added tokens, in place; modules with tied weights share them."""
    weight = model.get_input_embeddings().weight
    if first > len(weight):
        raise BaseModelError(
            f"the tokenizer has {first} tokens, but the base's embeddings have {len(weight)} rows; none can be added"
        )
    added = initial_rows(weight, pieces)
    for module in [m for m in model.modules() if m._parameters.get("weight") is weight]:
        widen(module, first, added)


def widen_head(model: Any, embedding: Any, pieces: Sequence[Sequence[int]]) -> None:
    """Give a task model's output embeddings rows for added tokens, in place, tied where the weights are tied."""
    first, count = embedding.first, len(embedding.added)
    rows = max(len(embedding.weight), first + count)
    model.config.vocab_size = rows
    output = model.get_output_embeddings()
    if output is None:
        return
    tied = output.weight is embedding.weight
    widen(output, first, embedding.added if tied else initial_rows(output.weight, pieces))
    for name, buffer in model.named_buffers(recurse=False):  # BART's bias of the logits
        if buffer.shape[-1] == len(embedding.weight):
            zeros = buffer.new_zeros(*buffer.shape[:-1], count)
            model.register_buffer(name, output.joined(buffer, zeros, -1), name not in model._non_persistent_buffers_set)


def as_plain(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's state dict as that of an ordinary model with the larger vocabulary."""
    plain, joined = dict(state), dict[tuple[int, int], Tensor]()  # tied weights are joined once
    for path, module in model.named_modules():
        if not isinstance(module, Wider):
            continue
        weight, added = state[f"{path}.weight"], plain.pop(f"{path}.added")
        key = (weight.data_ptr(), added.data_ptr())
        plain[f"{path}.weight"] = joined.setdefault(key, module.joined(weight, added))
        if (bias := state.get(f"{path}.bias")) is not None:
            wider = module.joined(bias, bias.new_zeros(len(added)))
            plain |= {name: wider for name, t in state.items() if t.data_ptr() == bias.data_ptr()}
    return plain
