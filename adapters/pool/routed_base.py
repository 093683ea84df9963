"""The base as a pool runs it: a copy of its modules over the same tensors, each routing rows by their adapters."""

from __future__ import annotations

import copy
import functools
import json
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..base.tracing import Path, replicate, trace
from ..errors import PoolError, unknown
from ..patches.patch import Patch
from ..probe.model import Form
from ..tasks import Task
from .expansion import Expansion, block_forward, recorded_forward
from .folding import Folding
from .linear_kernels import KINDS, LinearKernels, exact, unsupported
from .packing import Packing
from .routing import route, unrouted_twin
from .rows import ModulePatch, ReplacedTensors
from .task_heads import SharedProbe, TaskHead

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
"""The dtypes in which a pool can compute, by name."""

_HEAD_ARGUMENTS: frozenset[Path] = frozenset({(0,), (1,)})
"""The batched arguments of a module in a head: hidden states, and maybe their mask."""


class RoutedBase:
    """A base's modules over its tensors, or over copies of another dtype or on another device, and heads for them.

    While it shares the base's tensors, it counts as serving from them, until `release`.
    """

    def __init__(
        self, base: Base, device: torch.device, dtype: torch.dtype, kernels: LinearKernels | None = None
    ) -> None:
        self.device, self.dtype, self._kernels = device, dtype, kernels
        self.original = base
        base.acquire_serving(self)  # before the modules are copied, so that no training begins meanwhile
        try:
            with base.locked():  # without an attached adapter
                tensors = {
                    id(t): _converted(t, device, dtype) for t in [*base.model.parameters(), *base.model.buffers()]
                }
                self._plain = replicate(base.model, tensors)  # never routed
                self.model = replicate(self._plain, {})
            self.shares_tensors = all(_converted(p, device, dtype) is p for p in base.model.parameters())
            self.trace = trace(self.model, base.modality)
        except BaseException:
            self.release()
            raise
        if not self.shares_tensors:
            self.release()
        self.base, self.modality = base.view(self.model), base.modality
        self.tokenizer = copy.deepcopy(base.tokenizer)  # truncation and padding change its state
        self.tokenizing = threading.Lock()
        self.modules = dict(self.model.named_modules())
        self.module_names = {id(module): name for name, module in self.modules.items()}
        self.block_sizes = {b: sum(p.numel() for p in self.modules[b].parameters()) for b in self.trace.blocks}
        self.parameters = dict(self.model.named_parameters(remove_duplicate=False))
        self.owners: dict[int, list[tuple[nn.Module, str]]] = {}
        """The modules that have a parameter, by its identity, and its name in each; several where it is tied."""
        self._unrouted: dict[int, nn.Module] = {}
        self._heads: dict[str, TaskHead] = {}
        self._stack_keys: dict[Hashable, Hashable] = {}
        self._lock = threading.RLock()
        self._add_owners(self.model)
        if kernels is not None:
            kernels.apply(self.model)
        self.packing, self.folding = Packing(self.model), Folding()
        for i, name in enumerate(self.trace.blocks):
            module = self.modules[name]
            batched = self.trace.batched_arguments.get(name, frozenset())
            module.forward = block_forward(i, module, self.unrouted(module), batched)

    def packs(self, lengths: Sequence[int]) -> bool:
        """Return whether rows of these lengths are to run without padding."""
        return self.packing.allows(lengths, self._hidden_states)

    def _hidden_states(self, ids: Tensor, mask: Tensor, packed_lengths: Sequence[int] | None) -> Tensor:
        """Return the base's last hidden states, (rows, tokens, features), without any adapter."""
        entries = [(i, None) for i in range(len(ids))]
        expansion = Expansion(entries, self.trace, self.device, packed_lengths=packed_lengths)
        with exact():
            hidden: Tensor = expansion.run(self.model, {"input_ids": ids, "attention_mask": mask})[0]
        return hidden

    def release(self) -> None:
        """Stop serving from the base's tensors; they may be trained from now on."""
        self.original.release_serving(self)

    def for_adapter(self, adapter: Adapter) -> RoutedBase:
        """Return the modules for an adapter: these, or, where it adds tokens, others over the same tensors."""
        if "added_tokens" not in adapter.manifest:
            return self
        routed = RoutedBase(adapter.on(self._plain_base()), self.device, self.dtype, self._kernels)
        routed.folding = self.folding
        routed.release()  # this one serves from the same tensors
        return routed

    def decoded(self, adapter: Adapter) -> Adapter:
        """Return an adapter with its encoded tensors decoded, which needs the base in its original dtype."""
        if self.shares_tensors:
            return adapter.decoded(self._plain_base())
        with self.original.locked():
            return adapter.decoded(self.original)

    def _plain_base(self) -> Base:
        return self.base.view(self._plain)

    def _add_owners(self, model: nn.Module) -> None:
        for module in model.modules():
            for name, p in module._parameters.items():
                if p is not None and (module, name) not in self.owners.setdefault(id(p), []):
                    self.owners[id(p)].append((module, name))

    def unrouted(self, module: nn.Module) -> nn.Module:
        """Return a module's unrouted twin."""
        with self._lock:
            if id(module) not in self._unrouted:
                self._unrouted[id(module)] = unrouted_twin(module)
            return self._unrouted[id(module)]

    def _route(self, module: nn.Module) -> None:
        """Make a module route the rows of each pass from now on."""
        with self._lock:
            if "forward" not in vars(module):
                name = self.module_names.get(id(module))
                batched = _HEAD_ARGUMENTS if name is None else self.trace.batched_arguments.get(name, frozenset())
                routed = functools.partial(route, module, self.unrouted(module), batched)
                module.forward = functools.wraps(type(module).forward)(routed)

    def prepare(
        self, patches: Mapping[nn.Module, Patch], replaced: Mapping[int, Tensor]
    ) -> dict[nn.Module, ModulePatch]:
        """Return patches, and tensors in place of parameters by their identity, ready to run; route their modules."""
        tensors: dict[nn.Module, dict[str, Tensor]] = {}
        for key, tensor in replaced.items():
            for module, name in self.owners[key]:
                tensors.setdefault(module, {})[name] = tensor
        prepared: dict[nn.Module, ModulePatch] = {m: ReplacedTensors(t, self.unrouted(m)) for m, t in tensors.items()}
        prepared |= {module: ModulePatch(patch, self.unrouted(module)) for module, patch in patches.items()}
        for module, patch in prepared.items():
            patch.stack_key = self._stack_keys.setdefault(patch.stack_key, patch.stack_key)  # one key in memory for all
            self._route(module)
        return prepared

    def patched_copy(self, patches: Mapping[str, Patch], replaced: Mapping[str, Tensor]) -> Any:
        """Return an unrouted copy of the base's modules over the same tensors with one adapter's patches, by name."""
        parameters = dict(self._plain.named_parameters())
        model = replicate(self._plain, {id(parameters[name]): tensor for name, tensor in replaced.items()})
        if self._kernels is not None:
            self._kernels.apply(model, frozenset(replaced))
        for name, patch in patches.items():
            patch.attach(model.get_submodule(name))
        for i, name in enumerate(self.trace.blocks):
            block = model.get_submodule(name)
            block.forward = recorded_forward(i, block.forward)
        return model

    def probe(self, task: Task, form: Form) -> SharedProbe:
        """Return the probe of that form, built once for each shape."""
        key = json.dumps([type(task).__qualname__, task.head_key, form.plain()])
        with self._lock:
            head = self._heads.get(key)
            if not isinstance(head, SharedProbe):
                head = SharedProbe(task, form, self.base, len(self.trace.blocks))
                self._add_owners(head.model)
                self._heads[key] = head
            return head

    def head(self, task: Task, *, untied: bool, includes_base: bool) -> TaskHead:
        """Return the head of a task, built once for each shape."""
        key = json.dumps([task.head_key, untied, includes_base])
        with self._lock:
            if key not in self._heads:
                head = self.new_head(task, self.model, untied=untied, includes_base=includes_base)
                self._add_owners(head.model)
                self._heads[key] = head
            return self._heads[key]

    def new_head(self, task: Task, model: Any, *, untied: bool, includes_base: bool) -> TaskHead:
        """Return a new head of a task over `model`, modules of this base."""
        base = self.base.view(model)
        with torch.random.fork_rng(devices=[]):
            return TaskHead(task.model(base, untied=untied), base, includes_base=includes_base)


