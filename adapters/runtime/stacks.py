"""The low-rank updates of several adapters as inputs of the graph, stacked once for batches of the same adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .adapters import ExportedAdapter

_MOST = 32  # adapters of a stack that later batches use, too
_MOST_BYTES = 64 << 20  # of such a stack
_WIDEST = 2  # times the rank that a batch needs


@dataclass(frozen=True, eq=False)
class Stack:
    """Updates by module: A, (slots, inputs, rank), and B, (slots, rank, outputs), with zeros up to the largest rank."""

    feeds: dict[str, np.ndarray]
    slots: dict[ExportedAdapter | None, int]  # None has no update
    rank: int


class Stacks:
    """Stacks updates for batches; the last stack is used again where it has all adapters of a batch.

    Stacking takes a twentieth of the time of a batch of eight adapters and texts. Threads may share it.
    """

    def __init__(self, modules: Mapping[str, tuple[int, int]], max_bytes: int | None = None) -> None:
        """`modules` has the inputs and outputs of each module; a stack above `max_bytes` isn't used again."""
        self._modules = modules
        self._most_bytes = min(_MOST_BYTES, _MOST_BYTES if max_bytes is None else max_bytes)
        self._none = self._stacked([])
        self._last = self._none

    def of(self, adapters: Iterable[ExportedAdapter | None]) -> Stack:
        """Return a stack with these adapters, and maybe others."""
        wanted = dict.fromkeys(adapter for adapter in adapters if adapter is not None)
        if not wanted:
            return self._none
        rank, last = max(adapter.rank for adapter in wanted), self._last
        if wanted.keys() <= last.slots.keys() and last.rank <= _WIDEST * rank:
            return last
        both = wanted | dict.fromkeys(a for a in last.slots if a is not None and a.rank <= _WIDEST * rank)
        chosen = list(both if self._may_last(list(both)) else wanted)
        stack = self._stacked(chosen)
        if self._may_last(chosen):
            self._last = stack
        return stack

    def _may_last(self, adapters: list[ExportedAdapter]) -> bool:
        """Return whether a stack of adapters is small enough to be used again."""
        numbers = sum(inputs + outputs for inputs, outputs in self._modules.values())
        nbytes = 4 * numbers * (len(adapters) + 1) * max(adapter.rank for adapter in adapters)
        return len(adapters) <= _MOST and nbytes <= self._most_bytes

    def clear(self) -> None:
        """Forget the last stack."""
        self._last = self._none

    def _stacked(self, adapters: list[ExportedAdapter]) -> Stack:
        rank = max((adapter.rank for adapter in adapters), default=0)
        feeds = {}
        for module, (inputs, outputs) in self._modules.items():
            a = np.zeros((len(adapters) + 1, inputs, rank), np.float32)
            b = np.zeros((len(adapters) + 1, rank, outputs), np.float32)
            for slot, adapter in enumerate(adapters, start=1):
                if module in adapter.factors:
                    left, right = adapter.factors[module]
                    a[slot, :, : left.shape[1]], b[slot, : right.shape[0]] = left, right
            feeds[f"{module}.A"], feeds[f"{module}.B"] = a, b
        return Stack(feeds, {None: 0} | {adapter: slot for slot, adapter in enumerate(adapters, start=1)}, rank)
