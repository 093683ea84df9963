"""Search options of a strategy and its training: trials on one base and the same rows, scored on the validation rows.

Optuna chooses values (TPE, Bergstra et al. 2011) and prunes trials (asynchronous successive halving, Li et al. 2020,
the rule within Hyperband: of the trials that reach 1, 3, 9, ... epochs, the best third continues). A study is a folder:
Optuna's journal, the study's description, a table of trials and the best trial's options. The next trial depends on the
seed and the completed trials alone, so an interrupted study resumes as if it had not been.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import filelock

from ..errors import OptionError, StrategyError, TrainingError, unknown
from ..execution.stop_signals import StoppedError
from ..io.atomic import check_writable, json_bytes, write_file
from ..options import plain
from ..watch import Watch
from .plan import AUTO, Plan, run_yaml
from .pruning import Epochs, halving
from .run import RunSetup, prepare_run
from .run_command import run_command
from .search_space import Choices, Space, default_search, read_search, text_of, with_values

if TYPE_CHECKING:
    from ..base.base import Base
    from ..features.shared_states import SharedStates

STUDY, JOURNAL, TABLE, BEST, LOCK = "study.json", "journal.log", "trials.csv", "best.yaml", ".lock"
_RANDOM_TRIALS = 5  # trials with random values, before the sampler uses their scores


State = Literal["done", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """A training with values of the search, and its result."""

    number: int  # in the order of the study, from 1
    state: State  # pruned: stopped early
    score: float | None  # of a pruned trial, at its last epoch
    values: dict[str, Any]
    epoch: int | None  # the best
    seconds: float
    why: str = ""


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
    setup: RunSetup | None = None,
    shared: SharedStates | None = None,
    until: float = math.inf,
    watch: Watch | None = None,
) -> Tuned:
    """Try values of a plan's options in `trials` trials; the study is a subfolder of `folder`.

    `search` maps names of options to choices, `4,8,16`, or a range, `1e-4..1e-2`, by default `default_search`. A study
    of the same name is resumed. `setup` is a prepared run of the plan, `shared` holds hidden states of trainings on its
    rows, and no trial but the first starts after the time `until` (of `time.monotonic`). Raises `OptionError` where it
    has other rows, base, options or search, and `TrainingError` where no trial was completed.
    """
    watch = watch or Watch()
    optuna = _optuna()
    if trials < 1:
        raise OptionError(f"--trials must be >= 1, got {trials}")
    if plan.auto_rate:
        raise OptionError(
            f"--learning-rate {AUTO} is a search by itself; in a study, give --search learning_rate=LOW..HIGH"
        )
    spaces = read_search(plan, search or default_search(plan))
    on = setup or prepare_run(plan, base=base, watch=watch)
    plan = on.plan
    path = folder / on.name
    check_writable(path)
    with _alone(path):
        texts = {name: str(space) for name, space in spaces.items()}
        watch.note("search", "; ".join(f"{name} {text}" for name, text in texts.items()))
        _check_same(path, plan, on, texts)
        study = _Study(optuna, _opened(optuna, path, on), plan, on, spaces, watch, shared)
        if count := len(study.over()):
            watch.note("study", f"resumed {path}: {count} of {trials} trials completed")
        while (count := len(study.over())) < trials and (not count or time.monotonic() < until):
            if (fixed := study.fixed(count, trials)) is None:
                watch.note("study", f"all {count} combinations were tried")
                break
            study.attempt(count, fixed)
            watch.note(f"trial {count + 1}/{trials}", _line(study.trials()[-1], on.task.best))
            _write_table(path, study.trials(), spaces, on.task.best)
        return _finished(study, path, texts)


def _finished(study: _Study, path: Path, search: dict[str, str]) -> Tuned:
    """Write the table and the best trial's options, and return the study."""
    on, plan, trials = study.on, study.plan, study.trials()
    sign = 1 if on.task.lower_is_better else -1
    order = {"done": 0, "pruned": 1, "failed": 2}
    ranked = sorted(trials, key=lambda t: (order[t.state], sign * (t.score or 0.0), t.number))
    _write_table(path, ranked, study.spaces, on.task.best)
    if ranked[0].state != "done":
        raise TrainingError(f"no trial of '{path}' was completed; the last: {trials[-1].why or trials[-1].state}")
    best = replace(with_values(plan, {**ranked[0].values, "keep_features": True}), name=on.name)
    resolved = replace(best, task_name=on.task.name, task_options=on.task.recorded())
    write_file(path / BEST, run_yaml(resolved.values()))
    return Tuned(on.name, str(path), on.task.best, search, ranked, best)


