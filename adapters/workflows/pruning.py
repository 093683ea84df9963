"""End a trial of a search early, once an epoch shows that it is among the worse ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..watch import Watch


class Epochs(Watch):
    """Report every epoch to Optuna and stop a trial that it prunes; bars are drawn, remarks are dropped."""

    def __init__(self, watch: Watch, trial: Any, metric: str, stop: type[Exception]) -> None:
        self._watch, self._trial, self._metric, self._stop = watch, trial, metric, stop

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        """Draw a bar with the other watch."""
        with self._watch.bar(title, total) as bar:
            yield bar

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        """Report an epoch, and raise Optuna's exception where the trial is pruned."""
        if number == 0:  # the start, which a trial isn't pruned by
            return
        self._trial.report(metrics[self._metric], number)
        if number < of and self._trial.should_prune():
            raise self._stop
