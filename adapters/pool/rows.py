"""Group the rows of a batch by what a module computes for their adapters."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..patches.patch import Patch, Update
from ..patches.replace import Replace
from .layout import Layout, Selection, Stacked
from .linear_kernels import FastLinear

Part = tuple[Selection, Callable[..., Any] | None, "Rows"]
"""Some rows, the forward that computes them (None: the module's), and their adapters."""

_MOST_STACKED = 1 << 22  # numbers in stacked copies of a linear map; beyond that, separate products are faster


class ModulePatch:
    """One adapter's patch of one module, ready to run."""

    __slots__ = ("patch", "stack_key", "unrouted")

    def __init__(self, patch: Patch, unrouted: nn.Module) -> None:
        self.patch, self.unrouted = patch, unrouted
        self.stack_key: Hashable = None
        """Equal for updates that can be stacked; None for other patches."""
        if isinstance(patch, Update):
            shapes = tuple(t.shape for t in patch.tensors().values())
            self.stack_key = (type(patch), shapes, tuple(patch.options().items()))

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Return the patched module's output for rows that all have this patch."""
        return self.patch.forward(self.unrouted, *args, **kwargs)


class ReplacedTensors(ModulePatch):
    """Other tensors for a module: a twin of it that shares everything else."""

    __slots__ = ("twin",)

    def __init__(self, tensors: Mapping[str, Tensor], unrouted: nn.Module, *, in_other_forms: bool = False) -> None:
        """Use `tensors`; a weight `in_other_forms`, too, where the module's own has such (`FastLinear`)."""
        super().__init__(Replace(tensors), unrouted)
        self.twin = copy.copy(unrouted)
        replaced = {name: nn.Parameter(t, requires_grad=False) for name, t in tensors.items()}
        self.twin.__dict__["_parameters"] = {**unrouted._parameters, **replaced}
        if in_other_forms and isinstance(self.twin, FastLinear):
            self.twin.renew_forms()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Return the module's output with the other tensors."""
        return self.twin(*args, **kwargs)


class RowAdapter(Protocol):
    """The adapter of a row, as far as the base's modules need it."""

    first_stage: int
    """The first stage whose outputs differ from the base's."""
    separate_blocks: frozenset[str]
    """The blocks that run for its rows apart from other adapters' rows."""
    padded_blocks: frozenset[str]
    """The blocks that can't run for its rows in a packed batch."""
    patches: Mapping[nn.Module, ModulePatch]
    """Its patch of each module that it changes."""


class SharedUpdate(NamedTuple):
    """An update of some of the rows that share a module's product."""

    selection: Selection | None  # within the shared rows; None for all of them
    update: Update
    stacked: Stacked | None  # the rows of a stacked update in a packed batch

    def by_row(self, selected: Tensor) -> Tensor:
        """Return the selected part of a batch by row, which a stacked update needs."""
        return selected if self.stacked is None else self.stacked.by_row(selected)

    def by_token(self, rows: Tensor) -> Tensor:
        """Return what `by_row` returned as a part of the batch."""
        return rows if self.stacked is None else self.stacked.by_token(rows)


@dataclass(frozen=True)
class Parts:
    """The rows of a batch, grouped by what a module computes for them."""

    shared: Selection | None  # the rows that share the module's product; None for all
    none_shared: bool
    updates: list[SharedUpdate]
    others: list[Part]


class Rows:
    """The adapter of each row of a batch, None for the base's weights.

    With a `layout`, the batch is packed: (tokens, 1, features), and a selection of rows is one of their tokens.
    """

    def __init__(
        self, adapters: Sequence[RowAdapter | None], device: torch.device, layout: Layout | None = None
    ) -> None:
        self.adapters = tuple(adapters)
        self.device, self.layout = device, layout
        self._parts: dict[nn.Module, Parts | None] = {}
        self._repeated: dict[int, Rows] = {}
        by_adapter: dict[int, tuple[RowAdapter | None, list[int]]] = {}
        for i, adapter in enumerate(self.adapters):
            by_adapter.setdefault(id(adapter), (adapter, []))[1].append(i)
        self._by_adapter = list(by_adapter.values())
        self.alone = self._by_adapter[0][0] if len(self._by_adapter) == 1 else None
        """The adapter of all rows, where they have the same one; its patch of a module is theirs, without `parts`."""

    def __len__(self) -> int:
        """Return the size of the batch's first dimension."""
        return len(self.adapters) if self.layout is None else self.layout.tokens

    def repeated(self, count: int) -> Rows:
        """Return each row `count` times in a row, as beams and choices are ordered."""
        if count not in self._repeated:
            self._repeated[count] = Rows([a for a in self.adapters for _ in range(count)], self.device)
        return self._repeated[count]

    def subset(self, indices: Sequence[int]) -> Rows:
        """Return the rows at some indices."""
        layout = None if self.layout is None else self.layout.subset(indices)
        return Rows([self.adapters[i] for i in indices], self.device, layout)

    def packed(self, layout: Layout) -> Rows:
        """Return the same rows in a packed batch."""
        return Rows(self.adapters, self.device, layout)

    def select(self, indices: Sequence[int]) -> Selection:
        """Return consecutive indices as a slice, others as a tensor; in a packed batch, those of the rows' tokens."""
        if self.layout is not None:
            return self.layout.select(indices)
        if _is_range(indices):
            return slice(indices[0], indices[-1] + 1)
        return torch.tensor(indices, device=self.device)

    def parts(self, module: nn.Module) -> Parts | None:
        """Return the parts into which the rows fall in `module`, or None where it runs unpatched for all of them."""
        if module not in self._parts:
            self._parts[module] = self._split(module)
        return self._parts[module]

    def _split(self, module: nn.Module) -> Parts | None:
        groups = [(None if a is None else a.patches.get(module), indices) for a, indices in self._by_adapter]
        if all(patch is None for patch, _ in groups):
            return None
        apart = [(p, indices) for p, indices in groups if p is not None and p.stack_key is None]
        shared = sorted(i for p, indices in groups if p is None or p.stack_key is not None for i in indices)
        updates = self._shared_updates([(p, i) for p, i in groups if p is not None and p.stack_key is not None], shared)
        others = self._other_parts(module, apart)
        if module._modules and shared:  # its children are routed too, and must get the adapters of these rows alone
            others.append((self.select(shared), None, self.subset(shared)))
            shared = []
        some = self.select(shared) if 0 < len(shared) < len(self.adapters) else None
        return Parts(some, not shared, updates, others)

    def _shared_updates(self, patched: list[tuple[ModulePatch, list[int]]], shared: list[int]) -> list[SharedUpdate]:
        """Return the updates of the rows that share the module's product, stacked where that is faster."""
        place = {row: i for i, row in enumerate(shared)}
        alike: dict[Hashable, list[tuple[Any, list[int]]]] = {}
        for one, indices in patched:
            alike.setdefault(one.stack_key, []).append((one.patch, [place[i] for i in indices]))
        among = self if len(shared) == len(self.adapters) else self.subset(shared)
        return [
            SharedUpdate(None if len(rows) == len(shared) and _is_range(rows) else among.select(rows), update, stacked)
            for same in alike.values()
            for rows, update, stacked in _stacked(same, among.layout)
        ]

    def _other_parts(self, module: nn.Module, patched: list[tuple[ModulePatch, list[int]]]) -> list[Part]:
        """Return a part for each patch that isn't an update; replaced weights of a small linear map share one."""
        linear = [
            (p, indices) for p, indices in patched if isinstance(module, nn.Linear) and isinstance(p, ReplacedTensors)
        ]
        rows = sum(len(indices) for _, indices in linear)
        size = sum(t.numel() for t in module._parameters.values() if t is not None)
        if not linear or self.layout or len(linear) * 4 <= rows or rows * size > _MOST_STACKED:
            linear = []
        together = {id(p) for p, _ in linear}
        parts: list[Part] = [
            (self.select(indices), p.run, self.subset(indices)) for p, indices in patched if id(p) not in together
        ]
        return [*parts, self._stacked_linear(linear)] if linear else parts

    def _stacked_linear(self, replaced: list[tuple[ReplacedTensors, list[int]]]) -> Part:
        """Return one part for the rows of several linear maps, computed in one batched product."""
        pairs = sorted((i, k) for k, (_, indices) in enumerate(replaced) for i in indices)
        indices = [i for i, _ in pairs]
        twins: list[Any] = [replaced[k][0].twin for _, k in pairs]
        weight = torch.stack([t.weight for t in twins])  # (rows, outputs, inputs)
        bias = None if twins[0].bias is None else torch.stack([t.bias for t in twins])

        def run(x: Tensor) -> Tensor:
            flat = x.reshape(len(x), -1, x.shape[-1])
            y = torch.bmm(flat, weight.mT)
            if bias is not None:
                y += bias[:, None]
            return y.view(*x.shape[:-1], y.shape[-1])

        return self.select(indices), run, self.subset(indices)


def _is_range(indices: Sequence[int]) -> bool:
    return all(b == a + 1 for a, b in itertools.pairwise(indices))


def _stacked(
    alike: list[tuple[Any, list[int]]], layout: Layout | None
) -> list[tuple[list[int], Update, Stacked | None]]:
    """Return rows and their update: a single stacked one where most rows differ, else one for each patch.

    In a packed batch, the rows of similar lengths have a stacked one.
    """
    if len(alike) * 4 <= sum(len(rows) for _, rows in alike):
        return [(rows, patch, None) for patch, rows in alike]
    patch_of = {i: patch for patch, rows in alike for i in rows}
    stack = type(alike[0][0]).stack
    if layout is None:
        ordered = sorted(patch_of)
        return [(ordered, stack([patch_of[i] for i in ordered]), None)]
    stacks = layout.stacks(sorted(patch_of))
    return [(rows, stack([patch_of[i] for i in rows]), stacked) for rows, stacked in stacks]


def take(x: Tensor, rows: Selection | None) -> Tensor:
    """Return some rows of a tensor; None for all."""
    if rows is None:
        return x
    return x[rows] if isinstance(rows, slice) else x.index_select(0, rows)


def put(x: Tensor, rows: Selection, values: Tensor) -> Tensor:
    """Write `values` to some rows of `x` in place, and return it."""
    if isinstance(rows, slice):
        x[rows] = values
        return x
    return x.index_copy_(0, rows, values)


def join(outputs: Sequence[tuple[Any, Any]], count: int) -> Any:
    """Return outputs of some rows each, tensors or nests of them, as the output of all `count` rows."""
    first = outputs[0][1]
    if isinstance(first, Tensor):
        joined = first.new_empty(count, *first.shape[1:])
        for rows, value in outputs:
            put(joined, rows, value)
        return joined
    if isinstance(first, tuple | list):
        columns = zip(*(value for _, value in outputs), strict=True)
        return type(first)(
            join([(rows, v) for (rows, _), v in zip(outputs, column, strict=True)], count) for column in columns
        )
    return first
