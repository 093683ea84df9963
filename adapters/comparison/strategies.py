"""Compare strategies on the same rows: train each, choose on the validation rows, measure the test rows once.

A comparison is a folder of trials. Rows are read and tokenized once, the base stays in memory, and hidden states of
frozen layers are shared. Intervals of differences are over the same resamples of the rows (paired bootstrap).
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cluster import Executor, Local, Worker
from ..errors import AdapterkitError, OptionError
from ..io.atomic import check_writable, write_file
from ..report.results import Candidate, Difference, Results, Tried
from ..settings import RUN_FILE
from ..store.registry import Registry, check_name
from ..watch import Watch
from ..workflows.plan import run_yaml
from ..workflows.remarks import remarks_file
from ..workflows.run import prepare_run
from ..workflows.search_study import AT_A_TIME, alone
from .entries import Entry, Options
from .measure import last_split, measure_baselines, measure_entry, ran, rows_of
from .plans import Plans, plans_of
from .trials import Study, Trial
from .tuning import tried_options
from .verdict import difference, ranked, recommended, sentences
from .worker import Done, MeasureTrial, StudyWorker, TrainDefault, TrainStrategy, line_of, new_study, study_here

if TYPE_CHECKING:
    from ..base.base import Base
    from ..data.splits import Splits

RESULTS = "results.json"
_SUFFIX = "-comparison"


def compare(
    values: Mapping[str, Any],
    registry: Registry,
    folder: Path,
    options: Options | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    base: Base | None = None,
    splits: Splits | None = None,
    watch: Watch | None = None,
    executor: Executor | None = None,
) -> Results:
    """Compare strategies with the options `values` of a run, and register the best adapter.

    The study is a subfolder of `folder` with the name of the data, or `values["name"]`; started again after a kill, it
    trains what is left. Over an `executor` of several processes, each of them trains strategies and measures them; what
    inference costs is measured here, at the end. Raises `OptionError`, and what reading the rows and loading the base
    raise; what a strategy raises, or that it ended its process, is its row's error.
    """
    watch, options, began = watch or Watch(), options or Options(), time.monotonic()
    plans = plans_of(values, options.strategies, config)
    on = prepare_run(plans.first, base=base, splits=splits, watch=_Preparing(watch))
    if "validation" not in on.splits:
        raise OptionError("a comparison is decided on validation rows, and there are none; give --validation-file")
    name = plans.first.name or _default_name(on.splits.name)
    path = folder / name
    check_writable(path)
    with alone(path):
        executor = Local() if executor is None or splits is not None else executor
        executor = executor.fitted(len(plans.plans) * (AT_A_TIME if options.trials else 1), on.base.nbytes)
        left = options.seconds - (time.monotonic() - began) if options.seconds is not None else float("inf")
        study = new_study(path, on, watch, left)
        worker: Worker[Any, Done] = StudyWorker(dict(values), dict(config or {}), path, options, time.time() + left)
        if executor.local:
            worker = functools.partial(study_here, study, plans, options)
        entries = _trained(study, worker, executor, plans, options)
        _measure(study, worker, executor, entries)
        entries += measure_baselines(study, options)
        results = _results(study, entries, options, began, executor.describe())
        _register(registry, study, entries, results, options, name)
        write_file(path / RESULTS, results.encoded())
    return results


def _trained(
    study: Study, worker: Worker[Any, Done], executor: Executor, plans: Plans, options: Options
) -> list[Entry]:
    """Train every strategy, and note each as it comes; return their entries in the order of the plans."""
    entries = {name: _failed(name, error) for name, error in plans.errors.items()}
    tried: Mapping[str, tuple[Tried, ...]] = {}
    if options.trials:
        firsts = _trained_at_defaults(study, worker, executor, plans)
        entries |= {name: _failed(name, first.error) for name, first in firsts.items() if first.error}
        usable = {name: first for name, first in firsts.items() if not first.error}
        tried = tried_options(study, plans, usable, options.trials, worker, executor)
    tasks = [TrainStrategy(name, tried.get(name, ())) for name in plans.plans if name not in entries]

    def lost(task: TrainStrategy, why: str) -> Done:
        return _failed(task.strategy, why), []

    with _bar(study.watch, executor, "strategies", len(tasks)) as bar:
        for entry, notes in executor.map(worker, tasks, in_order=False, lost=lost):
            entries[entry.candidate.name] = entry
            for topic, text in [*notes, (entry.candidate.name, line_of(entry.candidate, study.on.task.best))]:
                study.watch.note(topic, text)
            bar.advance()
    return [entries[name] for name in [*plans.plans, *plans.errors]]


def _trained_at_defaults(study: Study, worker: Worker[Any, Done], executor: Executor, plans: Plans) -> dict[str, Trial]:
    """Train every strategy at its defaults, before its options are searched."""
    tasks = [TrainDefault(name) for name in plans.plans]

    def lost(task: TrainDefault, why: str) -> Done:
        return Trial(task.strategy, 0, {}, error=why), []

    trials = {}
    with _bar(study.watch, executor, "strategies", len(tasks)) as bar:
        for trial, notes in executor.map(worker, tasks, in_order=False, lost=lost):
            trials[trial.strategy] = trial
            for topic, text in [*notes, *([(trial.strategy, f"failed: {trial.error}")] if trial.error else [])]:
                study.watch.note(topic, text)
            bar.advance()
    return {name: trials[name] for name in plans.plans}


def _failed(strategy: str, error: str) -> Entry:
    return Entry(Candidate(strategy, "strategy", error=error), [], {})


def _measure(study: Study, worker: Worker[Any, Done], executor: Executor, entries: list[Entry]) -> None:
    """Measure every trained candidate on the last rows; then, one after the other in this process, its inference."""
    tasks = [MeasureTrial(trial, last_split(study)) for entry in entries for trial in entry.trials]

    def lost(task: MeasureTrial, why: str) -> Done:
        return why, []

    with _bar(study.watch, executor, "measured", len(tasks)) as bar:
        errors = []
        for error, _ in executor.map(worker, tasks, lost=lost):
            errors.append(error)
            bar.advance()
    by_folder = {task.trial.folder: error for task, error in zip(tasks, errors, strict=True)}
    for entry in entries:
        error = next((text for trial in entry.trials if (text := by_folder[trial.folder])), "")
        if entry.trials and not error:
            try:
                measure_entry(study, entry)
            except (AdapterkitError, RuntimeError, MemoryError) as raised:
                error = " ".join(str(raised).split())[:300]
        if error:
            entry.candidate.error = f"trained, but can't be measured: {error}"


@contextlib.contextmanager
def _bar(watch: Watch, executor: Executor, title: str, total: int) -> Iterator[Watch]:
    """Draw a bar of tasks in other processes; tasks in this one draw their own."""
    if executor.local:
        yield Watch()
        return
    with watch.bar(title, total) as bar:
        yield bar


class _Preparing(Watch):
    """Drop the remarks on the strategy whose plan reads the rows for all of them."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.bar = watch.bar  # type: ignore[method-assign]

    def note(self, topic: str, text: str) -> None:
        if topic not in ("strategy", "epochs"):
            self.watch.note(topic, text)


