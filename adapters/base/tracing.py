"""What a base does in a pass, as watched on a few tokens: what calls what, when, and what has a row for each input."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..modules import blocks

K = TypeVar("K", bound=Hashable)
Path = tuple[str | int, ...]
"""Where a tensor stands among a call's arguments: (0,), ("attention_mask",), ("position_embeddings", 1)."""


@dataclass(frozen=True)
class Anatomy:
    """What was seen of a base. Stage 0 lies before the first block, stage i + 1 is block i, the last one after all."""

    blocks: tuple[str, ...]
    stage: Mapping[str, int]
    """The first stage in which a module is called, by name; modules that no pass calls are left out."""
    follows: Mapping[str, frozenset[Path]]
    """The arguments of a module, by its name, whose first dimension is that of the rows."""
    rowwise: frozenset[str]
    """The modules that take and return a tensor with a row for each input, in every call."""
    read_past: frozenset[str]
    """The parameters that are used outside the forward of the module that owns them."""
    gives_tuple: frozenset[str]
    """The modules that return a tuple, whose first element is the hidden states if it is a block."""

    @property
    def end(self) -> int:
        """The stage after the last block."""
        return len(self.blocks) + 1


def replicate(model: Any, tensors: Mapping[int, Tensor]) -> Any:
    """Return a copy of a model's modules over other tensors: `tensors` by the identity of the model's own.

    What `tensors` leaves out is shared. Names, ties and buffers are those of the model.
    """
    memo: dict[int, Any] = {}
    for owner in model.modules():
        for p in owner._parameters.values():
            if p is not None and id(p) not in memo:
                values = tensors.get(id(p))
                memo[id(p)] = nn.Parameter(p.detach() if values is None else values, requires_grad=False)
        for buffer in owner._buffers.values():
            if buffer is not None:
                memo[id(buffer)] = tensors.get(id(buffer), buffer)
    twin = copy.deepcopy(model, memo)
    return twin.requires_grad_(False).eval()


def over(value: Any, change: Callable[[Path, Tensor], Any], path: Path = ()) -> Any:
    """Return a nest of tuples, lists and dicts with `change(path, tensor)` in the place of each tensor."""
    if isinstance(value, Tensor):
        return change(path, value)
    if isinstance(value, tuple | list):
        made = [over(v, change, (*path, i)) for i, v in enumerate(value)]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    if type(value) is dict:
        return {k: over(v, change, (*path, k)) for k, v in value.items()}
    return value


def study(model: Any) -> Anatomy:
    """Run `model`, a base without a head, on two and on three rows of a few tokens, and say what was seen."""
    model = replicate(model, {})  # what watches it goes with it
    watched = [_Watched.run(model, rows) for rows in (2, 3)]
    two, three = watched
    follows = {
        name: frozenset(p for p, size in sizes.items() if size == 2 and three.sizes[name].get(p) == 3)
        for name, sizes in two.sizes.items()
    }
    rowwise = {name for name, firsts in two.firsts.items() if firsts == {2} and three.firsts[name] == {3}}
    return Anatomy(
        blocks=tuple(blocks(model)),
        stage=two.stage,
        follows=follows,
        rowwise=frozenset(rowwise),
        read_past=frozenset(two.read_past | three.read_past),
        gives_tuple=frozenset(two.tuples),
    )


def inputs(model: Any, ids: Tensor, mask: Tensor) -> dict[str, Any]:
    """Return what a base is called with, (rows, tokens) each, where nothing is kept for a next token."""
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if "use_cache" in inspect.signature(type(model).forward).parameters:
        given["use_cache"] = False
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = ids
    return given


class _LastReached(Exception):
    """The last module of interest has been called, and the rest of the pass isn't needed."""