def load_study(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the options and the search of a study. Raises `OptionError`."""
    try:
        stored = json.loads((folder / name / STUDY).read_bytes())
        return dict(stored["options"]), dict(stored["search"])
    except OSError:
        names = sorted(p.parent.name for p in folder.glob(f"*/{STUDY}"))
        raise OptionError(unknown("study", name, names, known_as=f"in '{folder}'")) from None
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(f"'{folder / name / STUDY}' is damaged, or was not written by adapt tune: {error}") from error


@dataclass
class StudyWorker:
    """Runs a study in another process: trial after trial, so that each depends on those before as in this one."""

    folder: Path
    search: Mapping[str, str] | None
    trials: int
    watch: Watch

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[Plan], Tuned]]:
        """Yield the function from a plan to its study; a study that exists is resumed."""
        yield lambda plan: tune(plan, self.folder, search=self.search, trials=self.trials, watch=self.watch)


# ---- trials


class _Study:
    """Optuna's study of a plan, with the rows, task and base of its trials."""

    def __init__(
        self,
        optuna: Any,
        study: Any,
        plan: Plan,
        on: RunSetup,
        spaces: dict[str, Space],
        watch: Watch,
        shared: SharedStates | None,
    ) -> None:
        self.optuna, self.study = optuna, study
        self.plan, self.on, self.spaces, self.watch = plan, on, spaces, watch
        self.shared = shared
        states = optuna.trial.TrialState
        for left in study.get_trials(states=(states.RUNNING,)):  # by a process that died
            study.tell(left.number, state=states.FAIL)

    def over(self) -> list[Any]:
        """Return Optuna's records of completed and pruned trials, in order."""
        states = self.optuna.trial.TrialState
        return list(self.study.get_trials(states=(states.COMPLETE, states.PRUNED)))

    def fixed(self, count: int, trials: int) -> dict[str, Any] | None:
        """Return the prescribed values of the next trial, as Optuna stores them; None where no combination is left.

        The first trial has the plan's values; where there are few combinations, each is tried once.
        """
        values = {**plain(self.plan.strategy), **plain(self.plan.training)}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        plan_values = {n: v for n, space in self.spaces.items() if (v := space.stored(values[n])) is not None}
        choices = [
            [space.stored(v) for v in space.values] for space in self.spaces.values() if isinstance(space, Choices)
        ]
        if len(choices) < len(self.spaces) or math.prod(map(len, choices)) > trials:
            return {} if count else plan_values
        combinations = [dict(zip(self.spaces, each, strict=True)) for each in itertools.product(*choices)]
        random.Random(self.plan.training.seed).shuffle(combinations)
        tried = [trial.params for trial in self.over()]
        left = [each for each in combinations if each not in tried]
        return min(left, key=lambda each: sum(each[name] != value for name, value in plan_values.items()), default=None)

    def attempt(self, count: int, fixed: Mapping[str, Any]) -> None:
        """Run the next trial; its values depend on the seed, the completed trials and `fixed` alone."""
        states = self.optuna.trial.TrialState
        seed = (self.plan.training.seed * 1_000_003 + count) % (1 << 32)
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)
        if fixed and not self.study.get_trials(states=(states.WAITING,)):
            self.study.enqueue_trial(dict(fixed))
        trial = self.study.ask()
        for name, space in self.spaces.items():
            space.suggest(trial, name)
        again = next((t for t in self.over() if t.params == trial.params), None)
        state, score, about = self._repeated(again, trial) if again else self._trained(trial, count)
        for name, value in about.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, score, state=state)

    def _repeated(self, before: Any, trial: Any) -> tuple[Any, float | None, dict[str, Any]]:
        """Return the result of a trial with the same values."""
        for step, value in before.intermediate_values.items():
            trial.report(value, step)
        done = before.state == self.optuna.trial.TrialState.COMPLETE
        return before.state, before.value if done else None, {**before.user_attrs, "seconds": 0.0}

    def _trained(self, trial: Any, count: int) -> tuple[Any, float | None, dict[str, Any]]:
        """Train, and return the state, the score and the trial's attributes."""
        from ..training.train import train

        states, on, began = self.optuna.trial.TrialState, self.on, time.perf_counter()
        to_disk = {} if self.shared else {"keep_features": True}
        plan = with_values(self.plan, {**self.values(trial), **to_disk})
        more: dict[str, Any] = {"shared": self.shared} if self.shared else {}
        watch = Epochs(self.watch, trial, on.task.best, self.optuna.TrialPruned)
        try:
            trained = train(on.base, on.task, plan.strategy, on.splits.sets, plan.training, watch=watch, **more)
        except self.optuna.TrialPruned:
            return states.PRUNED, None, {"seconds": time.perf_counter() - began}
        except StoppedError:  # by a signal, which ends the search; the trial is run again when it resumes
            raise
        except (StrategyError, TrainingError) as error:
            if isinstance(error, StrategyError) and with_values(self.plan, self.values(trial)) == self.plan:
                self.study.tell(trial, state=states.FAIL)
                raise
            return states.PRUNED, None, {"seconds": time.perf_counter() - began, "why": str(error)}
        if not trained.losses:
            raise OptionError(
                f"{plan.strategy_name} solves a linear probe, which has no learning rate to search; "
                "--head model trains transformers' head instead"
            )
        about = {"seconds": time.perf_counter() - began, "epoch": trained.best_epoch}
        score = trained.validation.values[on.task.best]
        if not math.isfinite(score):
            return states.PRUNED, None, {**about, "why": f"{on.task.best} is {score}"}
        return states.COMPLETE, score, about

    def values(self, trial: Any) -> dict[str, Any]:
        """Return a trial's values of options."""
        return {name: space.value(trial.params[name]) for name, space in self.spaces.items()}

    def trials(self) -> list[Trial]:
        """Return the completed and pruned trials, in order."""
        return [self._trial(number, record) for number, record in enumerate(self.over(), start=1)]

    def _trial(self, number: int, record: Any) -> Trial:
        about, last = record.user_attrs, record.last_step
        done = record.state == self.optuna.trial.TrialState.COMPLETE
        score = record.value if done else None if last is None or "why" in about else record.intermediate_values[last]
        state: State = "done" if done else "failed" if "why" in about else "pruned"
        return Trial(
            number, state, score, self.values(record), about.get("epoch"), about["seconds"], about.get("why", "")
        )


