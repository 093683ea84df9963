"""The state of the forward pass that a thread is in: one immutable object, set and read here alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from .rows import Rows


@dataclass(frozen=True, eq=False, slots=True)
class PassContext:
    """What routed modules need to know of the pass in which they are called."""

    rows: Rows
    """The adapter of each row."""
    run_block: Callable[..., Any] | None = None
    """Computes a block in place of its forward: `Expansion.block`; None where blocks run as usual."""
    record_block: Callable[[int, Any, Any], None] | None = None
    """Takes the index, input and output of a block of an adapter with modules of its own: `Expansion.record`."""
    base_outputs: Any = None
    """The base's model output, for a head whose base is a stub."""


_CURRENT: ContextVar[PassContext | None] = ContextVar("adapterkit_pass", default=None)  # each thread starts with None


def current() -> PassContext | None:
    """Return the context of this thread's pass, or None outside of one."""
    return _CURRENT.get()


@contextlib.contextmanager
def entered(context: PassContext) -> Iterator[None]:
    """Run a pass, or a part of one, in `context`; afterwards restore the context from before."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextlib.contextmanager
def narrowed(rows: Rows) -> Iterator[None]:
    """Run a part of the pass for some of its rows."""
    context = _CURRENT.get()
    with entered(PassContext(rows) if context is None else replace(context, rows=rows, run_block=None)):
        yield


def advance(rows: Rows) -> None:
    """Replace the rows of the pass, for the rest of it."""
    context = _CURRENT.get()
    if context is None:
        raise RuntimeError("advance is for use within a pass")
    _CURRENT.set(replace(context, rows=rows))
