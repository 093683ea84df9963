"""Search options of a strategy and its training: trials on one base and the same rows, scored on the validation rows.

Optuna chooses values (TPE, Bergstra et al. 2011) and prunes trials (asynchronous successive halving, Li et al. 2020,
the rule within Hyperband: of the trials that reach 1, 3, 9, ... epochs, the best third continues).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..cluster import Executor, Local, Worker
from ..errors import OptionError, TrainingError
from ..io.atomic import check_writable, write_file
from ..watch import Watch
from .plan import AUTO, Plan, run_yaml
from .run import RunSetup, prepare_run
from .run_command import run_command
from .search_space import Space, default_search, read_search, with_values
from .search_study import AT_A_TIME, SearchStudy, Task, Trial, alone, search
from .search_trial import Attempt, optuna_installed, train_attempt

if TYPE_CHECKING:
    from ..base.base import Base

BEST = "best.yaml"


@dataclass(frozen=True)
class Tuned:
    """A study: its trials, best first, and the plan with the best trial's options."""

    name: str
    folder: str
    metric: str
    search: dict[str, str]
    trials: list[Trial]
    best: Plan

    @property
    def command(self) -> str:
        """The command line that trains the best trial's adapter."""
        return run_command(self.best)

    def plain(self) -> dict[str, Any]:
        """Return the study as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        trials = [dict(vars(trial)) for trial in self.trials]
        return {**values, "trials": trials, "best": self.best.values(), "command": self.command}


def tune(
    plan: Plan,
    folder: Path,
    *,
    search: Mapping[str, str] | None = None,
    trials: int = 20,
    base: Base | None = None,
    watch: Watch | None = None,
    executor: Executor | None = None,
) -> Tuned:
    """Try values of a plan's options in `trials` trials; the study is a subfolder of `folder`.

    `search` maps names of options to choices, `4,8,16`, or a range, `1e-4..1e-2`, by default `default_search`. A study
    of the same name is resumed. Over an `executor` of several processes, four trials are trained at a time, with the
    results of one process. Raises `OptionError` where a study has other rows, base, options or search, and
    `TrainingError` where no trial was completed.
    """
    watch = watch or Watch()
    optuna_installed()
    if trials < 1:
        raise OptionError(f"--trials must be >= 1, got {trials}")
    if plan.auto_rate:
        raise OptionError(
            f"--learning-rate {AUTO} is a search by itself; in a study, give --search learning_rate=LOW..HIGH"
        )
    spaces = read_search(plan, search or default_search(plan))
    on = prepare_run(plan, base=base, watch=watch)
    path = folder / on.name
    check_writable(path)
    with alone(path):
        texts = {name: str(space) for name, space in spaces.items()}
        watch.note("search", "; ".join(f"{name} {text}" for name, text in texts.items()))
        study = SearchStudy(path, on, spaces)
        if count := len(study.records()):
            watch.note("study", f"resumed {path}: {count} of {trials} trials completed")
        executor = Local() if executor is None or base is not None else executor
        executor = executor.fitted(min(trials - count, AT_A_TIME), on.base.nbytes)
        worker: Worker[Attempt, Any] = TrialWorker(plan, texts)
        if executor.local:
            worker = functools.partial(_here, on, spaces, watch)
        _run_trials(study, trials, worker, executor, watch)
        return _finished(study, texts)


def _run_trials(
    study: SearchStudy, trials: int, worker: Worker[Attempt, Any], executor: Executor, watch: Watch
) -> None:
    def results(tasks: Iterable[Task]) -> Iterator[Any]:
        return executor.map(worker, (attempt for _, attempt in tasks))

    search([study], trials, results, watch=watch)
    if study.exhausted:
        watch.note("study", f"all {len(study.records())} combinations were tried")


def _finished(study: SearchStudy, texts: dict[str, str]) -> Tuned:
    """Write the table and the best trial's options, and return the study."""
    on, path, ranked = study.on, study.path, study.ranked()
    if ranked[0].state != "done":
        last = max(ranked, key=lambda trial: trial.number)
        raise TrainingError(f"no trial of '{path}' was completed; the last: {last.why or last.state}")
    best = replace(with_values(study.plan, {**ranked[0].values, "keep_features": True}), name=on.name)
    resolved = replace(best, task_name=on.task.name, task_options=on.task.recorded())
    write_file(path / BEST, run_yaml(resolved.values()))
    return Tuned(on.name, str(path), on.task.best, texts, ranked, best)


@dataclass(frozen=True)
class TrialWorker:
    """Trains trials in another process, which reads the rows and loads the base."""

    imports: ClassVar[tuple[str, ...]] = ("adapterkit.base.base", "adapterkit.training.train", "datasets", "optuna")
    """What processes import when they train, and a server of forks imports once for all of them."""

    plan: Plan
    search: dict[str, str]

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[Attempt], Any]]:
        """Yield the function from an attempt to Optuna's record of it."""
        on = prepare_run(self.plan)
        with _here(on, read_search(self.plan, self.search), Watch()) as result_of:
            yield result_of


@contextlib.contextmanager
def _here(on: RunSetup, spaces: Mapping[str, Space], watch: Watch) -> Iterator[Callable[[Attempt], Any]]:
    yield lambda attempt: train_attempt(on, on.plan, spaces, attempt, watch=watch)
