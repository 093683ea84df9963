"""Leave out imports that a command doesn't need: of torch's compiler, of sharded tensors, of SciPy.

Importing a model of transformers imports `torch._dynamo` for the sake of decorators, `torch.distributed.tensor`
for sharded weights, and SciPy for the losses of object detection: a quarter of the time until a first answer.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

COMPILER, AVAILABLE = "torch._dynamo", "transformers.utils.import_utils"
DECORATORS = ("allow_in_graph", "assume_constant_result", "disable", "disallow_in_graph")
ALONE = frozenset({"torch._dynamo._trace_wrapped_higher_order_op"})
"""Modules of the compiler that need nothing else of it, and that transformers' masks import."""


def defer() -> None:
    """Import the compiler of torch where it is used, and hide from transformers what it would use for other things.

    Call this before torch is imported; nothing changes after, or where Accelerate shall compile. SciPy is hidden, and
    `torch.distributed` in a process that isn't one of several: transformers imports it for weights in shards.
    """
    deferred = any(isinstance(finder, _Finder) for finder in sys.meta_path)
    if not deferred and "torch" not in sys.modules and "ACCELERATE_DYNAMO_BACKEND" not in os.environ:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        package = sys.modules.get(name.rpartition(".")[0])
        if isinstance(package, _Deferred) and name not in ALONE:
            package.load()
            if name in sys.modules:  # imported by its package, as it would have been in the first place
                return importlib.machinery.ModuleSpec(name, _Loaded(sys.modules[name]))
        if name not in (COMPILER, AVAILABLE):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Deferring(spec.loader) if name == COMPILER else _Available(spec.loader)
        return spec


class _Loaded(importlib.abc.Loader):
    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: Any) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Deferring(importlib.abc.Loader):
    """Load the decorators of the compiler alone, until anything else of it is used."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: Any) -> ModuleType:
        return _Deferred(spec.name, self.loader)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(dict.fromkeys(DECORATORS, _decorator))


class _Deferred(ModuleType):
    """A module that is executed, as itself, when an attribute is used that it lacks."""

    def __init__(self, name: str, loader: importlib.abc.Loader) -> None:
        super().__init__(name)
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        self.load()
        return getattr(self, name)

    def load(self) -> None:
        self.__class__ = ModuleType  # type: ignore[assignment]
        self._loader.exec_module(self)


def _decorator(function: Any = None, *_: Any, **__: Any) -> Any:
    return function if function is not None else _decorator


class _Available(importlib.abc.Loader):
    """Load transformers' tests of what is installed; its folders of models, read twice, are read once."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: Any) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        scan = getattr(module, "create_import_structure_from_path", None)
        if scan is not None and hasattr(scan, "__wrapped__"):
            module.create_import_structure_from_path = functools.cache(scan.__wrapped__)  # type: ignore[attr-defined]
        hidden = {"is_scipy_available": _no}
        if "WORLD_SIZE" not in os.environ:
            hidden["is_torch_distributed_available"] = _no_shards
        vars(module).update({name: answer for name, answer in hidden.items() if hasattr(module, name)})


def _no() -> bool:
    return False


def _no_shards() -> bool:
    """Return False; `torch.distributed.tensor`, which PEFT uses as imported by transformers, is imported on use."""
    import torch.distributed

    vars(torch.distributed).setdefault("__getattr__", _on_use)
    return False


def _on_use(name: str) -> ModuleType:
    if name != "tensor":
        raise AttributeError(f"module 'torch.distributed' has no attribute {name!r}")
    import torch.distributed.tensor  # noqa: F401 (its own modules use it as an attribute before it is one)

    return sys.modules["torch.distributed.tensor"]
