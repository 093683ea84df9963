"""Trace a forward pass of a base: which modules run in which block, and which tensors have a row for each input."""

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
from .modality import Modality

K = TypeVar("K", bound=Hashable)
Path = tuple[str | int, ...]
"""A tensor's place among a call's arguments: (0,), ("attention_mask",), ("position_embeddings", 1)."""


@dataclass(frozen=True)
class Trace:
    """The structure of a base's forward pass.

    Stage 0 comes before the first block, stage i + 1 is block i, and the last stage follows the last block.
    """

    blocks: tuple[str, ...]
    stage: Mapping[str, int]
    """The first stage in which a module is called, by name; modules that no pass calls are left out."""
    batched_arguments: Mapping[str, frozenset[Path]]
    """The arguments of each module, by its name, whose first dimension is the batch's."""
    rowwise: frozenset[str]
    """The modules that take and return a tensor with a row for each input, in every call."""
    read_outside: frozenset[str]
    """The parameters that are read outside the forward of the module that owns them."""
    returns_tuple: frozenset[str]
    """The modules that return a tuple; a block's first element is the hidden states."""
    takes_cache: bool
    """Whether the base's forward has an argument for whether it returns a key-value cache."""

    @property
    def last_stage(self) -> int:
        """The stage after the last block."""
        return len(self.blocks) + 1


def replicate(model: Any, tensors: Mapping[int, Tensor]) -> Any:
    """Return a copy of a model's modules over other tensors: `tensors` by the identity of the model's.

    Tensors that `tensors` lacks are shared. Names, ties and buffers stay the model's.
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


def map_tensors(value: Any, change: Callable[[Path, Tensor], Any], path: Path = ()) -> Any:
    """Return a nest of tuples, lists and dicts with each tensor replaced by `change(path, tensor)`."""
    if isinstance(value, Tensor):
        return change(path, value)
    if isinstance(value, tuple | list):
        values = [map_tensors(v, change, (*path, i)) for i, v in enumerate(value)]
        return type(value)(*values) if hasattr(value, "_fields") else type(value)(values)
    if type(value) is dict:
        return {k: map_tensors(v, change, (*path, k)) for k, v in value.items()}
    return value


def trace(model: Any, modality: Modality) -> Trace:
    """Run `model`, a base without a head, on two and on three example rows, and compare the tensors' shapes."""
    model = replicate(model, {})  # the hooks go with the copy
    two, three = (_Recorder.run(model, modality.example(rows, model.device)) for rows in (2, 3))
    batched = {
        name: frozenset(p for p, size in sizes.items() if size == 2 and three.sizes[name].get(p) == 3)
        for name, sizes in two.sizes.items()
    }
    rowwise = {name for name, sizes in two.first_sizes.items() if sizes == {2} and three.first_sizes[name] == {3}}
    return Trace(
        blocks=tuple(blocks(model)),
        stage=two.stage,
        batched_arguments=batched,
        rowwise=frozenset(rowwise),
        read_outside=frozenset(two.read_outside | three.read_outside),
        returns_tuple=frozenset(two.returns_tuple),
        takes_cache=takes_cache(model),
    )


def takes_cache(model: Any) -> bool:
    """Return whether a base's forward has an argument for whether it returns a key-value cache."""
    return "use_cache" in inspect.signature(type(model).forward).parameters


def forward_arguments(model: Any, inputs: Mapping[str, Tensor], traced: Trace | None = None) -> dict[str, Any]:
    """Return a base's arguments for tensors with a row for each item, without a key-value cache."""
    arguments: dict[str, Any] = dict(inputs)
    if takes_cache(model) if traced is None else traced.takes_cache:
        arguments["use_cache"] = False
    if model.config.is_encoder_decoder:
        arguments["decoder_input_ids"] = inputs["input_ids"]
    return arguments


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
    reached = _LastReached()

    def add(key: K, value: Any) -> None:
        recorded.pop(key, None)
        recorded[key] = value
        if last is not None and key == last:
            raise reached

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
    except _LastReached as signal:
        if signal is not reached:  # of a recording around this one
            raise
        return recorded, None
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class _Recorder:
    """Sizes of the tensors in every call of one pass, by module name."""

    stage: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, dict[Path, int]] = field(default_factory=dict)  # of the arguments' first dimensions
    first_sizes: dict[str, set[int | None]] = field(default_factory=dict)  # of the first argument and first output
    read_outside: set[str] = field(default_factory=set)
    returns_tuple: set[str] = field(default_factory=set)

    @classmethod
    def run(cls, model: Any, inputs: Mapping[str, Tensor]) -> _Recorder:
        """Return a recording of a pass over some rows."""
        recorder = cls()
        running: list[nn.Module] = []
        handles = recorder._hooks(model, running)
        try:
            with torch.inference_mode(), _OutsideReads(model, running, recorder.read_outside):
                model(**forward_arguments(model, inputs))
        finally:
            for handle in handles:
                handle.remove()
        return recorder

    def _hooks(self, model: Any, running: list[nn.Module]) -> list[Any]:
        """Record each call of each module; `running` holds the modules whose forward is in progress."""
        names = {id(module): name for name, module in model.named_modules()}
        stages = {name: i + 1 for i, name in enumerate(blocks(model))}
        state = {"stage": 0, "open": 0}

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            name = names[id(module)]
            running.append(module)
            if name in stages:
                state["stage"] = stages[name]
                state["open"] += 1
            self.stage.setdefault(name, state["stage"])
            self._record_arguments(name, args, kwargs)

        def after(module: nn.Module, args: Any, output: Any) -> None:
            name = names[id(module)]
            running.pop()
            first = next(_tensors(list(output.values()) if isinstance(output, dict) else output), None)
            self.first_sizes[name].add(None if first is None or not first.ndim else first.shape[0])
            if isinstance(output, tuple):
                self.returns_tuple.add(name)
            if name in stages:
                state["open"] -= 1
                if not state["open"] and state["stage"] == len(stages):
                    state["stage"] = len(stages) + 1

        return [
            handle
            for module in model.modules()
            for handle in (
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after),
            )
        ]

    def _record_arguments(self, name: str, args: Any, kwargs: Any) -> None:
        sizes: dict[Path, int] = {}
        map_tensors([args, kwargs], lambda path, t: sizes.setdefault(path[1:], t.shape[0] if t.ndim else 0))
        recorded = self.sizes.setdefault(name, dict(sizes))
        for path, size in sizes.items():  # a size that differs between calls isn't the batch's
            recorded[path] = size if recorded.get(path, size) == size else 0
        self.first_sizes.setdefault(name, set()).add(next(iter(sizes.values()), None))


class _OutsideReads(TorchFunctionMode):
    """Record the parameters that are used while no module that owns them runs."""

    def __init__(self, model: nn.Module, running: list[nn.Module], recorded: set[str]) -> None:
        super().__init__()
        self.running, self.recorded = running, recorded
        self.owners: dict[int, list[nn.Module]] = {}
        self.names: dict[int, str] = {}
        for path, module in model.named_modules():
            for name, p in module._parameters.items():
                if p is not None:
                    self.owners.setdefault(id(p), []).append(module)
                    self.names.setdefault(id(p), f"{path}.{name}" if path else name)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") != "__get__":  # a look at dtype or shape doesn't use the values
            for value in _tensors([args, kwargs or {}]):
                owners = self.owners.get(id(value))
                if owners and not any(module is owner for module in self.running[-1:] for owner in owners):
                    self.recorded.add(self.names[id(value)])
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
