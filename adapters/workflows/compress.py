"""Compress a registered adapter, measure it before and after, and register the result: what `adapt compress` runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..convert.compress import check_kinds, compress_and_measure
from ..data import splits as data
from ..settings import REMARKS_FILE, RUN_FILE, DataOptions, check_encoding
from ..store.publish import publish
from ..store.registry import Registry, check_name
from ..watch import Watch
from .recorded_rows import own_rows
from .registered import load_base
from .usable_rows import select_usable

if TYPE_CHECKING:
    from datasets import Dataset

    from ..adapter.adapter import Adapter


@dataclass(frozen=True)
class Compressed:
    """A registered adapter in an encoding."""

    name: str
    version: str
    folder: str
    encoding: dict[str, Any]  # its name, and bytes and metrics before and after
    nbytes: int  # of its tensors
    base_bytes: int
    best: str  # the metric of the task that chooses an epoch

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"name": self.name, "version": self.version, "folder": self.folder, **self.encoding}


def compress_adapter(
    registry: Registry,
    name: str,
    encoding: str,
    *,
    to: str | None = None,
    train_file: str | None = None,
    test_file: str | None = None,
    base: str | None = None,
    watch: Watch | None = None,
) -> Compressed:
    """Save NAME or NAME@VERSION in an encoding, registered as `to` or as a new version of NAME.

    It is measured before and after on the rows of its run, or on `test_file`; 1bit is fitted on the run's training
    rows, or on `train_file`. Raises `NothingToGain` where it would be no smaller.
    """
    watch = watch or Watch()
    check_encoding(encoding)
    name, version = registry.resolve(name)
    reference = f"{name}@{version}"
    target = name if to is None else check_name(to)
    adapter = registry.load(reference)
    check_kinds(adapter, encoding)
    registry.prepare()
    splits = _rows(registry, reference, adapter, train_file, test_file, watch)
    on = load_base(registry, adapter, base)
    about = {"compressed_from": {"name": name, "version": version}}
    encoded = compress_and_measure(on, adapter, encoding, splits, about=about, watch=watch)
    files = [registry.folder(name, version) / file for file in (RUN_FILE, REMARKS_FILE)]
    done = publish(registry, target, encoded, beside={p.name: p.read_bytes() for p in files if p.exists()})
    place = str(registry.folder(target, done.version))
    return Compressed(
        name=target,
        version=done.version,
        folder=place,
        encoding=encoded.manifest["encoding"],
        nbytes=done.nbytes,
        base_bytes=on.nbytes,
        best=adapter.task.best,
    )


def _rows(
    registry: Registry, reference: str, adapter: Adapter, train_file: str | None, test_file: str | None, watch: Watch
) -> dict[str, Dataset]:
    """Return the rows of an adapter's run by split, with those of the files instead where they are set."""
    task = adapter.task
    task.check_named()
    files = {
        "train": (train_file, DataOptions(train_file=train_file)),
        "test": (test_file, DataOptions(test_file=test_file)),
    }
    sets: dict[str, Dataset] = {}
    if train_file is None or test_file is None:
        sets |= own_rows(registry, reference, adapter, watch).sets
    for split, (path, options) in files.items():
        if path is not None:
            splits = data.load(options, watch, task.name)
            select_usable(splits, task, options)
            sets[split] = splits[split]
    return sets
