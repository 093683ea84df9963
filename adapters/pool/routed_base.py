"""The base as a pool runs it: its modules again over the same tensors, each sending rows where their adapters say."""

from __future__ import annotations

import copy
import functools
import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..base.stub import BaseStub
from ..base.tracing import replicate, trace
from ..errors import PoolError, unknown
from ..patches.patch import Patch
from ..probe.model import Form, ProbeHead
from .expansion import block_forward
from .routing import Lowered, Replaced, Rows, bare, current, route, running

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter
    from ..tasks import Task

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
"""What a pool computes in, by name."""


class Served:
    """A base's modules over its tensors (or over copies of another dtype or on another device), and heads on them."""

    def __init__(self, base: Base, device: torch.device, dtype: torch.dtype) -> None:
        self.shares = all(_at(p, device, dtype) is p for p in base.model.parameters())
        with base.held():
            tensors = {id(t): _at(t, device, dtype) for t in [*base.model.parameters(), *base.model.buffers()]}
            self._plain = replicate(base.model, tensors)  # never routed: what an adapter by itself is made from
            self.model = replicate(self._plain, {})
        self.device, self.dtype = device, dtype
        self.trace = trace(self.model)
        self._true = base
        self.base = base.view(self.model)
        self.tokenizer = copy.deepcopy(base.tokenizer)  # its state changes with use
        self.tokenizing = threading.Lock()
        self.tokenizer.padding_side = "right"  # a row says the same whatever stands beside it
        self.names = {id(module): name for name, module in self.model.named_modules()}
        self.modules = dict(self.model.named_modules())
        self.sizes = {b: sum(p.numel() for p in self.modules[b].parameters()) for b in self.trace.blocks}
        self.parameters = dict(self.model.named_parameters(remove_duplicate=False))
        self.owners: dict[int, list[tuple[nn.Module, str]]] = {}
        self._bare: dict[int, nn.Module] = {}
        self._templates: dict[str, Template] = {}
        self._lock = threading.RLock()
        self._own(self.model)
        for i, name in enumerate(self.trace.blocks):
            module = self.modules[name]
            module.forward = block_forward(
                i, module, self.bare(module), self.trace.batched_arguments.get(name, frozenset())
            )

    def on(self, adapter: Adapter) -> Served:
        """Return what an adapter runs on: this, or, where it adds tokens, another over the same tensors."""
        if "added_tokens" not in adapter.manifest:
            return self
        return Served(adapter.on(self._unrouted()), self.device, self.dtype)

    def decoded(self, adapter: Adapter) -> Adapter:
        """Return an adapter with its encoded tensors as they are: differences to the base in the base's own numbers."""
        if self.shares:
            return adapter.decoded(self._unrouted())
        with self._true.held():
            return adapter.decoded(self._true)

    def _unrouted(self) -> Base:
        return self.base.view(self._plain)

    def _own(self, model: nn.Module) -> None:
        for module in model.modules():
            for name, p in module._parameters.items():
                if p is not None and (module, name) not in self.owners.setdefault(id(p), []):
                    self.owners[id(p)].append((module, name))

    def bare(self, module: nn.Module) -> nn.Module:
        """Return a module's unrouted twin."""
        if id(module) not in self._bare:
            self._bare[id(module)] = bare(module)
        return self._bare[id(module)]

    def route(self, module: nn.Module) -> None:
        """Have a module ask of each pass what its rows need."""
        with self._lock:
            if "forward" not in vars(module):
                own = self.bare(module)
                name = self.names.get(id(module))  # None: a head, called with hidden states and maybe their mask
                follows: frozenset[Any] = (
                    frozenset({(0,), (1,)}) if name is None else self.trace.batched_arguments.get(name, frozenset())
                )
                module.forward = functools.wraps(type(module).forward)(functools.partial(route, module, own, follows))

    def lower(self, patches: Mapping[nn.Module, Patch], replaced: Mapping[int, Tensor]) -> dict[nn.Module, Lowered]:
        """Return what patches and replaced parameters (by identity) come to, by module; each is routed from now on."""
        tensors: dict[nn.Module, dict[str, Tensor]] = {}
        for key, tensor in replaced.items():
            for module, name in self.owners[key]:
                tensors.setdefault(module, {})[name] = tensor
        lowered: dict[nn.Module, Lowered] = {m: Replaced(t, self.bare(m)) for m, t in tensors.items()}
        lowered |= {module: Lowered(patch, self.bare(module)) for module, patch in patches.items()}
        for module in lowered:
            self.route(module)
        return lowered

    def alone(self, patches: Mapping[str, Patch], replaced: Mapping[str, Tensor]) -> Any:
        """Return the base with one adapter's patches in it, by names, as a model of its own over the shared tensors."""
        own = dict(self._plain.named_parameters())
        model = replicate(self._plain, {id(own[name]): tensor for name, tensor in replaced.items()})
        for name, patch in patches.items():
            patch.attach(model.get_submodule(name))
        return model

    def probe(self, task: Task, form: Form) -> Probe:
        """Return the head of a probe of that form, made once for each shape."""
        key = json.dumps([type(task).__qualname__, task.head_key, form.plain()])
        with self._lock:
            made = self._templates.get(key)
            if not isinstance(made, Probe):
                made = Probe(task, form, self)
                self._own(made.model)
                self._templates[key] = made
            return made

    def template(self, task: Task, *, untied: bool, whole: bool, over: Any = None) -> Template:
        """Return the model of a task with a head of that shape, made once; `over` another base than the routed one."""
        key = json.dumps([task.head_key, untied, whole])
        with self._lock:
            if over is not None or key not in self._templates:
                base = self.base
                if over is not None:
                    base = self.base.view(over)
                with torch.random.fork_rng(devices=[]):
                    model = task.model(base, untied=untied)
                made = Template(model, base, whole=whole)
                if over is not None:
                    return made
                self._own(model)
                self._templates[key] = made
            return self._templates[key]


