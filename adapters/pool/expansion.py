"""Run a batch through the base once for many adapters: rows share computation up to their first different weight."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..base.tracing import Path, Trace, forward_arguments, map_tensors
from .context import PassContext, advance, current, entered, narrowed
from .layout import Layout
from .packing import run_packed
from .routing import arguments_of, route
from .rows import RowAdapter, Rows, join, take

Entry = tuple[int, RowAdapter | None]
"""The index of an item, such as a text, in the batch, and the adapter whose weights it needs; None for the base's."""


@dataclass(frozen=True, eq=False)
class Step:
    """The rows of a pass from one stage on."""

    rows: Rows
    place: dict[Entry, int]  # the row of each entry
    from_previous: Tensor  # (rows,), the row of the previous step from which each row comes
    from_first: Tensor  # (rows,), the row of the first step
    layout: Layout | None  # of the rows' tokens in a packed pass

    @functools.cached_property
    def packed(self) -> Rows | None:
        """The rows in a packed batch; None in a padded pass."""
        return None if self.layout is None else self.rows.packed(self.layout)


class Expansion:
    """One pass of a batch of entries, whose rows multiply where the weights of their adapters begin to differ.

    Rows are in the order of the entries, sorted by adapter, each text where it first appears. So a step with as many
    rows as the first one has the same rows in the same order.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        trace: Trace,
        device: torch.device,
        layers: frozenset[int] = frozenset(),
        *,
        all_blocks: bool = True,
        packed_lengths: Sequence[int] | None = None,
    ) -> None:
        """Plan the pass of `entries`, of texts with `packed_lengths` tokens where it is to run without padding.

        The hidden states of `layers` are recorded; layer 0 is the lowest block's input. Unless `all_blocks` are to
        run, the pass ends at the highest of these layers.
        """
        self.trace, self.device = trace, device
        self.last = len(trace.blocks) if all_blocks else max(layers)
        self.hidden: dict[int, tuple[Tensor, Step]] = {}
        """The hidden states of each recorded layer, (rows, tokens, features), and the step that they belong to."""
        self._recorded = layers
        distinct = dict.fromkeys(adapter for _, adapter in entries)
        order = {adapter: i for i, adapter in enumerate(sorted(distinct, key=_runs_apart))}
        final = sorted(set(entries), key=lambda entry: (order[entry[1]], entry[0]))
        stages = sorted({0, *(a.first_stage for a in order if a is not None)})
        self.steps = _steps(final, stages, device, packed_lengths)
        self.items = [item for item, _ in self.steps[0].place]
        """The indices of the items in the order of the rows that enter the base."""
        last_step = next(reversed(self.steps.values()))
        self.place = {entry: last_step.place[entry] for entry in final}
        """The row of each entry in the base's output."""
        self.step = self.steps[0]
        self._expanded: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def run(self, model: Any, inputs: Mapping[str, Tensor]) -> Any:
        """Return the base's output with a row for each place; its arguments, `inputs`, have a row for each item."""
        with entered(PassContext(self.step.rows, self.block, self.record)):
            return model(**forward_arguments(model, inputs, self.trace))

    def block(self, index: int, module: nn.Module, unrouted: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return the output of block `index` for the rows of its step."""
        hidden = args[0] if args else next(iter(kwargs.values()))
        if index == 0 and 0 in self._recorded:
            self.hidden[0] = (hidden, self.step)
        if index >= self.last:
            return (hidden, None) if self.trace.blocks[index] in self.trace.returns_tuple else hidden
        args, kwargs = self._expand(index, args, kwargs)
        output = self._run_groups(index, module, unrouted, args, kwargs)
        if index + 1 in self._recorded:
            self.hidden[index + 1] = (output[0] if isinstance(output, tuple) else output, self.step)
        if index + 1 == len(self.trace.blocks) and (step := self.steps.get(index + 2)):
            count = len(self.step.rows)
            output = map_tensors(output, lambda _, t: take(t, step.from_previous) if t.ndim and len(t) == count else t)
            self._enter(step)
        return output

    def record(self, index: int, hidden: Tensor, output: Any) -> None:
        """Record the input and output of block `index` of a model that isn't routed, where they are of `layers`."""
        values = {index: hidden, index + 1: output[0] if isinstance(output, tuple) else output}
        self.hidden |= {k: (value, self.step) for k, value in values.items() if k in self._recorded}

    def _expand(self, index: int, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Enter a block's step, and return its arguments for the step's rows, taken from those of the rows before."""
        previous, step = self.step, self.steps.get(index + 1)
        if step is not None and step is not previous:
            self._enter(step)
        count = len(self.steps[0].rows)
        if len(self.step.rows) == count:
            return args, kwargs
        batched = self.trace.batched_arguments[self.trace.blocks[index]]

        def expanded(path: Path, t: Tensor) -> Tensor:
            if path[1:] not in batched:
                return t
            if len(t) == len(previous.rows) and self.step is not previous:
                return take(t, self.step.from_previous)
            if len(t) == count:  # such as a mask, which the model computes once from the texts
                key = (id(t), id(self.step))
                if key not in self._expanded:
                    self._expanded[key] = (t, take(t, self.step.from_first))  # a reference to t keeps its id unique
                return self._expanded[key][1]
            return t

        nested = map_tensors([list(args), kwargs], expanded)
        return nested[0], nested[1]

    def _enter(self, step: Step) -> None:
        self.step = step
        advance(step.rows)

    def _run_groups(self, index: int, module: nn.Module, unrouted: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a block once, or once for each adapter whose rows it can't compute beside others'."""
        name, rows = self.trace.blocks[index], self.step.rows
        groups: dict[Any, list[int]] = {}
        for i, adapter in enumerate(rows.adapters):
            separate = adapter is not None and name in adapter.separate_blocks
            groups.setdefault(adapter if separate else None, []).append(i)
        batched = self.trace.batched_arguments[name]
        run = functools.partial(route, module, unrouted, batched)
        if len(groups) == 1:
            return self._run_rows(name, rows, self.step.packed, run, args, kwargs)
        outputs = []
        for indices in groups.values():
            selection, some = rows.select(indices), rows.subset(indices)
            some_args, some_kwargs = arguments_of(selection, batched, args, kwargs)
            packed = self.step.packed and self.step.packed.subset(indices)
            outputs.append((selection, self._run_rows(name, some, packed, run, some_args, some_kwargs)))
        return join(outputs, len(rows))

    def _run_rows(
        self, name: str, rows: Rows, packed: Rows | None, run: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """Return a block's output for some rows, computed without padding where they are `packed` too."""
        if (
            packed is None
            or packed.layout is None
            or any(adapter is not None and name in adapter.padded_blocks for adapter in rows.adapters)
        ):
            if rows is self.step.rows:
                return run(*args, **kwargs)
            with narrowed(rows):
                return run(*args, **kwargs)
        with narrowed(packed):
            return run_packed(packed.layout, run, args, kwargs)


def _runs_apart(adapter: RowAdapter | None) -> bool:
    """Return whether blocks run for an adapter's rows apart; they come last, so that the others are consecutive."""
    return adapter is not None and bool(adapter.separate_blocks)


def _steps(
    final: Sequence[Entry], stages: Sequence[int], device: torch.device, packed_lengths: Sequence[int] | None
) -> dict[int, Step]:
    """Return the steps of a pass by the stage at which they begin; `final` are the entries in the order of rows."""
    steps: dict[int, Step] = {}
    step: Step | None = None
    for stage in stages:
        entries = dict.fromkeys((text, a if a is not None and a.first_stage <= stage else None) for text, a in final)
        place = {entry: i for i, entry in enumerate(entries)}
        sources = [previous.place if previous is not None else place for previous in (step, steps.get(0))]
        before, first = (torch.tensor([origin(e, source) for e in entries], device=device) for source in sources)
        layout = None
        if packed_lengths is not None:
            layout = Layout(tuple(packed_lengths[text] for text, _ in entries), max(packed_lengths), device)
        step = Step(Rows([adapter for _, adapter in entries], device), place, before, first, layout)
        steps[stage] = step
    return steps


def origin(entry: Entry, place: dict[Entry, int]) -> int:
    """Return the row of an entry in a step, in which its text may still have the base's weights."""
    return place[entry] if entry in place else place[entry[0], None]


def block_forward(index: int, module: nn.Module, unrouted: nn.Module, batched: frozenset[Path]) -> Callable[..., Any]:
    """Return the routed forward of a block."""

    @functools.wraps(type(module).forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        context = current()
        if context is None or context.run_block is None:
            return route(module, unrouted, batched, *args, **kwargs)
        return context.run_block(index, module, unrouted, args, kwargs)

    return forward


def recorded_forward(index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the forward of a block of a model that isn't routed, recorded by the pass that it is called in."""

    @functools.wraps(forward)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        output, context = forward(*args, **kwargs), current()
        if context is not None and context.record_block is not None:
            context.record_block(index, args[0] if args else next(iter(kwargs.values())), output)
        return output

    return recorded
