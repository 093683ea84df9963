"""What a pool is opened on: a base, a registry, and further adapters by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..errors import PoolError
from ..store.registry import Registry, check_name

Source = Adapter | Path
"""An adapter in memory, or the folder of one."""


def named_sources(adapters: Any) -> dict[str, Source]:
    """Return adapters by name, from a mapping, a folder or several folders, which are named as they are.

    Raises `PoolError` for anything that is neither an adapter nor a folder, and where two have one name;
    `RegistryError` for an invalid name.
    """
    if isinstance(adapters, str | os.PathLike):
        adapters = [adapters]
    if isinstance(adapters, Adapter) or not isinstance(adapters, Iterable):
        raise PoolError(f"adapters must be a dict by name, or a list of folders, got {type(adapters).__name__}")
    pairs = list(adapters.items()) if isinstance(adapters, Mapping) else [(None, a) for a in adapters]
    sources: dict[str, Source] = {}
    for key, source in pairs:
        if not isinstance(source, str | os.PathLike) and not (isinstance(source, Adapter) and key is not None):
            raise PoolError(f"adapter '{key}' must be an Adapter by name, or a folder, got {type(source).__name__}")
        name = check_name(Path(source).name if key is None else str(key))  # type: ignore[arg-type]
        if name in sources:
            raise PoolError(f"two adapters are named '{name}'; pass them by name: {{'{name}': folder, ...}}")
        sources[name] = source if isinstance(source, Adapter) else Path(source)
    return sources


def base_and_registry(
    source: Base | Registry | str | os.PathLike[str] | None,
    base: Base | str | os.PathLike[str] | None,
    registry: Registry | None,
) -> tuple[Base, Registry | None]:
    """Return the base of a pool, loaded, and its registry."""
    if isinstance(source, Registry) or _is_registry(source):
        if registry is not None:
            raise PoolError(f"two registries: {source} and registry={registry.path}; pass one of them")
        registry = source if isinstance(source, Registry) else Registry.at(source)  # type: ignore[arg-type]
    elif source is not None:
        if base is not None:
            raise PoolError(f"two bases: {source} and base={base}; pass one of them")
        if not isinstance(source, str | os.PathLike | Base):
            raise PoolError(
                f"a pool is opened on a registry.json, a Registry or a base, got {type(source).__name__} {source!r}"
            )
        base = source if isinstance(source, Base) else os.fspath(source)
    if base is None:
        registry = registry or Registry.at()
        base = _base_name(registry)
    return base if isinstance(base, Base) else Base.load(base), registry


def _is_registry(source: Any) -> bool:
    return isinstance(source, str | os.PathLike) and os.fspath(source).endswith(".json") and not os.path.isdir(source)


def _base_name(registry: Registry) -> str:
    """Return the name of the base that a registry's adapters were trained on. Raises `PoolError` unless it is one."""
    entries = [entry["versions"][entry["current"]]["base"] for entry in registry.adapters().values()]
    names = {entry["fingerprint"]: entry["name"] for entry in entries}
    if len(names) != 1:
        bases = f"adapters of {len(names)} bases: {', '.join(sorted(names.values()))}" if names else "no adapters"
        raise PoolError(f"{registry.path} has {bases}; choose the base with base=")
    return registry.locate(next(iter(names.values())))