def device_of(device: str | torch.device) -> torch.device:
    """Return a device by its name. Raises `PoolError` where there is no such device."""
    try:
        tensor = torch.zeros(1, device=device)
        tensor.tolist()  # fails on meta, which has no values
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        kind = torch.accelerator.current_accelerator(check_available=True)
        others = [f"{kind.type}:{i}" for i in range(torch.accelerator.device_count())] if kind else []
        raise PoolError(unknown("device", str(device), ["cpu", *others], known_as="available")) from error
    return tensor.device


def dtype_of(dtype: str | torch.dtype) -> torch.dtype | str:
    """Return a dtype by its name, or a kind of `LinearKernels`. Raises `PoolError` where there is none of that name."""
    name = str(dtype).removeprefix("torch.")
    if name in KINDS:
        return name
    if name not in DTYPES:
        raise PoolError(unknown("dtype", name, [*DTYPES, *KINDS], known_as="a pool computes in"))
    return DTYPES[name]


def kernels_of(kind: str, device: torch.device, dtype: torch.dtype) -> LinearKernels:
    """Return the linear maps of a kind for a base in `dtype`. Raises `PoolError` where it can't compute in them."""
    if (reason := unsupported(kind, device, dtype)) is not None:
        raise PoolError(f"dtype {kind!r}: {reason}")
    return LinearKernels(kind)


def _converted(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