# ---- the folder


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise OptionError("adapt tune requires Optuna: pip install 'adapterkit[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock a study against other processes."""
    try:
        with filelock.FileLock(path / LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise OptionError(f"another process is running study '{path}'; wait for it, or choose another --name") from None


def _check_same(path: Path, plan: Plan, on: RunSetup, search: dict[str, str]) -> None:
    """Write the description of a new study; raise `OptionError` where an existing one differs from it."""
    of = {
        "options": {key: value for key, value in plan.values().items() if key != "name"},
        "search": search,
        "base": {"fingerprint": on.base.fingerprint},
        "data": on.splits.describe(),
    }
    if not (path / STUDY).exists():
        write_file(path / STUDY, json_bytes(of))
        return
    begun = dict(zip(("options", "search"), load_study(path.parent, path.name), strict=True))
    begun |= {key: json.loads((path / STUDY).read_bytes()).get(key) for key in ("base", "data")}
    for part, now in json.loads(json_bytes(of)).items():
        for key in [*begun[part], *now]:
            if begun[part].get(key) != now.get(key):
                was, is_now = (f"{key}={v[key]}" if key in v else f"no {key}" for v in (begun[part], now))
                other = {"base": "on another base", "data": f"with other {key} rows"}
                with_what = other.get(part, f"with {was}, and this is {is_now}")
                raise OptionError(f"study '{path}' was begun {with_what}; choose another --name")


def _opened(optuna: Any, path: Path, on: RunSetup) -> Any:
    """Open Optuna's journal, without an incomplete last line, which a full disk or a crash leaves."""
    journal = path / JOURNAL
    if journal.exists():
        data = journal.read_bytes()
        if not data.endswith(b"\n"):
            write_file(journal, data[: data.rfind(b"\n") + 1])
    storage = optuna.storages.journal
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(storage.JournalFileBackend(str(journal))),
        study_name=on.name,
        direction="minimize" if on.task.lower_is_better else "maximize",
        pruner=halving(optuna),
        load_if_exists=True,
    )


def _write_table(path: Path, trials: Sequence[Trial], spaces: Mapping[str, Space], metric: str) -> None:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["trial", "state", metric, *spaces, "epoch", "seconds", "why"])
    for t in trials:
        values = [text_of(t.values[name]) for name in spaces]
        table.writerow([t.number, t.state, t.score, *values, t.epoch, round(t.seconds, 2), t.why])
    write_file(path / TABLE, out.getvalue().encode())


def _line(trial: Trial, metric: str) -> str:
    """Describe a trial and its result in a line."""
    values = ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={text_of(value)}"
        for name, value in trial.values.items()
    )
    result = f"{metric} {trial.score:.4f}" if trial.score is not None else trial.why
    return f"{values}: {result}{', stopped early' if trial.state == 'pruned' else ''} ({trial.seconds:.1f} s)"
