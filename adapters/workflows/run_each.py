"""Train an adapter for each of many tasks, here or over a cluster, on one base in memory: `adapt run --each`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..cluster import Executor, Local
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
    executor: Executor | None = None,
) -> list[TaskResult]:
    """Train each task as `adapt run` alone does, register it, and go on after one that fails.

    `tasks` are the options of each by name, `values` those of all, which precede, and `config` those of a file, which
    come last. Each process of `executor`, by default this one, loads a base once.
    Raises `OptionError` where `values` names the data of one task.
    """
    for name in _OF_ONE_RUN:
        if values.get(name) is not None:
            raise OptionError(f"--{name.replace('_', '-')} is of one run, and --each trains several")
    executor, watch = executor or Local(), watch or Watch()
    worker = TaskWorker(dict(values), dict(config or {}), registry, resume, executor.watch_of_tasks(watch))
    numbered = [(f"{number} of {len(tasks)}", *task) for number, task in enumerate(tasks.items(), 1)]
    results = []
    for result in executor.map(worker, numbered):
        results.append(result)
        if not executor.local:
            watch.note(f"{len(results)}/{len(tasks)}", ", ".join(result.row()[:3]))
    return results


@dataclass
class TaskWorker:
    """Trains tasks, of which each base is loaded once."""

    values: dict[str, Any]
    config: dict[str, Any]
    registry: Registry
    resume: bool
    watch: Watch

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[tuple[str, str, Mapping[str, Any]]], TaskResult]]:
        """Yield the function from the number, the name and the options of a task to its result."""
        yield partial(self._trained, {})

    def _trained(self, bases: dict[BaseOptions, Any], task: tuple[str, str, Mapping[str, Any]]) -> TaskResult:
        number, name, options = task
        self.watch.note("each", f"{number}: {name}")
        try:
            plan = Plan.resolve({**options, **self.values}, config=self.config)
            if plan.base not in bases:
                bases[plan.base] = load_base(plan)
            report = run(plan, self.registry, base=bases[plan.base], resume=self.resume, watch=self.watch)
        except AdapterkitError as error:
            if getattr(error, "exit_code", 2) > 2:  # a signal's
                raise
            self.watch.note("failed", f"{name}: {error}")
            return TaskResult(name, str(error))
        return _result(name, report)


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
