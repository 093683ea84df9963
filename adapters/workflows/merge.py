"""Merge registered adapters into a plain model, or into one adapter: what `adapt merge` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..convert.combine import combine
from ..convert.merge import check_folder, merge
from ..errors import AdapterError
from ..store.publish import publish
from ..store.registry import Registry, check_name
from ..watch import Watch
from .registered import folder_bytes, load_base, on_base

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter


@dataclass(frozen=True)
class Merged:
    """A merged model in `out`, an adapter registered as `name`, or both."""

    merged_from: list[str]  # NAME@VERSION
    task: str
    auto_class: str  # of transformers, which loads `out`
    base_mismatches: list[dict[str, Any]]  # how the base differs from those the adapters were trained on
    out: Path | None = None
    nbytes: int = 0  # of the files in `out`
    name: str | None = None
    version: str = ""
    folder: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        values: dict[str, Any] = {"merged_from": self.merged_from, "task": self.task}
        if self.base_mismatches:
            values["base_mismatch"] = self.base_mismatches
        if self.out is not None:
            values |= {"out": str(self.out), "auto_class": self.auto_class}
        if self.name is not None:
            values |= {"name": self.name, "version": self.version, "folder": self.folder}
        return values


def merge_adapters(
    registry: Registry,
    adapters: Sequence[tuple[str, float | None]],
    *,
    out: Path | None = None,
    name: str | None = None,
    combination_type: str | None = None,
    rank: int | None = None,
    base: str | None = None,
    allow_base_mismatch: bool = False,
    watch: Watch | None = None,
) -> Merged:
    """Merge registered adapters, each with its weight, into a plain transformers model in `out` or an adapter `name`.

    Several are combined first, as `combine` does; so is a single one that has a weight or a `name`. `base` is where to
    load the base from if it was moved. Raises `AdapterError` where they can't be merged; then nothing was written.
    """
    if out is None and name is None:
        raise AdapterError("no destination; expected --out DIR for a model, --name NAME for an adapter, or both")
    watch = watch or Watch()
    references = ["@".join(registry.resolve(reference)) for reference, _ in adapters]
    if name is not None:
        check_name(name)
        registry.prepare()
    if out is not None:
        check_folder(out)
    loaded = [registry.load(reference) for reference in references]
    target = load_base(registry, loaded[0], base)
    loaded = [
        on_base(reference, adapter, target, allow_base_mismatch=allow_base_mismatch, watch=watch)
        for reference, adapter in zip(references, loaded, strict=True)
    ]
    weights = [weight for _, weight in adapters]
    adapter = loaded[0]
    if len(loaded) > 1 or any(option is not None for option in (name, combination_type, rank, weights[0])):
        weighted = [(one, 1.0 if weight is None else weight) for one, weight in zip(loaded, weights, strict=True)]
        adapter = combine(target, weighted, combination_type or "cat", rank=rank, names=references)
    mismatches = [one.manifest["base"]["mismatch"] for one in loaded if one.mismatch]
    if out is not None:
        merge(target, adapter, out)
    version, folder = _published(registry, name, adapter)
    return Merged(
        merged_from=references,
        task=adapter.task.name,
        auto_class=adapter.task.auto_class,
        base_mismatches=mismatches,
        out=out,
        nbytes=0 if out is None else folder_bytes(out),
        name=name,
        version=version,
        folder=folder,
    )


def _published(registry: Registry, name: str | None, adapter: Adapter) -> tuple[str, str]:
    """Register an adapter as `name`, if that is set; return its version and folder."""
    if name is None:
        return "", ""
    version = publish(registry, name, adapter).version
    return version, str(registry.folder(name, version))
