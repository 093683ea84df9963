"""Export a registered adapter for other libraries: what `adapt export` runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..convert.export import check, write_model, write_peft
from ..convert.merge import check_folder
from ..store.registry import Registry
from ..watch import Watch
from .registered import folder_bytes, load_base, on_base


@dataclass(frozen=True)
class Exported:
    """A folder that another library reads."""

    reference: str  # NAME@VERSION
    format: str
    folder: Path
    files: list[str]
    nbytes: int
    auto_class: str  # of transformers, which loads the model; AutoModel for a head that is a probe

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"exported": self.reference, "format": self.format, "to": str(self.folder), "files": self.files}


def export_adapter(
    registry: Registry,
    name: str,
    form: str,
    folder: Path,
    *,
    base: str | None = None,
    allow_base_mismatch: bool = False,
    watch: Watch | None = None,
) -> Exported:
    """Write NAME or NAME@VERSION to a new folder as one of `convert.export.FORMATS`.

    `base` is where to load the base from if it was moved. Raises `AdapterError` where the format has no such adapter.
    """
    reference = "@".join(registry.resolve(name))
    check_folder(folder)
    adapter = registry.load(reference)
    check(adapter, form)
    if form == "peft":
        write_peft(adapter, folder, base=base, located=registry.locate(adapter.manifest["base"]["name"]))
    else:
        target = load_base(registry, adapter, base)
        adapter = on_base(reference, adapter, target, allow_base_mismatch=allow_base_mismatch, watch=watch or Watch())
        write_model(target, adapter, folder, form=form)
    files = sorted(file.name for file in folder.iterdir())
    auto_class = "AutoModel" if "probe" in adapter.manifest else adapter.task.auto_class
    return Exported(reference, form, folder, files, folder_bytes(folder), auto_class)
