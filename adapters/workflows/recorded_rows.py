"""The rows that an adapter was measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import DataError
from ..settings import RUN_FILE
from ..store.registry import Registry
from ..watch import Watch

if TYPE_CHECKING:
    from ..data.splits import Splits
    from ..tasks import Task


def own_rows(where: Registry, name: str, task: Task, watch: Watch) -> Splits:
    """Return the rows of an adapter's own run, its files found from here or from the registry's folder."""
    from ..options import build, options
    from ..settings import DataOptions, TrainingOptions
    from ..workflows.run import own_splits
    from .config_file import read_run
    from .plan import IN_MEMORY, memory_text

    run_file = where.folder(*where.resolve(name)) / RUN_FILE
    if not run_file.exists():
        raise DataError(f"'{name}' comes from no run that names its data; give rows by file")
    values = read_run(run_file)
    if IN_MEMORY in values:
        raise DataError(f"'{name}': {memory_text(values[IN_MEMORY])}; give rows by file")
    own = {key: values[key] for key in options(DataOptions) if key in values}
    for key in ("dataset", "train_file", "validation_file", "test_file"):
        if isinstance(own.get(key), str):
            own[key] = where.locate(own[key])
    seed = build(TrainingOptions, {key: value for key, value in values.items() if key == "seed"}).seed
    return own_splits(build(DataOptions, own), seed, task, watch)
