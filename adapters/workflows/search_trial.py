"""One trial of a search, in whichever process trains it: a record of Optuna's, from those that it depends on."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, StrategyError, TrainingError
from ..execution.stop_signals import StoppedError
from ..watch import Watch
from .plan import Plan
from .pruning import Epochs
from .run import RunSetup
from .search_space import Space, with_values

if TYPE_CHECKING:
    from ..features.shared_states import SharedStates

_RANDOM_TRIALS = 5  # with random values, before the sampler uses scores


@dataclass(frozen=True)
class Attempt:
    """A trial that is to be trained."""

    number: int  # in the order of the study, from 0
    params: dict[str, Any]  # the values, as Optuna stores them
    earlier: list[Any]  # Optuna's records of the trials that it may depend on
    repeats: int | None = None  # the number of a trial with the same values


def optuna_installed() -> Any:
    """Return Optuna, which logs errors alone. Raises `OptionError` where it isn't installed."""
    try:
        import optuna
    except ImportError as error:
        raise OptionError("adapt tune requires Optuna: pip install 'adapterkit[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def sampled(
    seed: int,
    earlier: list[Any],
    beside: Sequence[Mapping[str, Any]],
    fixed: Mapping[str, Any],
    spaces: Mapping[str, Space],
    *,
    lower: bool,
) -> dict[str, Any]:
    """Return the values of a trial as Optuna stores them: `fixed`, and others by the seed and the earlier trials.

    Those `beside` it, whose scores aren't known, are taken for bad ones (the constant liar of Ginsbourger et al. 2010),
    so that it differs from them.
    """
    sampler = optuna_installed().samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS, constant_liar=True)
    study = _study_of(earlier, lower, sampler)
    for params in beside:
        _next_trial(study, params, spaces)
    return dict(_next_trial(study, fixed, spaces).params)


def train_attempt(
    on: RunSetup,
    plan: Plan,
    spaces: Mapping[str, Space],
    attempt: Attempt,
    *,
    shared: SharedStates | None = None,
    watch: Watch | None = None,
) -> Any:
    """Train a trial, and return Optuna's record of it.

    It is ended early where the earlier trials were better after as many epochs. Raises `StrategyError` where the
    strategy can't train with the plan's own values.
    """
    study = _study_of(attempt.earlier, on.task.lower_is_better)
    trial = _next_trial(study, attempt.params, spaces)
    values = {name: space.value(trial.params[name]) for name, space in spaces.items()}
    state, score, about = _trained(on, plan, values, trial, shared, watch or Watch())
    for name, value in about.items():
        trial.set_user_attr(name, value)
    study.tell(trial, score, state=state)
    return study.trials[-1]


def trained_record(
    attempt: Attempt, spaces: Mapping[str, Space], scores: Sequence[float], score: float, seconds: float, *, lower: bool
) -> Any:
    """Return Optuna's record of an attempt that was trained by other means, from its score after each epoch."""
    study = _study_of(attempt.earlier, lower)
    trial = _next_trial(study, attempt.params, spaces)
    for epoch, value in enumerate(scores, start=1):
        trial.report(value, epoch)
        trial.should_prune()  # which notes the score for those that come later
    trial.set_user_attr("seconds", seconds)
    study.tell(trial, score)
    return study.trials[-1]


def _study_of(earlier: list[Any], lower: bool, sampler: Any = None) -> Any:
    """Return a study in memory of the earlier trials."""
    optuna = optuna_installed()
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    direction = "minimize" if lower else "maximize"
    study = optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)
    study.add_trials(earlier)
    return study


def _next_trial(study: Any, params: Mapping[str, Any], spaces: Mapping[str, Space]) -> Any:
    """Begin a trial with prescribed values; the sampler chooses the others."""
    if params:
        study.enqueue_trial(dict(params))
    trial = study.ask()
    for name, space in spaces.items():
        space.suggest(trial, name)
    return trial


def _trained(
    on: RunSetup, plan: Plan, values: Mapping[str, Any], trial: Any, shared: SharedStates | None, watch: Watch
) -> tuple[Any, float | None, dict[str, Any]]:
    """Train, and return the state, the score and the trial's attributes."""
    from ..training.train import train

    optuna = optuna_installed()
    states, began = optuna.trial.TrialState, time.perf_counter()
    to_disk = {} if shared else {"keep_features": True}
    tried = with_values(plan, {**values, **to_disk})
    more: dict[str, Any] = {"shared": shared} if shared else {}
    epochs = Epochs(watch, trial, on.task.best, optuna.TrialPruned)
    try:
        trained = train(on.base, on.task, tried.strategy, on.splits.sets, tried.training, watch=epochs, **more)
    except optuna.TrialPruned:
        return states.PRUNED, None, {"seconds": time.perf_counter() - began}
    except StoppedError:  # by a signal, which ends the search; the trial is run again when it resumes
        raise
    except (StrategyError, TrainingError) as error:
        if isinstance(error, StrategyError) and with_values(plan, values) == plan:
            raise
        return states.PRUNED, None, {"seconds": time.perf_counter() - began, "why": str(error)}
    if not trained.losses:
        raise OptionError(
            f"{tried.strategy_name} solves a linear probe, which has no learning rate to search; "
            "--head model trains transformers' head instead"
        )
    about = {"seconds": time.perf_counter() - began, "epoch": trained.best_epoch}
    score = trained.validation.values[on.task.best]
    if not math.isfinite(score):
        return states.PRUNED, None, {**about, "why": f"{on.task.best} is {score}"}
    return states.COMPLETE, score, about
