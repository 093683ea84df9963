"""Compare strategies on the same rows: train each, choose on the validation rows, measure the test rows once.

A comparison is a folder of trials. Rows are read and tokenized once, the base stays in memory, and hidden states of
frozen layers are shared. Intervals of differences are over the same resamples of the rows (paired bootstrap).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from ..errors import AdapterkitError, OptionError
from ..io.atomic import check_writable, write_file
from ..options import plain
from ..report.evaluated import measured_of
from ..report.results import Candidate, Costs, Difference, Results, Tried
from ..settings import RUN_FILE
from ..store.registry import Registry, check_name
from ..watch import Watch
from ..workflows.plan import Plan, run_yaml
from ..workflows.remarks import remarks_file
from ..workflows.row_defaults import with_row_defaults
from ..workflows.run import RunSetup, prepare_run
from ..workflows.run_command import run_command
from ..workflows.search_space import with_values
from .entries import Entry, Options
from .measure import measure_last, ran, rows_of
from .plans import Plans, plans_of, with_seed
from .trials import Study, Trial
from .verdict import difference, mean_draws, mean_measured, ranked, recommended, sentences

if TYPE_CHECKING:
    from ..base.base import Base
    from ..cluster import Executor
    from ..data.splits import Splits

RESULTS = "results.json"
_LOCK, _SUFFIX = ".lock", "-comparison"


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
    trains what is left. Over an `executor` of several processes, each of them trains strategies, and their measuring is
    here. Raises `OptionError`, and what reading the rows and loading the base raise; what a strategy
    raises is its row's error.
    """
    watch, options, began = watch or Watch(), options or Options(), time.monotonic()
    plans = plans_of(values, options.strategies, config)
    on = prepare_run(plans.first, base=base, splits=splits, watch=_Preparing(watch))
    if "validation" not in on.splits:
        raise OptionError("a comparison is decided on validation rows, and there are none; give --validation-file")
    name = plans.first.name or _default_name(on.splits.name)
    path = folder / name
    check_writable(path)
    with _alone(path):
        study = _study(path, on, watch, began, options)
        if executor is not None and not executor.local:
            worker = StrategyWorker(dict(values), dict(config or {}), path, options, name)
            for number, line in enumerate(executor.map(worker, plans.plans), 1):
                watch.note(f"{number}/{len(plans.plans)}", line)
        entries = [_strategy(study, plans, strategy, options, name) for strategy in [*plans.plans, *plans.errors]]
        entries += measure_last(study, entries, options)
        results = _results(study, entries, options, began)
        _register(registry, study, entries, results, options, name)
        write_file(path / RESULTS, results.encoded())
    return results


@dataclass
class StrategyWorker:
    """Trains strategies into the folder of a study, whose rows are read and whose base is loaded once."""

    values: dict[str, Any]
    config: dict[str, Any]
    path: Path
    options: Options
    name: str

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[str], str]]:
        """Yield the function that trains a strategy, with its seeds and trials, and returns a line about it."""
        began = time.monotonic()
        plans = plans_of(self.values, self.options.strategies, self.config)
        on = prepare_run(plans.first, watch=Watch())
        study = _study(self.path, on, Watch(), began, self.options)

        def train(strategy: str) -> str:
            entry = _strategy(study, plans, strategy, self.options, self.name)
            return f"{strategy}: {_line(entry.candidate, on.task.best)}"

        yield train


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


def _study(path: Path, on: RunSetup, watch: Watch, began: float, options: Options) -> Study:
    from ..features.shared_states import SharedStates
    from ..training.trunk_cache import memory_for_cache

    until = began + options.seconds if options.seconds is not None else float("inf")
    return Study(path, on, SharedStates(memory_for_cache(on.plan.training)), watch, until)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock a study against other processes."""
    try:
        with filelock.FileLock(path / _LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise OptionError(f"another process is running '{path}'; wait for it, or choose another --name") from None


def _strategy(study: Study, plans: Plans, strategy: str, options: Options, name: str) -> Entry:
    """Train a strategy at its defaults and then tuned, with every seed; return its better choice."""
    if strategy in plans.errors:
        return Entry(Candidate(strategy, "strategy", error=plans.errors[strategy]), [], {})
    on = study.on
    plan, _ = with_row_defaults(plans.plans[strategy], on.task, len(on.splits["train"]), on.base)
    plan = replace(plan, name=None, task_name=on.task.name, task_options=on.task.recorded())
    first = study.trial(plan)
    tried: list[Tried] = []
    if options.trials and not first.error:
        plan, first, tried = _tuned(study, plan, first, options, name)
    trials = [first, *(study.trial(with_seed(plan, plan.training.seed + k)) for k in range(1, options.seeds))]
    entry = _entry(study, plan, [t for t in trials if not t.error] or trials[:1], tried)
    study.watch.note(strategy, _line(entry.candidate, on.task.best))
    return entry


def _tuned(study: Study, plan: Plan, first: Trial, options: Options, name: str) -> tuple[Plan, Trial, list[Tried]]:
    """Search options of a strategy; return the plan and trial that are better on the validation rows, and all tried."""
    from ..workflows.tune import tune

    on, task = study.on, study.on.task
    setup = replace(on, plan=plan, name=plan.strategy_name)
    try:
        tuned = tune(
            plan, study.folder / "tuning", trials=options.trials, setup=setup, shared=study.shared, until=study.until
        )
    except AdapterkitError as error:
        study.watch.note(plan.strategy_name, f"not tuned: {error}")
        return plan, first, []
    tried = [Tried(t.values, t.state, t.score, t.seconds) for t in tuned.trials]
    best = with_values(plan, tuned.trials[0].values)
    trial = study.trial(best)
    if trial.error:
        return plan, first, tried
    sign = 1 if task.lower_is_better else -1
    better = sign * trial.metrics[task.best] < sign * first.metrics[task.best]
    return (best, trial, tried) if better else (plan, first, tried)


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


def _line(candidate: Candidate, metric: str) -> str:
    """Describe a candidate's results on the validation rows in a line."""
    if candidate.error:
        return f"failed: {candidate.error}"
    measured, costs = candidate.metrics["validation"], candidate.costs
    return f"{metric} {measured.values[metric]:.4f} on {measured.n:,} validation rows, {costs.seconds or 0:.1f} s"


def _results(study: Study, entries: list[Entry], options: Options, began: float) -> Results:
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
        answer=sentences(order, task.best, split, winner, use, saved, lower=task.lower_is_better),
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
        ran=ran(on, options.command, time.monotonic() - began, on.remarks),
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
