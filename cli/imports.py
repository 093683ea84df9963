"""Leave out imports that a command doesn't need: of torch's compiler, of sharded tensors, of SciPy.

Importing a model of transformers imports `torch._dynamo` for the sake of decorators, `torch.distributed.tensor`
for sharded weights, and SciPy for the losses of object detection: a quarter of the time until a first answer. Importing
torch imports decompositions of operators for the meta device, which is another sixth.
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
METAS, DECOMPOSITIONS = "torch._meta_registrations", "torch._decomp"
"""Kernels of the meta device that torch computes in Python, and the package that registers them."""
DECORATORS = ("allow_in_graph", "assume_constant_result", "disable", "disallow_in_graph")
ALONE = frozenset({"torch._dynamo._trace_wrapped_higher_order_op"})
"""Modules of the compiler that need nothing else of it, and that transformers' masks import."""


def defer(*, answers: bool = False) -> None:
    """Import the compiler of torch where it is used, and hide from transformers what it would use for other things.

    Call this before torch is imported; nothing changes after, or where Accelerate shall compile. SciPy is hidden, and
    `torch.distributed` in a process that isn't one of several: transformers imports it for weights in shards. A process
    that `answers` and does nothing else imports the decompositions of operators where they are used, too.
    """
    deferred = any(isinstance(finder, _Finder) for finder in sys.meta_path)
    if not deferred and "torch" not in sys.modules and "ACCELERATE_DYNAMO_BACKEND" not in os.environ:
        sys.meta_path.insert(0, _Finder({COMPILER, METAS} if answers else {COMPILER}))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, later: set[str]) -> None:
        self.later = later

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        package = sys.modules.get(METAS if name == DECOMPOSITIONS else name.rpartition(".")[0])
        if isinstance(package, _Deferred) and name not in ALONE:
            package.load()
            if name in sys.modules:  # imported by its package, as it would have been in the first place
                return importlib.machinery.ModuleSpec(name, _Loaded(sys.modules[name]))
        if name != AVAILABLE and name not in self.later:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Available(spec.loader) if name == AVAILABLE else _Deferring(spec.loader)
        return spec


class _Loaded(importlib.abc.Loader):
    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: Any) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Deferring(importlib.abc.Loader):
    """Load nothing of a module but the compiler's decorators, until anything else of it is used."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: Any) -> ModuleType:
        return _Deferred(spec.name, self.loader)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == COMPILER:
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
    """Load transformers' tests of what is installed; its folders of models, read twice, are read once, and quicker."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: Any) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        scan = getattr(module, "create_import_structure_from_path", None)
        if scan is not None and hasattr(scan, "__wrapped__"):
            module.create_import_structure_from_path = functools.cache(scan.__wrapped__)  # type: ignore[attr-defined]
        if (fetch := getattr(module, "fetch__all__", None)) is not None:  # it splits whole files into lines
            module.fetch__all__ = lambda text: fetch(text[text.rfind("\n__all__") + 1 :])  # type: ignore[attr-defined]
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
