"""End trials of a search early: which ones, and how."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ..watch import Watch


def halving(optuna: Any) -> Any:
    """Return a pruner that continues the best third of the trials at 1, 3, 9, ... epochs.

    Optuna's HyperbandPruner chooses brackets by the numbers of trials, and counts those of a killed process, too; then
    a study that was interrupted would differ from one that was not.
    """

    class Completed:
        """A study without the trials that a killed process left."""

        def __init__(self, study: Any) -> None:
            self._study = study

        def __getattr__(self, name: str) -> Any:
            return getattr(self._study, name)

        def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[Any]:
            failed = optuna.trial.TrialState.FAIL
            return [t for t in self._study.get_trials(deepcopy=deepcopy, states=states) if t.state != failed]

    class Halving(optuna.pruners.SuccessiveHalvingPruner):  # type: ignore[misc]
        def prune(self, study: Any, trial: Any) -> bool:
            return bool(super().prune(Completed(study), trial))

    return Halving(min_resource=1, reduction_factor=3)


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
