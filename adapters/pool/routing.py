"""Which adapter each row of a batch has, and what a module computes when its rows differ in that."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..base.tracing import Path, map_tensors
from ..patches.patch import Patch, Update
from ..patches.replace import Replace

Selection = slice | Tensor
"""Some rows of a batch: those of a slice, or those at the indices of a tensor."""

current = threading.local()
"""What this thread computes: `rows`, a `Rows`, and `expansion`, an `Expansion`; None outside a pass."""


_KEYS: dict[Hashable, Hashable] = {}


class Lowered:
    """One adapter's patch of one module, ready to run."""

    __slots__ = ("bare", "key", "patch")

    def __init__(self, patch: Patch, bare: nn.Module) -> None:
        self.patch, self.bare = patch, bare
        self.key: Hashable = None
        """What patches that can be stacked have in common."""
        if isinstance(patch, Update):
            shapes = tuple(t.shape for t in patch.tensors().values())
            key = (type(patch), shapes, tuple(patch.options().items()))
            self.key = _KEYS.setdefault(key, key)  # kept once, however many adapters there are

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the patched module computes for rows that all have this patch."""
        return self.patch.forward(self.bare, *args, **kwargs)


class RowAdapter(Protocol):
    """The adapter of a row, as far as the base's modules need it."""

    first: int
    """The first stage whose hidden states differ from the base's."""
    by_group: frozenset[str]
    """The blocks that run for its rows apart from other adapters'."""
    lowered: dict[nn.Module, Lowered]
    """Its patch of each module that it changes."""


class Replaced(Lowered):
    """Other tensors for a module, as a twin of it that shares all but them."""

    __slots__ = ("twin",)

    def __init__(self, tensors: dict[str, Tensor], bare: nn.Module) -> None:
        super().__init__(Replace(tensors), bare)
        twin = copy.copy(bare)
        own = {name: nn.Parameter(t, requires_grad=False) for name, t in tensors.items()}
        twin.__dict__["_parameters"] = {**bare._parameters, **own}
        self.twin = twin

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module computes with the other tensors."""
        return self.twin(*args, **kwargs)


def bare(module: nn.Module) -> nn.Module:
    """Return a twin of a module that shares everything with it and is routed nowhere."""
    twin = copy.copy(module)
    twin.__dict__.pop("forward", None)
    return twin


@dataclass
class Parts:
    """The rows of a batch by what a module does with them."""

    only: Lowered | None  # what all rows have
    shared: Selection | None  # the rows that take the module's own product; None for all
    none_shared: bool
    updates: list[tuple[Selection | None, Update]]  # within the shared ones
    others: list[tuple[Selection, Callable[..., Any] | None, Rows]]  # None for the module's own forward


class Rows:
    """The adapter of each row of a batch, None for the base itself."""

    def __init__(self, of: Sequence[RowAdapter | None], device: torch.device) -> None:
        self.of = tuple(of)
        self.device = device
        self._parts: dict[nn.Module, Parts | None] = {}
        self._times: dict[int, Rows] = {}

    def __len__(self) -> int:
        return len(self.of)

    def times(self, count: int) -> Rows:
        """Return each row `count` times, as beams or choices lie."""
        if count not in self._times:
            self._times[count] = Rows([r for r in self.of for _ in range(count)], self.device)
        return self._times[count]

    def at(self, indices: Sequence[int]) -> Rows:
        """Return some of the rows."""
        return Rows([self.of[i] for i in indices], self.device)

    def parts(self, module: nn.Module) -> Parts | None:
        """Return what `module` does with the rows, or None where it does for all what it does by itself."""
        if module not in self._parts:
            self._parts[module] = self._split(module)
        return self._parts[module]

    def _split(self, module: nn.Module) -> Parts | None:
        of = [None if r is None else r.lowered.get(module) for r in self.of]
        groups: dict[int, tuple[Lowered | None, list[int]]] = {}
        for i, lowered in enumerate(of):
            groups.setdefault(id(lowered), (lowered, []))[1].append(i)
        if len(groups) == 1:
            return None if of[0] is None else Parts(of[0], None, False, [], [])
        shared = [i for i, one in enumerate(of) if one is None or isinstance(one.patch, Update)]
        place = {row: i for i, row in enumerate(shared)}
        kinds: dict[Hashable, list[tuple[Lowered, list[int]]]] = {}
        others: list[tuple[Selection, Callable[..., Any] | None, Rows]] = []
        replaced: list[tuple[Lowered, list[int]]] = []
        for one, indices in groups.values():
            if one is None:
                continue
            if isinstance(one.patch, Update):
                kinds.setdefault(one.key, []).append((one, [place[i] for i in indices]))
            elif isinstance(module, nn.Linear) and isinstance(one, Replaced):
                replaced.append((one, indices))
            else:
                others.append((self.select(indices), one.run, self.at(indices)))
        others += self._linear(module, replaced)
        updates = [
            (None if len(where) == len(shared) and _is_range(where) else self.select(where), update)
            for same in kinds.values()
            for where, update in _updates(same)
        ]
        if module._modules and shared:  # what is inside must know which rows it is given
            others.append((self.select(shared), None, self.at(shared)))
            shared = []
        some = self.select(shared) if 0 < len(shared) < len(of) else None
        return Parts(None, some, not shared, updates, others)

    def _linear(
        self, module: nn.Module, replaced: list[tuple[Lowered, list[int]]]
    ) -> list[tuple[Selection, Callable[..., Any] | None, Rows]]:
        """Return the parts of a linear map's replaced rows: small maps, such as heads, in one product."""
        rows = sum(len(indices) for _, indices in replaced)
        size = sum(t.numel() for t in module._parameters.values() if t is not None)
        if len(replaced) * 4 <= rows or rows * size > 1 << 22:
            return [(self.select(indices), one.run, self.at(indices)) for one, indices in replaced]
        if not replaced:
            return []
        pairs = sorted((i, k) for k, (_, where) in enumerate(replaced) for i in where)
        indices = [i for i, _ in pairs]
        twins = [replaced[k][0].twin for _, k in pairs]  # type: ignore[attr-defined]
        weight = torch.stack([t.weight for t in twins])
        bias = None if module.bias is None else torch.stack([t.bias for t in twins])

        def run(x: Tensor) -> Tensor:
            flat = x.reshape(len(x), -1, x.shape[-1])
            y = torch.bmm(flat, weight.mT)
            if bias is not None:
                y += bias[:, None]
            return y.view(*x.shape[:-1], y.shape[-1])

        return [(self.select(indices), run, self.at(indices))]

    def select(self, indices: list[int]) -> Selection:
        """Return rows as a slice where they lie side by side, else as a tensor of indices."""
        if _is_range(indices):
            return slice(indices[0], indices[-1] + 1)
        return torch.tensor(indices, device=self.device)


