"""The searches of a comparison's strategies, four trials of each at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..cluster import Executor, Worker
from ..errors import AdapterkitError, TrainingError
from ..report.results import Tried
from ..workflows.plan import Plan
from ..workflows.search_space import default_search, read_search
from ..workflows.search_study import SearchStudy, Task, alone, search
from ..workflows.search_trial import optuna_installed, trained_record
from .plans import Plans
from .trials import Study, Trial
from .worker import Done, TryOptions, default_plan

_FOLDER = "tuning"


def tried_options(
    study: Study, plans: Plans, firsts: Mapping[str, Trial], trials: int, worker: Worker[Any, Done], executor: Executor
) -> dict[str, tuple[Tried, ...]]:
    """Search options of each strategy in `trials` trials, of which its training at the defaults is the first.

    Returns what was tried by strategy, best first. A strategy that can't be searched is a remark.
    """
    with contextlib.ExitStack() as locks:
        studies = {}
        for name, first in firsts.items():
            try:
                studies[name] = _opened(study, default_plan(study, plans, name), first, locks)
            except AdapterkitError as error:
                study.watch.note(name, f"not tuned: {error}")
        names = {id(each): name for name, each in studies.items()}

        def results(tasks: Iterable[Task]) -> Iterator[Any]:
            attempts = (TryOptions(names[id(s)], {n: str(space) for n, space in s.spaces.items()}, a) for s, a in tasks)
            return (record for record, _ in executor.map(worker, attempts, lost=_lost))

        search(list(studies.values()), trials, results, until=study.until, watch=study.watch)
        for name, each in studies.items():
            if each.error is not None:
                study.watch.note(name, f"not tuned: {each.error}")
        return {
            name: tuple(Tried(t.values, t.state, t.score, t.seconds) for t in each.ranked())
            for name, each in studies.items()
            if each.error is None
        }


def _lost(task: TryOptions, why: str) -> Done:
    return TrainingError(why), []


def _opened(study: Study, plan: Plan, first: Trial, locks: contextlib.ExitStack) -> SearchStudy:
    """Return the study of a strategy's options, with the training at its defaults as the first trial."""
    optuna_installed()
    path = study.folder / _FOLDER / plan.strategy_name
    spaces = read_search(plan, default_search(plan))
    locks.enter_context(alone(path))
    opened = SearchStudy(path, replace(study.on, plan=plan, name=plan.strategy_name), spaces)
    if not opened.records():
        (attempt,) = opened.round(1)
        metric = study.on.task.best
        scores = [value for epoch in first.history if (value := epoch[metric]) is not None]
        lower = study.on.task.lower_is_better
        opened.add(trained_record(attempt, spaces, scores, first.metrics[metric], first.seconds, lower=lower))
    return opened
