"""Compare strategies on several data sets: a matrix of metrics, and the mean rank of each strategy."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.folders import data_sets
from ..errors import AdapterkitError, DataError, OptionError
from ..report.results import Results
from ..store.registry import Registry
from ..watch import Watch
from ..workflows.run import load_base
from .entries import Options
from .plans import plans_of
from .strategies import compare

if TYPE_CHECKING:
    from ..base.base import Base
    from ..cluster import Executor


@dataclass(frozen=True)
class Matrix:
    """Comparisons by data set, or the reason why there is none."""

    results: dict[str, Results]
    errors: dict[str, str]

    @property
    def names(self) -> list[str]:
        """The candidates, by mean rank."""
        ranks = self.mean_ranks()
        return sorted(ranks, key=lambda name: (ranks[name], name))

    def value(self, name: str, data: str) -> float | None:
        """Return the metric of a candidate on the last rows of a data set; None where it failed."""
        results = self.results[data]
        candidate = next((c for c in results.candidates if c.name == name), None)
        measured = None if candidate is None or candidate.error else candidate.metrics.get(results.split)
        return None if measured is None else measured.values.get(results.metric)

    def mean_ranks(self) -> dict[str, float]:
        """Return the mean over data sets of each candidate's rank, 1 for the best; equal values share a mean rank.

        A candidate that failed ranks last.
        """
        from scipy.stats import rankdata

        names = list(dict.fromkeys(c.name for results in self.results.values() for c in results.candidates))
        ranks = []
        for data, results in self.results.items():
            values = [self.value(name, data) for name in names]
            sign = 1.0 if results.lower_is_better else -1.0
            ranks.append(rankdata([np.inf if v is None else sign * v for v in values]))
        return dict(zip(names, np.mean(ranks, axis=0).tolist(), strict=True)) if ranks else {}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows for reading."""
        ranks = self.mean_ranks()
        columns = ["", "mean rank", *(f"{data} ({results.metric})" for data, results in self.results.items())]
        rows = []
        for name in self.names:
            values = [self.value(name, data) for data in self.results]
            rows.append([name, f"{ranks[name]:.2f}", *("failed" if v is None else f"{v:.3f}" for v in values)])
        return columns, rows

    def csv_text(self) -> str:
        """Return the matrix as csv."""
        out, ranks = io.StringIO(), self.mean_ranks()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["name", "mean rank", *self.results])
        for name in self.names:
            table.writerow([name, ranks[name], *(self.value(name, data) for data in self.results)])
        return out.getvalue()

    def plain(self) -> dict[str, Any]:
        """Return the matrix and each comparison as JSON values."""
        results = {data: one.plain() for data, one in self.results.items()}
        return {"mean_ranks": self.mean_ranks(), "results": results, "errors": self.errors}


def compare_tasks(
    values: Mapping[str, Any],
    registry: Registry,
    folder: Path,
    tasks: Path,
    options: Options | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    base: Base | None = None,
    watch: Watch | None = None,
    executor: Executor | None = None,
) -> Matrix:
    """Compare strategies on each data set of the folder `tasks`, each in a study of its own, on one base in memory.

    A data set that can't be read is an entry of `errors`. The time of `options` is divided equally.
    """
    options, watch = options or Options(), watch or Watch()
    for name in ("train_file", "validation_file", "test_file", "dataset", "name"):
        if values.get(name) is not None:
            raise OptionError(f"--{name.replace('_', '-')} names one data set, and --tasks several")
    paths = data_sets(tasks, "--tasks")
    plan = plans_of(values, options.strategies, config).first
    base = base or load_base(plan)
    share = None if options.seconds is None else options.seconds / len(paths)
    results: dict[str, Results] = {}
    errors: dict[str, str] = {}
    for name, path in paths.items():
        watch.note("data set", name)
        try:
            results[name] = compare(
                {**values, "dataset": str(path), "name": name},
                registry,
                folder,
                replace(options, seconds=share),
                config=config,
                base=base,
                watch=watch,
                executor=executor,
            )
        except AdapterkitError as error:
            if getattr(error, "exit_code", 2) > 2:  # a signal's
                raise
            errors[name] = str(error)
            watch.note("failed", f"{name}: {error}")
    if not results:
        raise DataError(f"--tasks {tasks}: no data set could be compared; {'; '.join(errors.values())}")
    return Matrix(results, errors)
