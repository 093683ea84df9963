"""The rows that an adapter was trained and evaluated on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import DataError
from ..settings import RUN_FILE
from ..store.registry import Registry
from ..watch import Watch

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter
    from ..data.splits import Splits


def own_rows(registry: Registry, name: str, adapter: Adapter, watch: Watch) -> Splits:
    """Return the rows of an adapter's run, split as then; paths are relative to here or to the registry's folder."""
    from ..options import build, options
    from ..settings import DataOptions, TrainingOptions
    from .config_file import read_run
    from .plan import IN_MEMORY, memory_text
    from .run_rows import load_run_splits

    run_file = registry.folder(*registry.resolve(name)) / RUN_FILE
    if not run_file.exists():
        raise DataError(f"'{name}' comes from no run that names its data; give rows by file")
    values = read_run(run_file)
    if IN_MEMORY in values:
        raise DataError(f"'{name}': {memory_text(values[IN_MEMORY])}; give rows by file")
    selected = {key: values[key] for key in options(DataOptions) if key in values}
    for key in ("dataset", "train_file", "validation_file", "test_file"):
        if isinstance(selected.get(key), str):
            selected[key] = registry.locate(selected[key])
    seed = build(TrainingOptions, {key: value for key, value in values.items() if key == "seed"}).seed
    described = adapter.manifest.get("data", {}).get("splits", {})
    return load_run_splits(build(DataOptions, selected), seed, adapter.task, watch, described)