def device_of(given: str | torch.device) -> torch.device:
    """Return a device by its name. Raises `PoolError` where there is no such device."""
    try:
        tried = torch.zeros(1, device=given)
        tried.tolist()  # meta tensors have no values
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        kind = torch.accelerator.current_accelerator(check_available=True)
        others = [f"{kind.type}:{i}" for i in range(torch.accelerator.device_count())] if kind else []
        raise PoolError(unknown("device", str(given), ["cpu", *others], known_as="there are")) from error
    return tried.device


def dtype_of(given: str | torch.dtype) -> torch.dtype:
    """Return a dtype by its name. Raises `PoolError` where a pool doesn't compute in it."""
    name = str(given).removeprefix("torch.")
    if name not in DTYPES:
        raise PoolError(unknown("dtype", name, DTYPES, known_as="a pool computes in"))
    return DTYPES[name]


def _at(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)


class Template:
    """A transformers model of one task and head shape. Unless it is `whole`, it takes what the base says as given."""

    form: Form | None = None
    """What a probe reads; None for transformers' own heads, which read what the base says."""

    def __init__(self, model: Any, base: Base, *, whole: bool) -> None:
        self.model = model
        self.generating = threading.Lock()
        self.heads = {name: _owner(model, name) for name in base.head_names(model)}
        self.given = set(base.from_checkpoint(model))
        apart = model.base_model is not model and type(model.base_model) is type(base.model)
        self.whole = whole or not apart or base.model.config.is_encoder_decoder or bool(base.fresh - {"pooler"})
        if not self.whole:
            pooler = getattr(model.base_model, "pooler", None) if "pooler" in base.fresh else None
            setattr(model, model.base_model_prefix, BaseStub(base.model, lambda *_, **__: current.given, pooler))


class Probe(Template):
    """A probe's head, which reads hidden states."""

    def __init__(self, task: Task, form: Form, served: Served) -> None:
        form.check(len(served.trace.blocks))
        self.whole, self.given, self.form = False, set(), form
        config = copy.deepcopy(served.model.config)
        for key, value in task.config().items():
            setattr(config, key, value)
        self.model = ProbeHead(task, form, config, width=config.hidden_size)
        self.model.to(served.device, served.dtype).requires_grad_(False).eval()
        self.heads = {f"probe.{name}": _owner(self.model, name) for name, _ in self.model.named_parameters()}

    def say(self, task: Task, hidden: Tensor, mask: Tensor, choices: int | None, rows: Rows) -> list[Any]:
        """Return what `task` makes of hidden states, (texts, tokens, features), with each row's own probe."""

        def model(**_: Any) -> Any:
            return self.model(hidden, mask, choices)

        with running(rows):
            return task.outputs(model, {})


def say(template: Template, task: Task, batch: Mapping[str, Tensor], rows: Rows, given: Any) -> list[Any]:
    """Return what `task` makes of a batch with each row's own head; `given` is what the base says of the rows."""
    current.given = given
    with running(rows):
        try:
            return task.outputs(template.model, batch)
        finally:
            current.given = None


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    return model.get_submodule(path), own