def _default_name(data: str) -> str:
    return check_name(re.sub(r"[^A-Za-z0-9_-]+", "-", data).strip("-_")[:80] + _SUFFIX)


def _results(study: Study, entries: list[Entry], options: Options, began: float, trained: str) -> Results:
    on, task = study.on, study.on.task
    order = ranked([e.candidate for e in entries], task.best, lower=task.lower_is_better)
    by_name = {e.candidate.name: e for e in entries}
    best = next((c for c in order if c.kind == "strategy" and not c.error), None)
    split = "test" if "test" in on.splits else "validation"
    if best is not None:
        for entry in entries:
            entry.candidate.differences = _differences(entry, by_name[best.name], task.best)
    winner, use = recommended(order)
    saved = sum(trial.saved for entry in entries for trial in entry.trials)
    return Results(
        format=1,
        title=f"Which strategy for {on.splits.name}?",
        answer=sentences(order, task.best, split, winner, use, saved, lower=task.lower_is_better, trained=trained),
        task=task.name,
        metric=task.best,
        lower_is_better=task.lower_is_better,
        split=split,
        candidates=order,
        rows=rows_of(study, [by_name[c.name] for c in order], split),
        measured=len(on.splits[split]),
        best=winner,
        recommended=use,
        labels=[str(label) for label in getattr(task, "labels", ())],
        ran=ran(on, options.command, time.monotonic() - began, on.remarks, trained),
    )


def _differences(entry: Entry, best: Entry, metric: str) -> dict[str, Difference]:
    differences = {}
    for split, measured in entry.candidate.metrics.items():
        value, reference = measured.values.get(metric), best.candidate.metrics.get(split)
        if value is None or reference is None or reference.values.get(metric) is None:
            continue
        differences[split] = difference(
            value, entry.draws.get(split, []), reference.values[metric] or 0.0, best.draws.get(split, [])
        )
    return differences


def _register(
    registry: Registry, study: Study, entries: list[Entry], results: Results, options: Options, name: str
) -> None:
    """Register the recommended adapter, or all, under the study's name and the strategy's; each with its run.yaml."""
    from ..store.publish import publish

    if options.keep == "none":
        return
    registry.prepare()
    for entry in entries:
        candidate = entry.candidate
        if not entry.trials or (options.keep == "best" and candidate.name != results.recommended):
            continue
        trial = entry.trials[0]
        adapter = trial.adapter()
        split = results.split
        if split in candidate.metrics and split != "validation":
            measured = candidate.metrics[split]
            adapter.manifest["metrics"][split] = {
                **measured.values,
                "n": measured.n,
                "intervals": {key: list(ends) for key, ends in measured.intervals.items()},
            }
        known_as = check_name(f"{name.removesuffix(_SUFFIX)}-{candidate.name}"[:96])
        values = {"name": known_as, **{key: value for key, value in trial.options.items() if key != "name"}}
        beside = {RUN_FILE: run_yaml(values), **remarks_file(study.on.remarks)}
        published = publish(registry, known_as, adapter, beside=beside, seconds=round(trial.seconds, 1))
        candidate.registered = f"{known_as}@{published.version}"
        study.watch.note("registered", candidate.registered)
