"""Tokens that an adapter adds to its base: a tokenizer that knows them, and modules with rows of their own for them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BaseModelError


class Wider(nn.Module):
    """A module over a vocabulary, where the ids from `first` on have rows of their own.

    Its class is made of one of these and of the class that the module was of, so that its weight keeps its name.
    """

    first: int
    added: nn.Parameter  # (tokens, features)

    def joined(self, own: Tensor, added: Tensor, dim: int = 0) -> Tensor:
        """Return what is there for the module's own ids with what is there for the added ones in its place."""
        end = min(self.first + added.shape[dim], own.shape[dim])
        before, after = own.narrow(dim, 0, self.first), own.narrow(dim, end, own.shape[dim] - end)
        return torch.cat([before, added, after], dim)


class WiderEmbedding(Wider):
    """An embedding with rows for added tokens."""

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of (..., tokens) ids, (..., tokens, features)."""
        weight: Tensor = self.get_parameter("weight")
        own: Tensor = super().forward(ids.clamp(max=len(weight) - 1))
        at = ids - self.first
        new = (at >= 0) & (at < len(self.added))
        other = copy.copy(self)  # so that rows are made as the module's own class makes them, which may scale
        other._parameters = {"weight": self.added}
        rows = super(WiderEmbedding, other).forward(at.clamp(0, len(self.added) - 1))
        return torch.where(new.unsqueeze(-1), rows, own)


class WiderLinear(Wider):
    """An output map with rows for added tokens; these have no bias."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of (..., features), (..., tokens)."""
        return self.joined(super().forward(x), nn.functional.linear(x, self.added), -1)


def widen(module: nn.Module, first: int, added: nn.Parameter) -> None:
    """Give an embedding or an output map rows of its own for the ids from `first` on, in place."""
    kind = WiderEmbedding if isinstance(module, nn.Embedding) else WiderLinear
    module.__class__ = type(f"Wider{type(module).__name__}", (kind, type(module)), {})
    vars(module)["first"] = first
    module.register_parameter("added", added)


def start(weight: Tensor, pieces: Sequence[Sequence[int]]) -> nn.Parameter:
    """Return first values of rows: for each token, the mean of the rows of the pieces that it was read as before."""
    rows = [(weight[list(ids)] if len(ids) else weight).mean(0) for ids in pieces]
    return nn.Parameter(torch.stack(rows).detach().clone(), requires_grad=False)


def tokenizer_with(tokenizer: Any, tokens: Sequence[str]) -> tuple[Any, dict[str, int]]:
    """Return a copy of a tokenizer that reads each of `tokens` as one, and their ids, one after another.

    Raises `BaseModelError` for a token that it has already, or that can't be one.
    """
    known, wider = tokenizer.get_vocab(), copy.deepcopy(tokenizer)
    for token in tokens:
        if not token or token != token.strip() or token in known or tokens.count(token) > 1:
            why = "it has that already" if token in known else "each is some text, without spaces around it, once"
            raise BaseModelError(f"added_tokens: '{token}' can't be added to the tokenizer: {why}")
    wider.add_tokens(list(tokens))
    ids = {token: wider.convert_tokens_to_ids(token) for token in tokens}
    if list(ids.values()) != list(range(len(tokenizer), len(tokenizer) + len(tokens))):
        raise BaseModelError(f"added_tokens: the tokenizer gives them the ids {list(ids.values())}, not the next ones")
    return wider, ids


def widen_base(model: Any, first: int, pieces: Sequence[Sequence[int]]) -> None:
    """Give the embeddings of a base rows for added tokens; modules whose weights are tied share them."""
    weight = model.get_input_embeddings().weight
    if first > len(weight):
        raise BaseModelError(
            f"the tokenizer has {first} tokens, but the base's embeddings {len(weight)} rows; none can be added"
        )
    added = start(weight, pieces)
    for module in [m for m in model.modules() if m._parameters.get("weight") is weight]:
        widen(module, first, added)


def widen_head(model: Any, embedding: Any, pieces: Sequence[Sequence[int]]) -> None:
    """Give the output embeddings of a task's model, where it has some, rows for added tokens, tied as they are."""
    first, count = embedding.first, len(embedding.added)
    rows = max(len(embedding.weight), first + count)
    model.config.vocab_size = rows
    output = model.get_output_embeddings()
    if output is None:
        return
    tied = output.weight is embedding.weight
    widen(output, first, embedding.added if tied else start(output.weight, pieces))
    for name, buffer in model.named_buffers(recurse=False):  # BART's bias of the logits
        if buffer.shape[-1] == len(embedding.weight):
            zeros = buffer.new_zeros(*buffer.shape[:-1], count)
            model.register_buffer(name, output.joined(buffer, zeros, -1), name not in model._non_persistent_buffers_set)


def as_plain(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a model by name as those of one that was made with the larger vocabulary."""
    found, made = dict(state), dict[tuple[int, int], Tensor]()
    for path, module in model.named_modules():
        if not isinstance(module, Wider):
            continue
        own, added = state[f"{path}.weight"], found.pop(f"{path}.added")
        key = (own.data_ptr(), added.data_ptr())
        found[f"{path}.weight"] = made.setdefault(key, module.joined(own, added))
        if (bias := state.get(f"{path}.bias")) is not None:
            whole = module.joined(bias, bias.new_zeros(len(added)))
            found |= {name: whole for name, t in state.items() if t.data_ptr() == bias.data_ptr()}
    return found
