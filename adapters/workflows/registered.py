"""Registered adapters on their bases: what several commands load before their work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..store.registry import Registry
from ..watch import Watch

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter
    from ..base.base import Base


def load_base(registry: Registry, adapter: Adapter, base: str | None = None) -> Base:
    """Load an adapter's base: from `base` if it was moved, else from where it was at training time."""
    from ..base.base import Base

    stored = adapter.manifest["base"]
    return Base.from_manifest(stored, registry.locate(stored["name"]) if base is None else base)


def on_base(name: str, adapter: Adapter, base: Base, *, allow_base_mismatch: bool, watch: Watch) -> Adapter:
    """Return an adapter for `base`; where it was trained on another and that is allowed, with a warning.

    Raises `AdapterError` where the shapes don't fit.
    """
    if not allow_base_mismatch:
        return adapter
    adapter = adapter.moved_to(base)
    if adapter.mismatch:
        watch.note("warning", f"adapter '{name}' {adapter.mismatch}")
    return adapter


def folder_bytes(folder: Path) -> int:
    """Return the size of the files in a folder and those below it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
