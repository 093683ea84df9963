"""One pass of the base for many adapters: rows part where their weights do, and not before."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..base.tracing import Trace, forward_arguments, map_tensors
from .routing import RowAdapter, Rows, current, joined, route, running, some_of, take

Entry = tuple[int, RowAdapter | None]
"""A text, by its place in the batch, and the adapter whose weights it needs in the base, None for the base's own."""


@dataclass
class Step:
    """The rows from a stage on."""

    rows: Rows
    place: dict[Entry, int]
    """Where the row of a text and an adapter lies."""
    before: Tensor  # where each row comes from in the step before
    start: Tensor  # and in the first step


class Expansion:
    """A batch of entries on their way through the base: texts share their rows until their weights differ.

    The order of rows is that of the entries, sorted by adapter, each text where it first appears: so where a step has
    as many rows as the first one, they are the same rows in the same order.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        traced: Trace,
        device: torch.device,
        layers: frozenset[int] = frozenset(),
        *,
        whole: bool = True,
    ) -> None:
        """Take `entries`, and the `layers` whose hidden states are wanted, 0 being the lowest block's input.

        Unless the `whole` base is to run, it ends at the highest of them.
        """
        self.trace, self.device = traced, device
        self.last = len(traced.blocks) if whole else max(layers)
        self.hidden: dict[int, tuple[Tensor, Step]] = {}
        """The hidden states of layers that were wanted, with the rows there were."""
        self._wanted = layers
        order = {r: i for i, r in enumerate(dict.fromkeys(r for _, r in entries))}
        final = sorted(set(entries), key=lambda e: (order[e[1]], e[0]))
        stages = sorted({0, *(r.first for r in order if r is not None)})
        self.steps: dict[int, Step] = {}
        step: Step | None = None
        for stage in stages:
            keys = dict.fromkeys((text, r if r is not None and r.first <= stage else None) for text, r in final)
            place = {key: i for i, key in enumerate(keys)}
            rows = Rows([r for _, r in keys], device)
            whence = [p.place if p is not None else place for p in (step, self.steps.get(0))]
            step = Step(rows, place, *(torch.tensor([_origin(k, w) for k in keys], device=device) for w in whence))
            self.steps[stage] = step
        assert step is not None
        self.texts = [text for text, _ in self.steps[0].place]
        """The texts, in the order of the rows that go in."""
        self.place = {entry: step.place[entry] for entry in final}
        """Where each entry's row lies in what comes out."""
        self.now = self.steps[0]
        self._mapped: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def run(self, model: Any, input_ids: Tensor, attention_mask: Tensor, **others: Tensor) -> Any:
        """Return what the base says, a row for each place; what it is given is that of `texts`, in order."""
        with running(self.now.rows, self):
            return model(**forward_arguments(model, input_ids, attention_mask), **others)

    def block(self, index: int, module: nn.Module, own: nn.Module, args: Any, kwargs: Any) -> Any:
        """Compute block `index` for the rows that there are from it on."""
        hidden = args[0] if args else next(iter(kwargs.values()))
        if index == 0 and 0 in self._wanted:
            self.hidden[0] = (hidden, self.now)
        if index >= self.last:
            return (hidden, None) if self.trace.blocks[index] in self.trace.returns_tuple else hidden
        args, kwargs = self._advance(index, args, kwargs)
        result = self._grouped(index, module, own, args, kwargs)
        if index + 1 in self._wanted:
            self.hidden[index + 1] = (result[0] if isinstance(result, tuple) else result, self.now)
        if index + 1 == len(self.trace.blocks) and (step := self.steps.get(index + 2)):
            count = len(self.now.rows)
            result = map_tensors(result, lambda _, t: take(t, step.before) if t.ndim and len(t) == count else t)
            self._enter(step)
        return result

    def _advance(self, index: int, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Return a block's arguments for the rows that there are now, taken from those of the rows before."""
        before, step = self.now, self.steps.get(index + 1)
        if step is not None and step is not before:
            self._enter(step)
        start = len(self.steps[0].rows)
        if len(self.now.rows) == start:
            return args, kwargs
        follows = self.trace.batched_arguments[self.trace.blocks[index]]

        def mapped(path: Any, t: Tensor) -> Tensor:
            if path[1:] not in follows:
                return t
            if len(t) == len(before.rows) and self.now is not before:
                return take(t, self.now.before)
            if len(t) == start:
                key = (id(t), id(self.now))
                if key not in self._mapped:
                    self._mapped[key] = (t, take(t, self.now.start))  # t is kept, so that its id stays its own
                return self._mapped[key][1]
            return t

        given = map_tensors([list(args), kwargs], mapped)
        return given[0], given[1]

    def _enter(self, step: Step) -> None:
        self.now = step
        current.rows = step.rows

    def _grouped(self, index: int, module: nn.Module, own: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a block at once, or, where its modules can't tell rows apart, group by group."""
        name, rows = self.trace.blocks[index], self.now.rows
        groups: dict[Any, list[int]] = {}
        for i, r in enumerate(rows.of):
            groups.setdefault(r if r is not None and name in r.by_group else None, []).append(i)
        follows = self.trace.batched_arguments[name]
        if len(groups) == 1:
            return route(module, own, follows, *args, **kwargs)
        made = []
        for indices in groups.values():
            where = rows.select(indices)
            taken = some_of(where, follows, args, kwargs)
            with running(rows.at(indices)):
                made.append((where, route(module, own, follows, *taken[0], **taken[1])))
        return joined(made, len(rows))


def _origin(key: Entry, place: dict[Entry, int]) -> int:
    return place[key] if key in place else place[key[0], None]


def block_forward(index: int, module: nn.Module, own: nn.Module, follows: frozenset[Any]) -> Callable[..., Any]:
    """Return what stands in the place of a block's forward."""

    @functools.wraps(type(module).forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        expansion: Expansion | None = getattr(current, "expansion", None)
        if expansion is None:
            return route(module, own, follows, *args, **kwargs)
        return expansion.block(index, module, own, args, kwargs)

    return forward
