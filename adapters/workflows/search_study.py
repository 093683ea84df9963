"""A study: a folder with Optuna's journal, a description, a table of trials, and the best trial's options.

Values are chosen four trials at a time, by the trials before these four alone, whatever the number of processes that
train them; so a study doesn't depend on it, and an interrupted one resumes as if it had not been.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock

from ..errors import AdapterkitError, OptionError, unknown
from ..io.atomic import json_bytes, write_file
from ..options import plain
from ..watch import Watch
from .run import RunSetup
from .search_space import Choices, Space, text_of
from .search_trial import Attempt, optuna_installed, sampled

STUDY, JOURNAL, TABLE, LOCK = "study.json", "journal.log", "trials.csv", ".lock"
AT_A_TIME = 4
"""Trials whose values are chosen at a time, and which can be trained at once."""

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


class SearchStudy:
    """The trials of a plan, in a folder."""

    def __init__(self, path: Path, on: RunSetup, spaces: dict[str, Space]) -> None:
        self.path, self.on, self.plan, self.spaces = path, on, on.plan, spaces
        self.error: AdapterkitError | None = None
        """Why it has ended before its trials, where it has."""
        self.exhausted = False
        """Whether each combination was tried."""
        _check_same(path, on, {name: str(space) for name, space in spaces.items()})
        self._study = _opened(path, on)

    def records(self) -> list[Any]:
        """Return Optuna's records of completed and pruned trials, in order."""
        states = optuna_installed().trial.TrialState
        return list(self._study.get_trials(states=(states.COMPLETE, states.PRUNED)))

    def trials(self) -> list[Trial]:
        """Return the completed and pruned trials, in order."""
        return [self._trial(number, record) for number, record in enumerate(self.records(), start=1)]

    def round(self, trials: int) -> list[Attempt]:
        """Return what is left of the trials whose values are chosen at a time, of `trials` in all."""
        records = self.records()
        begin = len(records) - len(records) % AT_A_TIME
        chosen = [record.params for record in records]
        attempts = []
        for number in range(len(records), min(begin + AT_A_TIME, trials)):
            fixed = self._fixed(chosen, trials)
            if fixed is None:
                self.exhausted = True
                break
            seed = (self.plan.training.seed * 1_000_003 + number) % (1 << 32)
            lower = self.on.task.lower_is_better
            params = sampled(seed, records[:begin], chosen[begin:], fixed, self.spaces, lower=lower)
            again = chosen.index(params) if params in chosen else None
            attempts.append(Attempt(number, params, records[:begin], again))
            chosen.append(params)
        return attempts

    def _fixed(self, chosen: Sequence[Mapping[str, Any]], trials: int) -> dict[str, Any] | None:
        """Return the prescribed values of the trial after those `chosen`; None where no combination is left.

        The first trial has the plan's values; where there are few combinations, each is tried once.
        """
        values = {**plain(self.plan.strategy), **plain(self.plan.training)}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        plan_values = {n: v for n, space in self.spaces.items() if (v := space.stored(values[n])) is not None}
        choices = [
            [space.stored(v) for v in space.values] for space in self.spaces.values() if isinstance(space, Choices)
        ]
        if len(choices) < len(self.spaces) or math.prod(map(len, choices)) > trials:
            return {} if chosen else plan_values
        combinations = [dict(zip(self.spaces, each, strict=True)) for each in itertools.product(*choices)]
        random.Random(self.plan.training.seed).shuffle(combinations)
        left = [each for each in combinations if each not in chosen]
        return min(left, key=lambda each: sum(each[name] != value for name, value in plan_values.items()), default=None)

    def add(self, record: Any) -> Trial:
        """Add a trial's record to the journal, and write the table."""
        self._study.add_trial(record)
        trials = self.trials()
        self.write_table(trials)
        return trials[-1]

    def add_again(self, number: int) -> Trial:
        """Add a trial with the values of one before."""
        before = self.records()[number]
        same = ("state", "value", "params", "distributions", "system_attrs", "intermediate_values")
        again = {name: getattr(before, name) for name in same}
        attributes = {**before.user_attrs, "seconds": 0.0}
        return self.add(optuna_installed().trial.create_trial(**again, user_attrs=attributes))

    def ranked(self) -> list[Trial]:
        """Return the trials, best first, as in the table from now on."""
        sign = 1 if self.on.task.lower_is_better else -1
        order = {"done": 0, "pruned": 1, "failed": 2}
        ranked = sorted(self.trials(), key=lambda t: (order[t.state], sign * (t.score or 0.0), t.number))
        self.write_table(ranked)
        return ranked

    def write_table(self, trials: Sequence[Trial]) -> None:
        """Write the table of trials as csv."""
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["trial", "state", self.on.task.best, *self.spaces, "epoch", "seconds", "why"])
        for t in trials:
            values = [text_of(t.values[name]) for name in self.spaces]
            table.writerow([t.number, t.state, t.score, *values, t.epoch, round(t.seconds, 2), t.why])
        write_file(self.path / TABLE, out.getvalue().encode())

    def _trial(self, number: int, record: Any) -> Trial:
        about, last = record.user_attrs, record.last_step
        done = record.state == optuna_installed().trial.TrialState.COMPLETE
        score = record.value if done else None if last is None or "why" in about else record.intermediate_values[last]
        state: State = "done" if done else "failed" if "why" in about else "pruned"
        values = {name: space.value(record.params[name]) for name, space in self.spaces.items()}
        return Trial(number, state, score, values, about.get("epoch"), about["seconds"], about.get("why", ""))


