"""The search space of `adapt tune`: choices and ranges for options of the strategy and of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import OptionError
from ..options import Option, options
from .plan import RATE, RUN_KEYS, Plan, canonical_options, run_options


@dataclass(frozen=True)
class Choices:
    """A set of values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> None:
        """Let Optuna choose a value for a trial, as a text."""
        trial.suggest_categorical(name, [text_of(value) for value in self.values])

    def value(self, stored: Any) -> Any:
        """Return the value that Optuna stores as `stored`."""
        return next(value for value in self.values if text_of(value) == stored)

    def stored(self, value: Any) -> Any:
        """Return how Optuna stores a value; None for a value outside the choices."""
        return text_of(value) if value in self.values else None

    def ends(self) -> Sequence[Any]:
        """Return the values to validate."""
        return self.values

    def __str__(self) -> str:
        return ",".join(map(text_of, self.values))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, on a logarithmic scale or not."""

    low: float
    high: float
    log: bool
    integer: bool

    def suggest(self, trial: Any, name: str) -> None:
        """Let Optuna choose a value for a trial."""
        (trial.suggest_int if self.integer else trial.suggest_float)(name, self.low, self.high, log=self.log)

    def value(self, stored: Any) -> Any:
        """Return the value that Optuna stores as `stored`."""
        return stored

    def stored(self, value: Any) -> Any:
        """Return how Optuna stores a value; None for a value outside the range."""
        return value if value is not None and self.low <= value <= self.high else None

    def ends(self) -> Sequence[Any]:
        """Return the values to validate."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{':log' if self.log else ':linear'}"


Space = Choices | Range


def read_search(plan: Plan, search: Mapping[str, str]) -> dict[str, Space]:
    """Parse choices and ranges for options of a plan's strategy and training, under any of their spellings.

    Raises `OptionError` for an unknown option, or a value or end of a range that it doesn't accept.
    """
    options_of_run = run_options(plan.strategy_name, plan.task_name)
    searchable = {f.name for section in (plan.strategy, plan.training) for f in fields(section)} - {"seed"}
    for name in RUN_KEYS:
        if name in search:
            raise OptionError(
                f"--search {name}: all trials of a study have one {name}; run adapt tune once for each --{name} and "
                f"compare them; can be searched: {', '.join(sorted(searchable))}"
            )
    spaces = {}
    for name, text in canonical_options(search, options_of_run, plan.strategy_name).items():
        if name not in searchable:
            why = (
                "it decides which rows are cut off"
                if name == "seed"
                else "rows, task and base are the same in all trials"
            )
            raise OptionError(f"--search {name}: {why}; can be searched: {', '.join(sorted(searchable))}")
        spaces[name] = space = _read(options_of_run[name], str(text))
        for end in space.ends():
            with_values(plan, {name: end})  # raises an error that names the fault
    return spaces


def _read(option: Option, text: str) -> Space:
    """Parse `4,8,16`, `query+value,all-linear` (a list's parts joined by +), `0..0.3`, or `1e-4..1e-2:log`."""
    flag = f"--search {option.name}={text}"
    option = replace(option, words=())
    if ".." not in text:
        parts = [part.strip() for part in text.split(",")]
        values = [option.parse(part.replace("+", ",") if option.type is tuple else part) for part in parts]
        return Choices(tuple(dict.fromkeys(values)))
    body, _, scale = text.partition(":")
    if option.type not in (int, float) or scale not in ("", "log", "linear"):
        raise OptionError(f"{flag}: expected A,B,C or, for a number, LOW..HIGH, LOW..HIGH:log or LOW..HIGH:linear")
    low, high = (option.parse(part) for part in body.split("..", 1))
    if not low < high:
        raise OptionError(f"{flag}: LOW must be < HIGH, got {low} and {high}")
    if scale == "log" and not low > 0:
        raise OptionError(f"{flag}: LOW must be > 0 on a logarithmic scale, got {low}")
    wide = option.type is float and low > 0 and high >= 10 * low
    return Range(low, high, scale == "log" or (not scale and wide), option.type is int)


def default_search(plan: Plan) -> dict[str, str]:
    """Return the default search: a tenth to ten times the strategy's rate, and half, once and twice of each of its
    options that is an integer above 1.
    """
    rate = plan.strategy.learning_rate
    if not rate:
        raise OptionError("learning_rate=0 has no default search; give --search learning_rate=LOW..HIGH")
    search = {RATE: f"{rate / 10:.3g}..{rate * 10:.3g}:log"}
    for name, option in options(type(plan.strategy)).items():
        value = getattr(plan.strategy, name)
        if option.type is int and value is not None and value > 1:
            search[name] = f"{value // 2},{value},{value * 2}"
    return search


def with_values(plan: Plan, values: Mapping[str, Any]) -> Plan:
    """Return a plan with other values of options of its strategy and training."""

    def part(section: Any) -> Any:
        names = {f.name for f in fields(section)}
        return replace(section, **{key: value for key, value in values.items() if key in names})

    return replace(plan, strategy=part(plan.strategy), training=part(plan.training))


def text_of(value: Any) -> str:
    """Format a value as in a search, the parts of a list joined by +."""
    return "+".join(value) if isinstance(value, tuple) else str(value)