def record(
    run: Callable[[], Any],
    *,
    inputs: Mapping[K, nn.Module] | None = None,
    outputs: Mapping[K, nn.Module] | None = None,
    last: K | None = None,
) -> tuple[dict[K, Any], Any]:
    """Run a forward pass and return what some modules receive and return in it, and the result of the pass.

    Of the modules in `inputs` the first argument is recorded, of those in `outputs` the output, in the order of their
    latest calls. The pass ends once `last`, one of the keys, is recorded; its result is then None.
    """
    recorded: dict[K, Any] = {}
    handles: list[Any] = []

    def add(key: K, value: Any) -> None:
        recorded.pop(key, None)
        recorded[key] = value
        if last is not None and key == last:
            raise _LastReached

    def add_input(key: K) -> Callable[..., None]:
        return lambda module, args, kwargs: add(key, args[0] if args else next(iter(kwargs.values())))

    def add_output(key: K) -> Callable[..., None]:
        return lambda module, args, output: add(key, output)

    try:
        for key, module in (inputs or {}).items():
            handles.append(module.register_forward_pre_hook(add_input(key), with_kwargs=True))
        for key, module in (outputs or {}).items():
            handles.append(module.register_forward_hook(add_output(key)))
        return recorded, run()
    except _LastReached:
        return recorded, None
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Watched:
    stage: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, dict[Path, int]] = field(default_factory=dict)
    firsts: dict[str, set[int | None]] = field(default_factory=dict)
    read_past: set[str] = field(default_factory=set)
    tuples: set[str] = field(default_factory=set)

    @classmethod
    def run(cls, model: Any, rows: int) -> _Watched:
        seen = cls()
        names = {id(module): name for name, module in model.named_modules()}
        places = {name: i + 1 for i, name in enumerate(blocks(model))}
        running: list[nn.Module] = []
        state = {"stage": 0, "open": 0}

        def begins(module: nn.Module, args: Any, kwargs: Any) -> None:
            name = names[id(module)]
            running.append(module)
            if name in places:
                state["stage"] = places[name]
                state["open"] += 1
            seen.stage.setdefault(name, state["stage"])
            found: dict[Path, int] = {}
            over([args, kwargs], lambda path, t: found.setdefault(path[1:], t.shape[0] if t.ndim else 0))
            for path, size in found.items():  # what is of another size in another call doesn't follow
                known = seen.sizes.setdefault(name, found)
                known[path] = size if known.get(path, size) == size else 0
            first = next(iter(found.values()), None)
            seen.firsts.setdefault(name, set()).add(first)

        def ends(module: nn.Module, args: Any, output: Any) -> None:
            running.pop()
            first = next(_tensors(list(output.values()) if isinstance(output, dict) else output), None)
            seen.firsts[names[id(module)]].add(None if first is None or not first.ndim else first.shape[0])
            if isinstance(output, tuple):
                seen.tuples.add(names[id(module)])
            if names[id(module)] in places:
                state["open"] -= 1
                if not state["open"] and state["stage"] == len(places):
                    state["stage"] = len(places) + 1

        handles = []
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(begins, with_kwargs=True))
            handles.append(module.register_forward_hook(ends))
        ids = torch.arange(rows * 5, device=model.device).view(rows, 5) % 7 + 1
        mask = torch.ones_like(ids)
        mask[-1, 3:] = 0  # with something to mask, so that masks are made
        try:
            with torch.inference_mode(), _Uses(model, running, seen.read_past):
                model(**inputs(model, ids, mask))
        finally:
            for handle in handles:
                handle.remove()
        return seen


class _Uses(TorchFunctionMode):
    """Notes the parameters that are used while no module that owns them runs."""

    def __init__(self, model: nn.Module, running: list[nn.Module], found: set[str]) -> None:
        super().__init__()
        self.running, self.found = running, found
        self.owners: dict[int, list[nn.Module]] = {}
        self.names: dict[int, str] = {}
        for path, module in model.named_modules():
            for name, p in module._parameters.items():
                if p is not None:
                    self.owners.setdefault(id(p), []).append(module)
                    self.names.setdefault(id(p), f"{path}.{name}" if path else name)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") != "__get__":  # asking for a dtype or a shape is no use of the values
            for value in _tensors([args, kwargs or {}]):
                owners = self.owners.get(id(value))
                if owners and not any(module is owner for module in self.running[-1:] for owner in owners):
                    self.found.add(self.names[id(value)])
        return func(*args, **(kwargs or {}))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for v in value:
            yield from _tensors(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from _tensors(v)
