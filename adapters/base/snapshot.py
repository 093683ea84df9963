"""Record the structure of a module tree and restore it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class Snapshot:
    """Class and attributes of every module below `root`, and the storage of every tensor; no tensor is copied.

    Restores modules that were added or removed, exchanged tensors, hooks, replaced methods, and train or eval mode;
    not values that were changed in place.
    """

    def __init__(self, root: nn.Module) -> None:
        self._modules = [(m, type(m), dict(vars(m)), [(v, dict(v)) for v in _tables(m)]) for m in root.modules()]
        self._tensors = [(t, t.data) for t in (*root.parameters(), *root.buffers())]
        self._config = getattr(root, "config", None)
        self._settings = dict(vars(self._config)) if self._config is not None else {}
        self.names = _names(root)

    def changed(self, root: nn.Module) -> list[str]:
        """Return the names of modules and parameters that were added, removed or exchanged."""
        now = _names(root)
        return [name for name in {**self.names, **now} if self.names.get(name) is not now.get(name)]

    def restore(self) -> None:
        """Restore every module and tensor."""
        for module, kind, attributes, tables in self._modules:
            module.__class__ = kind
            vars(module).clear()
            vars(module).update(attributes)
            for table, content in tables:
                table.clear()
                table.update(content)
        for tensor, data in self._tensors:
            tensor.data = data
            tensor.grad = None
        if self._config is not None:
            vars(self._config).clear()
            vars(self._config).update(self._settings)


def _tables(module: nn.Module) -> list[dict[Any, Any]]:
    """Return the dicts of a module: its parameters, buffers, children and hooks."""
    return [value for value in vars(module).values() if isinstance(value, dict)]


def _names(root: nn.Module) -> dict[str, Any]:
    return {**dict(root.named_modules()), **{f"{name} ": p for name, p in root.named_parameters()}}
