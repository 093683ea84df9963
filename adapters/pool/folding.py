"""Fold an adapter that answers whole batches alone into copies of the weights that it changes."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from .linear_kernels import FastLinear
from .rows import ModulePatch, ReplacedTensors, RowAdapter

_MOST_BYTES = 1 << 29  # of folded weights
_LEAST_TOKENS = 4096  # in batches of one adapter; for fewer, folding takes longer than it saves


class Foldable(RowAdapter, Protocol):
    """An adapter whose patches can be folded, and what is known of its batches."""

    tokens_alone: int
    """The tokens of the batches that it had to itself."""
    folded: Folded | None


@dataclass(eq=False, slots=True, weakref_slot=True)
class Folded:
    """An adapter with replaced weights in place of patches."""

    first_stage: int
    separate_blocks: frozenset[str]
    padded_blocks: frozenset[str]
    patches: Mapping[nn.Module, ModulePatch]
    nbytes: int
    """The bytes of the weights that are in memory for it."""


class Folding:
    """The folded adapters of a base, within `max_bytes`; the least recently used are dropped where it is exceeded.

    The base's weights aren't changed. A folded adapter is dropped with its adapter, so a new version has weights of
    its own. Threads may share a `Folding`.
    """

    def __init__(self, max_bytes: int = _MOST_BYTES) -> None:
        self.max_bytes = max_bytes
        self._used: weakref.WeakKeyDictionary[Foldable, int] = weakref.WeakKeyDictionary()
        """Each adapter with folded weights, and when it was used last."""
        self._clock = itertools.count()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The bytes of all folded weights."""
        return sum(adapter.folded.nbytes for adapter in list(self._used) if adapter.folded is not None)

    def weights(self, adapter: Foldable, tokens: int) -> RowAdapter:
        """Return what computes a batch of `tokens` that has no other adapter: the adapter, or its folded weights."""
        adapter.tokens_alone += tokens
        if adapter.tokens_alone < _LEAST_TOKENS or not self._lock.acquire(blocking=False):
            return adapter.folded or adapter  # while another thread folds, this one doesn't wait for it
        try:
            if adapter.folded is None and 0 < (size := _size(adapter)) <= self.max_bytes:
                self._drop_until(self.max_bytes - size)
                adapter.folded = _folded(adapter)
            if adapter.folded is not None:
                self._used[adapter] = next(self._clock)
            return adapter.folded or adapter
        finally:
            self._lock.release()

    def limit(self, max_bytes: int) -> None:
        """Use at most `max_bytes` from now on, or less where that is the limit already."""
        with self._lock:
            self.max_bytes = max(0, min(max_bytes, _MOST_BYTES))
            self._drop_until(self.max_bytes)

    def _drop_until(self, nbytes: int) -> None:
        for adapter in sorted(self._used, key=self._used.__getitem__):
            if self.nbytes <= nbytes:
                return
            del self._used[adapter]
            adapter.folded = None


def _size(adapter: RowAdapter) -> int:
    """Return the bytes of the weights that an adapter's patches change, at most."""
    return sum(
        _bytes(patch.unrouted, t)
        for patch in adapter.patches.values()
        if not isinstance(patch, ReplacedTensors)
        for t in patch.unrouted.parameters(recurse=False)
    )


def _bytes(module: nn.Module, tensor: Tensor) -> int:
    """Return the bytes of a folded tensor, with those of its other forms in a module that computes by them."""
    nbytes = tensor.numel() * tensor.element_size()
    return nbytes * 7 // 4 if isinstance(module, FastLinear) and tensor.ndim > 1 else nbytes


def _folded(adapter: RowAdapter) -> Folded | None:
    """Return an adapter with each patch folded that can be; None where none can."""
    patches: dict[nn.Module, ModulePatch] = {}
    nbytes = 0
    for module, patch in adapter.patches.items():
        tensors = None if isinstance(patch, ReplacedTensors) else patch.patch.fold(patch.unrouted)
        patches[module] = patch if tensors is None else ReplacedTensors(tensors, patch.unrouted, in_other_forms=True)
        nbytes += sum(_bytes(patch.unrouted, t) for t in (tensors or {}).values())
    if not nbytes:
        return None
    return Folded(adapter.first_stage, adapter.separate_blocks, adapter.padded_blocks, patches, nbytes)
