"""The plans of a comparison: one for each strategy, with the same options of data, task, base and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..discovery import find_plugin, installed, unambiguous
from ..errors import AdapterkitError, OptionError
from ..store.registry import check_name
from ..workflows.plan import RATE, Plan, canonical_options, run_options
from ..workflows.run_rows import DEFAULT_PERCENTAGE


@dataclass(frozen=True)
class Plans:
    """A plan for each strategy, or the reason why it has none."""

    plans: dict[str, Plan]
    errors: dict[str, str]

    @property
    def first(self) -> Plan:
        """The plan that reads the rows for all of them."""
        return next(iter(self.plans.values()))


def plans_of(values: Mapping[str, Any], strategies: Sequence[str], config: Mapping[str, Any] | None = None) -> Plans:
    """Resolve the plans of strategies, by default of all that are installed, each at its defaults.

    Options of one strategy aren't taken, because others don't have them; nor is a learning rate, which means another
    thing in each. Raises `OptionError` for an unknown strategy or option.
    """
    values = {**(config or {}), **values}
    if values.get("strategy") is not None:
        raise OptionError(f"adapt compare takes --strategies {values['strategy']}, not --strategy")
    if values.get("name") is not None:
        check_name(str(values["name"]))
    if RATE in values:
        raise OptionError("--learning-rate is the strategies' own, and differs between them; --trials searches it")
    if values.get("validation_split_percentage") == 0 and not values.get("validation_file"):
        raise OptionError("--validation-split-percentage=0: a comparison is decided on validation rows; give 1 to 50")
    for name in strategies:
        find_plugin(name)  # an unknown name is an error, a broken plugin a row of the table
    plans: dict[str, Plan] = {}
    errors: dict[str, str] = {}
    for name in list(dict.fromkeys(strategies)) or unambiguous(installed()):
        try:
            plans[name] = _cut(Plan.resolve({**values, "strategy": name}))
        except AdapterkitError as error:
            errors[name] = str(error)
    if not plans:
        raise OptionError(f"none of the strategies can be used; {'; '.join(f'{n}: {e}' for n, e in errors.items())}")
    _check_common(values, plans)
    return Plans(plans, errors)


def _check_common(values: Mapping[str, Any], plans: Mapping[str, Plan]) -> None:
    """Raise `OptionError` where an option is one of a strategy alone."""
    for name, plan in plans.items():
        canonical = canonical_options(values, run_options(name, plan.task_name), name)
        fields = set(vars(plan.strategy)) - set(vars(plan.training)) - set(vars(plan.data))
        if of_strategy := sorted(set(canonical) & fields):
            raise OptionError(
                f"--{of_strategy[0].replace('_', '-')} is an option of {name} alone; adapt tune searches it"
            )


def _cut(plan: Plan) -> Plan:
    """Return the plan with the percentage of validation rows set, so that all strategies have the same rows."""
    if plan.data.validation_split_percentage is not None:
        return plan
    return replace(plan, data=replace(plan.data, validation_split_percentage=DEFAULT_PERCENTAGE))


def with_seed(plan: Plan, seed: int) -> Plan:
    """Return the plan with another random seed."""
    return replace(plan, training=replace(plan.training, seed=seed))
