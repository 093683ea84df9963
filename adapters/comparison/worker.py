"""What a process of a comparison does: it opens the study once, trains strategies and measures adapters."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ..errors import AdapterkitError
from ..execution.stop_signals import StoppedError
from ..options import plain
from ..report.evaluated import measured_of
from ..report.results import Candidate, Costs, Tried
from ..watch import Watch
from ..workflows.plan import Plan
from ..workflows.row_defaults import with_row_defaults
from ..workflows.run import RunSetup, prepare_run
from ..workflows.run_command import run_command
from ..workflows.search_space import read_search, with_values
from ..workflows.search_trial import Attempt, train_attempt
from .entries import Entry, Options
from .measure import measured_values
from .plans import Plans, plans_of, with_seed
from .trials import MEASURED, Study, Trial
from .verdict import mean_draws, mean_measured

Done = tuple[Any, list[tuple[str, str]]]
"""The result of a task, and the remarks that it made in another process."""


@dataclass
class StudyWorker:
    """Opens a study in another process, which reads the rows and loads the base."""

    imports: ClassVar[tuple[str, ...]] = (
        *("adapterkit.base.base", "adapterkit.training.train", "adapterkit.pool.pool"),
        *("datasets", "pandas", "peft", "sklearn.metrics"),
    )
    """What processes import when they train, and a server of forks imports once for all of them."""

    values: dict[str, Any]
    config: dict[str, Any]
    path: Path
    options: Options
    until: float  # of time.time

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[Any], Done]]:
        """Yield the function of a task, such as `TrainStrategy`."""
        plans, notes = plans_of(self.values, self.options.strategies, self.config), _Notes()
        on = prepare_run(plans.first, watch=Watch())
        study = new_study(self.path, on, notes, self.until - time.time())
        yield lambda task: (task(study, plans, self.options), notes.collected())


@contextlib.contextmanager
def study_here(study: Study, plans: Plans, options: Options) -> Iterator[Callable[[Any], Done]]:
    """Yield the function of a task in this process, where remarks are made at once."""
    yield lambda task: (task(study, plans, options), [])


def new_study(path: Path, on: RunSetup, watch: Watch, seconds: float) -> Study:
    """Return a study whose trainings share hidden states and begin within so many seconds."""
    from ..features.shared_states import SharedStates
    from ..training.trunk_cache import memory_for_cache

    return Study(path, on, SharedStates(memory_for_cache(on.plan.training)), watch, time.monotonic() + seconds)


class _Notes(Watch):
    """Collects remarks."""

    def __init__(self) -> None:
        self._notes: list[tuple[str, str]] = []

    def note(self, topic: str, text: str) -> None:
        self._notes.append((topic, text))

    def collected(self) -> list[tuple[str, str]]:
        """Return the remarks since the last call."""
        notes, self._notes = self._notes, []
        return notes


def default_plan(study: Study, plans: Plans, strategy: str) -> Plan:
    """Return the plan of a strategy at its defaults for the study's rows."""
    on = study.on
    plan, _ = with_row_defaults(plans.plans[strategy], on.task, len(on.splits["train"]), on.base)
    return replace(plan, name=None, task_name=on.task.name, task_options=on.task.recorded())


@dataclass(frozen=True)
class TrainDefault:
    """Train a strategy at its defaults."""

    strategy: str

    def __call__(self, study: Study, plans: Plans, options: Options) -> Trial:
        """Return the trial, whose adapter is in the study's folder."""
        return study.trial(default_plan(study, plans, self.strategy))


@dataclass(frozen=True)
class TryOptions:
    """Train a strategy with options of a search."""

    strategy: str
    search: dict[str, str]
    attempt: Attempt

    def __call__(self, study: Study, plans: Plans, options: Options) -> Any:
        """Return Optuna's record, or the error that ends the strategy's search."""
        plan, on = default_plan(study, plans, self.strategy), study.on
        try:
            spaces = read_search(plan, self.search)
            return train_attempt(on, plan, spaces, self.attempt, shared=study.shared, watch=study.watch)
        except StoppedError:
            raise
        except AdapterkitError as error:
            return error


@dataclass(frozen=True)
class TrainStrategy:
    """Train a strategy with every seed, at its defaults or with the best options of its search, whichever is better."""

    strategy: str
    tried: tuple[Tried, ...] = ()  # best first

    def __call__(self, study: Study, plans: Plans, options: Options) -> Entry:
        """Return the strategy's entry of the table; its trials are in the study's folder."""
        plan = default_plan(study, plans, self.strategy)
        first = study.trial(plan, again=bool(options.trials))
        if self.tried and self.tried[0].state == "done":
            plan, first = _better(study, plan, first, self.tried[0].options)
        trials = [first, *(study.trial(with_seed(plan, plan.training.seed + k)) for k in range(1, options.seeds))]
        return _entry(study, plan, [t for t in trials if not t.error] or trials[:1], list(self.tried))


@dataclass(frozen=True)
class MeasureTrial:
    """Measure an adapter on the last rows, which writes the values beside it; the result is the error, or empty."""

    trial: Trial
    split: str

    def __call__(self, study: Study, plans: Plans, options: Options) -> str:
        """Return why the adapter can't be measured, or an empty text."""
        try:
            study.measured(self.trial, MEASURED, lambda adapter: measured_values(study, adapter, self.split))
        except StoppedError:
            raise
        except (AdapterkitError, RuntimeError, MemoryError) as error:
            return " ".join(str(error).split())[:300]
        return ""


def _better(study: Study, plan: Plan, first: Trial, values: dict[str, Any]) -> tuple[Plan, Trial]:
    """Return the plan and the trial that are better on the validation rows: at the defaults, or with other values."""
    best = with_values(plan, values)
    trial = study.trial(best, again=best == plan)
    if trial.error:
        return plan, first
    sign, metric = 1 if study.on.task.lower_is_better else -1, study.on.task.best
    better = sign * trial.metrics[metric] < sign * first.metrics[metric]
    return (best, trial) if better else (plan, first)


def _entry(study: Study, plan: Plan, trials: list[Trial], tried: list[Tried]) -> Entry:
    first = trials[0]
    candidate = Candidate(
        plan.strategy_name, "strategy", first.error, run_command(plan), options=plain(plan.strategy), trials=tried
    )
    if first.error:
        return Entry(candidate, [], {})
    count = len(trials)
    candidate.seeds = [trial.seed for trial in trials]
    candidate.metrics["validation"] = measured_of(mean_measured([trial.metrics for trial in trials]))
    candidate.history = first.history
    candidate.costs = Costs(
        seconds=sum(t.seconds for t in trials) / count,
        saved=sum(t.saved for t in trials) / count,
        memory=max(t.memory for t in trials),
        bytes=first.nbytes,
        parameters=first.parameters,
    )
    return Entry(candidate, trials, {"validation": mean_draws([trial.draws for trial in trials])})


def line_of(candidate: Candidate, metric: str) -> str:
    """Describe a candidate's results on the validation rows in a line."""
    if candidate.error:
        return f"failed: {candidate.error}"
    measured, costs = candidate.metrics["validation"], candidate.costs
    return f"{metric} {measured.values[metric]:.4f} on {measured.n:,} validation rows, {costs.seconds or 0:.1f} s"
