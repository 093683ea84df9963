"""Compute a module for a batch whose rows have different adapters."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from ..base.tracing import Path, map_tensors
from ..patches.patch import Update
from .context import current, narrowed
from .layout import Selection
from .rows import Parts, join, put, take


def unrouted_twin(module: nn.Module) -> nn.Module:
    """Return a twin of a module that shares everything with it but a routed forward."""
    twin = copy.copy(module)
    twin.__dict__.pop("forward", None)
    return twin


def route(module: nn.Module, unrouted: nn.Module, batched: frozenset[Path], *args: Any, **kwargs: Any) -> Any:
    """Return the output of `module` for the rows of this thread's pass.

    `unrouted` is its unrouted twin; `batched` are the arguments that have a row for each row of the batch.
    """
    context = current()
    if context is None:
        return unrouted(*args, **kwargs)
    if context.rows.alone is not None:
        patch = context.rows.alone.patches.get(module)
        return unrouted(*args, **kwargs) if patch is None else patch.run(*args, **kwargs)
    parts = context.rows.parts(module)
    if parts is None:
        return unrouted(*args, **kwargs)
    x, rows = (args[0] if args else next(iter(kwargs.values()))), context.rows
    if len(x) != len(rows):  # beams, or the choices of a question
        rows = rows.repeated(len(x) // len(rows))
        parts = rows.parts(module)
        assert parts is not None
        if len(x) != len(rows):
            raise RuntimeError(f"{type(module).__name__} got {len(x)} rows, expected a multiple of the batch's rows")
    outputs: list[tuple[Selection | None, Any]] = []
    if not parts.none_shared:
        outputs.append((parts.shared, _shared_product(unrouted, parts, x, args[1:], kwargs)))
    for selection, run, some in parts.others:
        some_args, some_kwargs = arguments_of(selection, batched, args, kwargs)
        with narrowed(some):
            outputs.append((selection, (run or unrouted)(*some_args, **some_kwargs)))
    return outputs[0][1] if len(outputs) == 1 else join(outputs, len(rows))  # a single part has all rows in order


def arguments_of(rows: Selection, batched: frozenset[Path], args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return a call's arguments for some rows, taken from those of all."""

    def some(path: Path, t: Tensor) -> Tensor:
        return take(t, rows) if path[1:] in batched else t

    nested = map_tensors([list(args), kwargs], some)
    return nested[0], nested[1]


def _shared_product(unrouted: nn.Module, parts: Parts, x: Tensor, args: Any, kwargs: Any) -> Tensor:
    """Return the module's output for the rows that share its product, with each row's update applied."""
    x = take(x, parts.shared)
    inputs = x
    for shared in parts.updates:
        rows, update = shared.selection, shared.update
        if type(update).inputs is not Update.inputs:
            some = take(x, rows)
            changed = shared.by_token(update.inputs(shared.by_row(some)))
            inputs = changed if rows is None else put(inputs.clone() if inputs is x else inputs, rows, changed)
    y: Tensor = unrouted(inputs, *args, **kwargs)
    for shared in parts.updates:
        rows, update = shared.selection, shared.update
        if type(update).outputs is not Update.outputs:
            target = take(y, rows)
            changed = shared.by_token(update.outputs(shared.by_row(take(x, rows)), shared.by_row(target)))
            if rows is None:
                y = changed
            elif changed.data_ptr() != target.data_ptr() or not isinstance(rows, slice):  # else changed in a view of y
                put(y, rows, changed)
    return y
