"""Where the tokens of each row are in a packed batch, which has no padding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..base.tracing import map_tensors

_MOST_LENGTHS = 4  # of rows that are stacked, each length apart
_SIMILAR = 0.7  # of the longest row's length, from which on rows are stacked with it

Selection = slice | Tensor
"""Some rows or tokens of a batch: a slice, or a tensor of their indices."""


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of one length in a packed batch."""

    length: int
    rows: tuple[int, ...]
    tokens: Selection
    """The tokens of these rows, row by row."""


class Stacked:
    """Rows of similar lengths, (rows, width, features), made of their packed tokens, (tokens, 1, features).

    Shorter rows are filled up with their last token.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.rows, self.width = len(lengths), max(lengths)
        self._sources: Tensor | None = None
        if min(lengths) < self.width:
            sizes, steps = torch.tensor(lengths)[:, None], torch.arange(self.width)
            starts = torch.tensor([0, *itertools.accumulate(lengths[:-1])])[:, None]
            self._sources = (starts + torch.minimum(steps, sizes - 1)).flatten().to(device)
            self._places = (steps < sizes).flatten().nonzero().flatten().to(device)

    def by_row(self, x: Tensor) -> Tensor:
        """Return packed tokens by row; without copying them where all rows have the same length."""
        if self._sources is not None:
            x = x.squeeze(1).index_select(0, self._sources)
        return x.reshape(self.rows, self.width, x.shape[-1])

    def by_token(self, x: Tensor) -> Tensor:
        """Return rows as packed tokens."""
        x = x.reshape(-1, 1, x.shape[-1])
        return x if self._sources is None else x.index_select(0, self._places)


@dataclass(frozen=True, eq=False)
class Layout:
    """The places of tokens in a packed batch, (tokens, 1, features), whose rows follow each other without padding.

    Each token has the place of a row of the batch, so that linear maps and norms run as for any batch. In a padded
    batch, (rows, width, features), padding is on the right.
    """

    lengths: tuple[int, ...]
    width: int
    device: torch.device
    _stacks: dict[tuple[int, ...], list[tuple[list[int], Stacked]]] = field(default_factory=dict)
    _masks: dict[tuple[int, bool], tuple[Tensor, list[Tensor | str | None]]] = field(default_factory=dict)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The index of each row's first token, and at last the number of tokens."""
        return (0, *itertools.accumulate(self.lengths))

    @property
    def tokens(self) -> int:
        """The number of tokens of all rows."""
        return self.starts[-1]

    @cached_property
    def places(self) -> Tensor:
        """The index of each token among those of the padded batch, (tokens,)."""
        filled = torch.arange(self.width) < torch.tensor(self.lengths)[:, None]
        return filled.flatten().nonzero().flatten().to(self.device)

    @cached_property
    def groups(self) -> list[Group]:
        """The rows by length."""
        by_length: dict[int, list[int]] = {}
        for row, length in enumerate(self.lengths):
            by_length.setdefault(length, []).append(row)
        return [Group(length, tuple(some), self.select(some)) for length, some in sorted(by_length.items())]

    def stacks(self, rows: Sequence[int]) -> list[tuple[list[int], Stacked]]:
        """Return some rows by length, rows of similar lengths together where they have many different ones."""
        if (key := tuple(rows)) not in self._stacks:
            ratio = _SIMILAR if len({self.lengths[row] for row in rows}) > _MOST_LENGTHS else 1.0
            groups: list[list[int]] = []
            for row in sorted(rows, key=lambda row: -self.lengths[row]):
                if not groups or self.lengths[row] < ratio * self.lengths[groups[-1][0]]:
                    groups.append([])
                groups[-1].append(row)
            ordered = [sorted(group) for group in groups]
            self._stacks[key] = [(some, Stacked([self.lengths[row] for row in some], self.device)) for some in ordered]
        return self._stacks[key]

    def subset(self, rows: Sequence[int]) -> Layout:
        """Return the layout of some of the rows, packed."""
        return Layout(tuple(self.lengths[row] for row in rows), self.width, self.device)

    def select(self, rows: Sequence[int]) -> Selection:
        """Return the tokens of some rows, of consecutive ones as a slice."""
        if all(b == a + 1 for a, b in itertools.pairwise(rows)):
            return slice(self.starts[rows[0]], self.starts[rows[-1] + 1])
        return torch.cat([torch.arange(self.starts[r], self.starts[r + 1]) for r in rows]).to(self.device)

    def packed(self, x: Tensor) -> Tensor:
        """Return the tokens, (tokens, 1, ...), of a padded tensor, (rows, width, ...), or (1, width, ...)."""
        if len(x) == len(self.lengths):
            return x.reshape(-1, 1, *x.shape[2:]).index_select(0, self.places)
        return x[0].index_select(0, self.places % self.width).unsqueeze(1)

    def padded(self, x: Tensor) -> Tensor:
        """Return a packed tensor with zeros as padding, (rows, width, ...)."""
        rows = x.new_zeros(len(self.lengths) * self.width, *x.shape[2:])
        return rows.index_copy_(0, self.places, x.squeeze(1)).view(len(self.lengths), self.width, *x.shape[2:])

    def packed_arguments(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Return a block's arguments with what it has for each token packed: hidden states, positions, their angles.

        Attention masks, which have four dimensions, are left as they are.
        """
        sizes = {1, len(self.lengths)}

        def packed(_: Any, t: Tensor) -> Tensor:
            by_token = t.ndim in (2, 3) and t.shape[0] in sizes and t.shape[1] == self.width
            return self.packed(t) if by_token else t

        nested = map_tensors([list(args), kwargs], packed)
        return nested[0], nested[1]

    def mask(self, mask: Tensor, index: int) -> Tensor | str | None:
        """Return an attention mask for the rows of group `index`: None where each token attends to all of its row.

        A mask under which each token attends to itself and all before it is "causal". `mask` has four dimensions.
        """
        key = (id(mask), len(mask) == len(self.lengths))
        if key not in self._masks:  # with the mask itself, whose identity is unique while it is referenced
            self._masks[key] = (mask, [_cropped(mask, group, len(self.lengths)) for group in self.groups])
        return self._masks[key][1][index]


def _cropped(mask: Tensor, group: Group, rows: int) -> Tensor | str | None:
    some = mask[list(group.rows)] if len(mask) == rows else mask
    some = some[..., : group.length]
    some = some[..., : group.length, :] if some.shape[-2] > 1 else some
    visible = some if some.dtype == torch.bool else some == 0
    if visible.all():
        return None
    past = torch.ones(group.length, group.length, dtype=torch.bool, device=mask.device).tril()
    hidden = True if some.dtype == torch.bool else bool((some[~visible] <= torch.finfo(some.dtype).min).all())
    return "causal" if hidden and torch.equal(visible, past.expand_as(visible)) else some