def _is_range(indices: Sequence[int]) -> bool:
    return all(b == a + 1 for a, b in itertools.pairwise(indices))


def _updates(same: list[tuple[Lowered, list[int]]]) -> list[tuple[list[int], Update]]:
    """Return rows and their update: one for all rows where most differ, else one for each group of rows."""
    rows = sum(len(where) for _, where in same)
    patches: list[tuple[Any, list[int]]] = [(one.patch, where) for one, where in same]
    if len(same) * 4 <= rows:
        return [(where, patch) for patch, where in patches]
    pairs = sorted((i, k) for k, (_, where) in enumerate(patches) for i in where)
    stacked = type(patches[0][0]).stack([patches[k][0] for _, k in pairs])
    return [([i for i, _ in pairs], stacked)]


def take(x: Tensor, where: Selection | None) -> Tensor:
    """Return some rows of a tensor."""
    if where is None:
        return x
    return x[where] if isinstance(where, slice) else x.index_select(0, where)


def route(module: nn.Module, own: nn.Module, follows: frozenset[Path], *args: Any, **kwargs: Any) -> Any:
    """Compute what `module` does for the rows of this thread's pass; `own` is its bare twin."""
    rows: Rows | None = getattr(current, "rows", None)
    parts = None if rows is None else rows.parts(module)
    if rows is None or parts is None:
        return own(*args, **kwargs)
    if parts.only is not None:
        return parts.only.run(*args, **kwargs)
    x = args[0] if args else next(iter(kwargs.values()))
    if len(x) != len(rows):  # beams, or the choices of a question
        rows = rows.times(len(x) // len(rows))
        parts = rows.parts(module)
        assert parts is not None
        if len(x) != len(rows):
            raise RuntimeError(f"{type(module).__name__} was given {len(x)} rows, which are no multiple of the batch's")
    made: list[tuple[Selection | None, Any]] = []
    if not parts.none_shared:
        made.append((parts.shared, _product(own, parts, x, args[1:], kwargs)))
    for where, run, some in parts.others:
        taken = some_of(where, follows, args, kwargs)
        with running(some):
            made.append((where, (run or own)(*taken[0], **taken[1])))
    return made[0][1] if len(made) == 1 else joined(made, len(rows))  # one part has all rows, in their order


def some_of(where: Selection, follows: frozenset[Path], args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return a call's arguments for some rows; `follows` says which of them have rows."""

    def taken(path: Path, t: Tensor) -> Tensor:
        return take(t, where) if path[1:] in follows else t

    given = map_tensors([list(args), kwargs], taken)
    return given[0], given[1]


def _product(own: nn.Module, parts: Parts, x: Tensor, args: Any, kwargs: Any) -> Tensor:
    """Return the module's own product of the rows that share it, each row's update done."""
    x = take(x, parts.shared)
    given = x
    for where, update in parts.updates:
        if type(update).inputs is not Update.inputs:
            changed = update.inputs(take(x, where))
            given = changed if where is None else _put(given.clone() if given is x else given, where, changed)
    y: Tensor = own(given, *args, **kwargs)
    for where, update in parts.updates:
        if type(update).outputs is not Update.outputs:
            changed = update.outputs(take(x, where), take(y, where))
            y = changed if where is None else _put(y, where, changed)
    return y


def _put(x: Tensor, where: Selection, values: Tensor) -> Tensor:
    if isinstance(where, slice):
        x[where] = values
        return x
    return x.index_copy_(0, where, values)


def joined(made: list[tuple[Any, Any]], rows: int) -> Any:
    """Return outputs of some rows each, tensors or nests of them, as one of all rows."""
    first = made[0][1]
    if isinstance(first, Tensor):
        whole = first.new_empty(rows, *first.shape[1:])
        for where, value in made:
            _put(whole, where, value)
        return whole
    if isinstance(first, tuple | list):
        columns = zip(*(value for _, value in made), strict=True)
        return type(first)(
            joined([(where, v) for (where, _), v in zip(made, column, strict=True)], rows) for column in columns
        )
    return first


class running:
    """Let this thread compute for `rows`, and for an expansion of them if one is given."""

    def __init__(self, rows: Rows, expansion: Any = None) -> None:
        self.now = (rows, expansion)

    def __enter__(self) -> None:
        self.before = (getattr(current, "rows", None), getattr(current, "expansion", None))
        current.rows, current.expansion = self.now

    def __exit__(self, *_: object) -> None:
        current.rows, current.expansion = self.before
