"""What a search tries: choices and ranges for options of a strategy and of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import OptionError
from ..options import Option, options
from .plan import OF_A_RUN, RATE, Plan, run_options, spelled


@dataclass(frozen=True)
class Choices:
    """A few values, to be taken as they are."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> None:
        """Have Optuna give a trial a value; to it, they are texts."""
        trial.suggest_categorical(name, [text_of(value) for value in self.values])

    def value(self, stored: Any) -> Any:
        """Return the value that Optuna knows as `stored`."""
        return next(value for value in self.values if text_of(value) == stored)

    def stored(self, value: Any) -> Any:
        """Return what Optuna knows a value as, or None where there is no such value."""
        return text_of(value) if value in self.values else None

    def ends(self) -> Sequence[Any]:
        """Return the values that have to be allowed."""
        return self.values

    def __str__(self) -> str:
        return ",".join(map(text_of, self.values))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, on a logarithmic scale or not."""

    low: float
    high: float
    log: bool
    whole: bool

    def suggest(self, trial: Any, name: str) -> None:
        """Have Optuna give a trial a value."""
        (trial.suggest_int if self.whole else trial.suggest_float)(name, self.low, self.high, log=self.log)

    def value(self, stored: Any) -> Any:
        """Return the value that Optuna knows as `stored`."""
        return stored

    def stored(self, value: Any) -> Any:
        """Return what Optuna knows a value as, or None where it is none of the range."""
        return value if value is not None and self.low <= value <= self.high else None

    def ends(self) -> Sequence[Any]:
        """Return the values that have to be allowed."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{':log' if self.log else ':linear'}"


Space = Choices | Range


def read_search(plan: Plan, given: Mapping[str, str]) -> dict[str, Space]:
    """Read choices and ranges for options of a plan's strategy and training, whichever spelling names them.

    Raises `OptionError` where there is no such option, or a value at an end isn't one of its.
    """
    known = run_options(plan.strategy_name, plan.task_name)
    own = {f.name for section in (plan.strategy, plan.training) for f in fields(section)} - {"seed"}
    for name in OF_A_RUN:
        if name in given:
            raise OptionError(
                f"--search {name}: all trials of a study have one {name}; run adapt tune once for each --{name} and "
                f"compare them. Can be searched: {', '.join(sorted(own))}"
            )
    found = {}
    for name, text in spelled(given, known, plan.strategy_name).items():
        if name not in own:
            why = (
                "it decides which rows are cut off" if name == "seed" else "rows, task and base are one for all trials"
            )
            raise OptionError(f"--search {name}: {why}; can be searched: {', '.join(sorted(own))}")
        found[name] = space = _read(known[name], str(text))
        for end in space.ends():
            with_values(plan, {name: end})  # which says what is wrong with it
    return found


def _read(option: Option, text: str) -> Space:
    """Read `4,8,16`, `query+value,all-linear` (a list's parts joined by +), `0..0.3`, or `1e-4..1e-2:log`."""
    where = f"--search {option.name}={text}"
    option = replace(option, words=())
    if ".." not in text:
        parts = [part.strip() for part in text.split(",")]
        values = [option.parse(part.replace("+", ",") if option.type is tuple else part) for part in parts]
        return Choices(tuple(dict.fromkeys(values)))
    body, _, scale = text.partition(":")
    if option.type not in (int, float) or scale not in ("", "log", "linear"):
        raise OptionError(f"{where}: A,B,C or, where it is a number, LOW..HIGH, LOW..HIGH:log or :linear was expected")
    low, high = (option.parse(part) for part in body.split("..", 1))
    if not low < high:
        raise OptionError(f"{where}: {low} is not below {high}")
    if scale == "log" and not low > 0:
        raise OptionError(f"{where}: a logarithmic scale begins above 0")
    wide = option.type is float and low > 0 and high >= 10 * low
    return Range(low, high, scale == "log" or (not scale and wide), option.type is int)


def default_search(plan: Plan) -> dict[str, str]:
    """Return what is searched where nothing is given: ten times up and down from the strategy's rate, and for each of
    its other options that is a number above 1, half of it, itself and its double.
    """
    rate = plan.strategy.learning_rate
    if not rate:
        raise OptionError("--learning-rate=0 has nothing around it to search; give --search learning_rate=LOW..HIGH")
    found = {RATE: f"{rate / 10:.3g}..{rate * 10:.3g}:log"}
    for name, option in options(type(plan.strategy)).items():
        value = getattr(plan.strategy, name)
        if option.type is int and value is not None and value > 1:
            found[name] = f"{value // 2},{value},{value * 2}"
    return found


def with_values(plan: Plan, values: Mapping[str, Any]) -> Plan:
    """Return a plan with other values of its strategy's and training's options."""

    def part(section: Any) -> Any:
        own = {f.name for f in fields(section)}
        return replace(section, **{key: value for key, value in values.items() if key in own})

    return replace(plan, strategy=part(plan.strategy), training=part(plan.training))


def text_of(value: Any) -> str:
    """Return a value as it is written in a search, the parts of a list joined by +."""
    return "+".join(value) if isinstance(value, tuple) else str(value)
