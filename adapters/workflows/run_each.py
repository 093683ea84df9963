"""Train an adapter for each of many tasks in one process, on one base in memory: what `adapt run --each` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.folders import data_sets
from ..display import best_metric
from ..errors import AdapterkitError, OptionError
from ..settings import BaseOptions
from ..store.registry import Registry
from ..watch import Watch
from .config_file import read_list
from .plan import Plan
from .run import Report, load_base, run

_OF_ONE_RUN = ("train_file", "validation_file", "test_file", "dataset", "name")
"""Options that differ between the tasks, so that a flag can't hold for all of them."""


@dataclass(frozen=True)
class TaskResult:
    """The adapter of a task, or the reason why there is none."""

    task: str  # by which it is listed: the data set, or the name in the list
    error: str = ""
    name: str = ""  # of the adapter
    version: str = ""
    best: str = ""  # the metric that chose the epoch
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    adapter_bytes: int = 0
    seconds: float = 0.0

    def row(self) -> list[str]:
        """Return the result as a row of a table: task, adapter, metric, seconds of training."""
        if self.error:
            return [self.task, "failed", self.error, ""]
        return [self.task, f"{self.name}@{self.version}", best_metric(self.metrics, self.best), f"{self.seconds:.1f}"]


def tasks_in(path: Path) -> dict[str, dict[str, Any]]:
    """Return the options of each task by its name.

    `path` is a folder of data sets (folders with train files, or files of rows), or a YAML file with a list of options
    of runs. Raises `OptionError` or `DataError` where it is neither, or two tasks have one name.
    """
    if path.is_dir() or not path.exists():
        return {name: {"dataset": str(data)} for name, data in data_sets(path, "--each").items()}
    tasks: dict[str, dict[str, Any]] = {}
    for number, values in enumerate(read_list(str(path)), 1):
        name = str(next((values[key] for key in ("name", "dataset", "train_file") if values.get(key)), number))
        if name in tasks:
            raise OptionError(f"--each {path}: two entries are '{name}'; give each a name")
        tasks[name] = values
    return tasks


def run_each(
    tasks: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any],
    registry: Registry,
    *,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> list[TaskResult]:
    """Train each task as `adapt run` alone does, register it, and go on after one that fails.

    `tasks` are the options of each by name, `values` those of all, which precede, and `config` those of a file, which
    come last. A base is loaded once. Raises `OptionError` where `values` names the data of one task.
    """
    for name in _OF_ONE_RUN:
        if values.get(name) is not None:
            raise OptionError(f"--{name.replace('_', '-')} is of one run, and --each trains several")
    watch = watch or Watch()
    bases: dict[BaseOptions, Any] = {}
    results = []
    for number, (task, options) in enumerate(tasks.items(), 1):
        watch.note("each", f"{number} of {len(tasks)}: {task}")
        try:
            plan = Plan.resolve({**options, **values}, config=dict(config or {}))
            if plan.base not in bases:
                bases[plan.base] = load_base(plan)
            report = run(plan, registry, base=bases[plan.base], resume=resume, watch=watch)
        except AdapterkitError as error:
            if getattr(error, "exit_code", 2) > 2:  # a signal's
                raise
            watch.note("failed", f"{task}: {error}")
            results.append(TaskResult(task, str(error)))
            continue
        results.append(_result(task, report))
    return results


def _result(task: str, report: Report) -> TaskResult:
    return TaskResult(
        task,
        name=report.name,
        version=report.version,
        best=report.adapter.task.best,
        metrics=report.metrics,
        adapter_bytes=report.adapter_bytes,
        seconds=report.seconds,
    )
