"""Export a registered adapter for other libraries: what `adapt export` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..convert.export import check, write_model, write_peft
from ..convert.merge import check_folder
from ..errors import AdapterError, OptionError
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


@dataclass(frozen=True)
class OnnxExport:
    """A folder that `adapterkit.runtime` opens."""

    references: list[str]  # NAME@VERSION
    folder: Path
    files: list[str]
    nbytes: int

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"exported": self.references, "format": "onnx", "to": str(self.folder), "files": self.files}


def export_onnx(
    registry: Registry,
    names: Sequence[str],
    folder: Path,
    *,
    base: str | None = None,
    allow_base_mismatch: bool = False,
    watch: Watch | None = None,
) -> OnnxExport:
    """Write adapters of one base, NAME or NAME@VERSION each, to a new folder for answers without torch.

    Raises `AdapterError` where they have several bases, or the format has no such adapter.
    """
    from ..convert.onnx_export import write_onnx

    check_folder(folder)
    resolved = [registry.resolve(name) for name in dict.fromkeys(names)]
    plain = [name for name, _ in resolved]
    if twice := [name for name in plain if plain.count(name) > 1]:
        raise OptionError(f"two versions of '{twice[0]}': an export has one adapter of a name")
    adapters = {name: registry.load("@".join((name, version))) for name, version in resolved}
    bases = {adapter.manifest["base"]["fingerprint"]: name for name, adapter in adapters.items()}
    if len(bases) > 1:
        first, second = list(bases.values())[:2]
        raise AdapterError(f"'{first}' and '{second}' have different bases: an export has one")
    target = load_base(registry, next(iter(adapters.values())), base)
    watch = watch or Watch()
    moved = {
        name: on_base(name, adapter, target, allow_base_mismatch=allow_base_mismatch, watch=watch)
        for name, adapter in adapters.items()
    }
    write_onnx(target, {name: (version, moved[name]) for name, version in resolved}, folder, watch=watch)
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return OnnxExport(["@".join(reference) for reference in resolved], folder, files, folder_bytes(folder))