Task = tuple[SearchStudy, Attempt]


def search(
    studies: Sequence[SearchStudy],
    trials: int,
    results: Callable[[Iterable[Task]], Iterator[Any]],
    *,
    until: float = math.inf,
    watch: Watch | None = None,
) -> None:
    """Run the trials of studies, of each up to `trials` in all, a round of all of them at a time.

    `results` yields Optuna's record of each task in turn, or an error of adapterkit, which ends its study. No task but
    the first of a study begins after the time `until` (of `time.monotonic`).
    """
    watch = watch or Watch()

    def in_time(tasks: Iterable[Task]) -> Iterator[Task]:
        for study, attempt in tasks:
            if attempt.number and time.monotonic() >= until:
                return
            yield study, attempt

    while tasks := [(s, attempt) for s in studies if s.error is None for attempt in s.round(trials)]:
        done = results(in_time([task for task in tasks if task[1].repeats is None]))
        for study, attempt in tasks:
            record = None
            if attempt.repeats is None and (record := next(done, None)) is None:
                return
            if study.error is not None:
                continue
            if isinstance(record, AdapterkitError):
                study.error = record
                continue
            trial = study.add(record) if attempt.repeats is None else study.add_again(attempt.repeats)
            topic = f"trial {attempt.number + 1}/{trials}"
            named = f"{study.plan.strategy_name}, {topic}" if len(studies) > 1 else topic
            watch.note(named, line_of_trial(trial, study.on.task.best))
        next(done, None)  # there is none: ends the iterator, so that the processes stay for the next round


def line_of_trial(trial: Trial, metric: str) -> str:
    """Describe a trial and its result in a line."""
    values = ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={text_of(value)}"
        for name, value in trial.values.items()
    )
    result = f"{metric} {trial.score:.4f}" if trial.score is not None else trial.why
    return f"{values}: {result}{', stopped early' if trial.state == 'pruned' else ''} ({trial.seconds:.1f} s)"


# ---- the folder


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


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock a study against other processes."""
    try:
        with filelock.FileLock(path / LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise OptionError(f"another process is running study '{path}'; wait for it, or choose another --name") from None


def _check_same(path: Path, on: RunSetup, search: dict[str, str]) -> None:
    """Write the description of a new study; raise `OptionError` where an existing one differs from it."""
    of = {
        "options": {key: value for key, value in on.plan.values().items() if key != "name"},
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


def _opened(path: Path, on: RunSetup) -> Any:
    """Open Optuna's journal, without an incomplete last line, which a full disk or a crash leaves."""
    optuna, journal = optuna_installed(), path / JOURNAL
    if journal.exists():
        data = journal.read_bytes()
        if not data.endswith(b"\n"):
            write_file(journal, data[: data.rfind(b"\n") + 1])
    storage = optuna.storages.journal
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(storage.JournalFileBackend(str(journal))),
        study_name=on.name,
        direction="minimize" if on.task.lower_is_better else "maximize",
        load_if_exists=True,
    )
