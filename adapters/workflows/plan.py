"""The plan of a run: its resolved options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..discovery import default_strategy, find_plugin, strategy_class
from ..errors import OptionError, named, unknown
from ..options import Option, build, options, plain
from ..settings import BaseOptions, DataOptions, SavingOptions, TrainingOptions
from ..store.registry import check_name
from ..strategy import Strategy
from ..tasks import TASKS, Task, task_class

if TYPE_CHECKING:
    pass

T = TypeVar("T")


SECTIONS = (BaseOptions, DataOptions, TrainingOptions, SavingOptions)


RATE, AUTO = "learning_rate", "auto"


RUN_KEYS = ("strategy", "task", "name")
IN_MEMORY = "in_memory"
"""The key of run.yaml for rows that came from no file: rows and SHA-256 by split."""
BY_ROWS = frozenset({"num_train_epochs", "head", RATE})
"""The options whose defaults depend on the number of training rows."""
ROW_SOURCES = ("dataset", "train_file", "validation_file", "test_file")
"""The options that name rows."""


def run_options(strategy: str = "lora", task: str | None = None) -> dict[str, Option]:
    """Return every option that a run with this strategy and task takes, by name."""
    result: dict[str, Option] = {}
    tasks = [task_class(task)] if task is not None else [Task, TASKS["text-classification"], *TASKS.values()]
    for section in (strategy_class(strategy), *tasks, *SECTIONS):
        for name, option in options(section).items():
            result[name] = _merged(result[name], option) if name in result else option
    rate = result[RATE]
    return {**result, RATE: replace(rate, help=f"{rate.help}; {AUTO} searches for a good one", words=(AUTO,))}


def _merged(first: Option, second: Option) -> Option:
    """Return an option that two tasks have in common."""
    same = first.default == second.default
    return replace(
        first,
        aliases=tuple(dict.fromkeys([*first.aliases, *second.aliases])),
        default=first.default if same else None,
        help=first.help or second.help,
    )


@dataclass(frozen=True)
class Plan:
    """The resolved options of a run.

    >>> plan = ak.Plan.resolve({"strategy": "lora", "r": 4, "train_file": "reviews.csv"})
    >>> plan.strategy.r, plan.training.num_train_epochs
    (4, 5)
    >>> ak.Plan.resolve({"strategy": "lora", "rank": 4})
    Traceback (most recent call last):
    adapterkit.errors.OptionError: ...
    """

    strategy_name: str
    strategy: Strategy
    task_name: str | None  # None: inferred from the columns
    task_options: Mapping[str, Any]
    base: BaseOptions
    data: DataOptions
    training: TrainingOptions
    saving: SavingOptions = field(default_factory=SavingOptions)
    name: str | None = None
    auto_rate: bool = False  # search for a learning rate around the strategy's
    in_memory: Mapping[str, Any] | None = None  # rows and SHA-256 by split, where the rows come from no file
    by_rows: frozenset[str] = frozenset()  # options that weren't set and that the number of rows decides

    @classmethod
    def resolve(
        cls,
        values: Mapping[str, Any],
        *,
        config: Mapping[str, Any] | None = None,
        in_memory: Mapping[str, Any] | None = None,
    ) -> Plan:
        """Resolve option values by name, which override `config`; `strategy`, `task` and `name` are options too.

        Raises `OptionError` for an option that neither the run, nor its task, nor its strategy has, where `config`
        alone sets trust_remote_code (the file may be from anyone), and where the rows of `config` were in memory,
        unless `in_memory` describes rows that replace them or `values` name files.
        """
        config = _with_rows(dict(config or {}), values, in_memory)
        chosen = {**config, **values}
        strategy_name = default_strategy() if chosen.get("strategy") is None else chosen["strategy"]
        task_name = chosen.get("task")
        for key, value in (("strategy", strategy_name), ("task", task_name)):
            if value is not None and not isinstance(value, str):
                raise OptionError(f"--{key}={value!r} is not a name")
        known_options = run_options(strategy_name, task_name)
        explicit = canonical_options(values, known_options, strategy_name)
        chosen_values = {**canonical_options(config, known_options, strategy_name), **explicit}
        auto_rate = chosen_values.get(RATE) == AUTO
        by_rows = BY_ROWS - set(chosen_values) | {key for key in ("head",) if explicit.get(key) == AUTO}
        if auto_rate:
            del chosen_values[RATE]
        sections = {f.name for section in (*SECTIONS, strategy_class(strategy_name)) for f in fields(section)}

        def section_of(section: type[T]) -> T:
            field_names = {f.name for f in fields(section)}  # type: ignore[arg-type]
            return build(section, {key: value for key, value in chosen_values.items() if key in field_names})

        base = section_of(BaseOptions)
        if base.trust_remote_code and "trust_remote_code" not in explicit:
            raise OptionError("the config sets trust_remote_code, which runs code; confirm it with --trust-remote-code")
        with named(find_plugin(strategy_name).label):
            strategy = section_of(strategy_class(strategy_name))
        return cls(
            strategy_name=strategy_name,
            strategy=strategy,
            task_name=None if task_name is None else task_class(task_name).name,
            task_options={key: value for key, value in chosen_values.items() if key not in sections},
            base=base,
            data=section_of(DataOptions),
            training=section_of(TrainingOptions),
            saving=section_of(SavingOptions),
            name=None if chosen.get("name") is None else check_name(str(chosen["name"])),
            auto_rate=auto_rate,
            in_memory=in_memory,
            by_rows=by_rows,
        )

    def values(self) -> dict[str, Any]:
        """Return the plan as the option values of run.yaml, without those that are None or empty.

        The options of checkpoints and trackers are not part of it.
        """
        parts: dict[str, Any] = {"name": self.name, "task": self.task_name, "strategy": self.strategy_name}
        for section in (
            plain(self.base),
            plain(self.data),
            self.task_options,
            plain(self.strategy),
            plain(self.training),
        ):
            parts.update(section)
        if self.auto_rate:
            parts[RATE] = AUTO
        if self.in_memory:
            parts[IN_MEMORY] = dict(self.in_memory)
        return {key: value for key, value in parts.items() if value not in (None, [])}


def _with_rows(
    config: dict[str, Any], values: Mapping[str, Any], in_memory: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return a config without the options of its rows if `values` or `in_memory` replace them."""
    recorded, flags = config.pop(IN_MEMORY, None), [key for key in ROW_SOURCES if values.get(key) is not None]
    if in_memory is not None and flags:
        raise OptionError(f"train= (rows in memory) and {flags[0]}={values[flags[0]]!r}: give one of them")
    if in_memory is not None:
        return {key: value for key, value in config.items() if key not in (*ROW_SOURCES, "dataset_config_name")}
    if recorded is not None and not flags:
        raise OptionError(
            f"{memory_text(recorded)}, so the options alone can't repeat the run; give the same rows "
            "with --train-file FILE, or in Python with adapterkit.run(config=..., train=...)"
        )
    return config


def memory_text(recorded: Any) -> str:
    """Describe rows that a run.yaml, which may be anyone's, records as rows in memory."""
    splits = recorded.items() if isinstance(recorded, Mapping) else ()
    each = [
        f"{split} {s.get('rows')} rows, SHA-256 {str(s.get('sha256'))[:12]}"
        for split, s in splits
        if isinstance(s, Mapping)
    ]
    return f"the rows of this run were in memory ({'; '.join(each) or 'none recorded'})"


def canonical_options(values: Mapping[str, Any], known_options: Mapping[str, Option], strategy: str) -> dict[str, Any]:
    """Return option values by the options' own names, whichever spelling was used."""
    names = {name: name for name in known_options}
    names |= {alias.lstrip("-").replace("-", "_"): o.name for o in known_options.values() for alias in o.aliases}
    result = {}
    for key, value in values.items():
        plain_key = key.replace("-", "_")
        if plain_key in RUN_KEYS:
            continue
        if plain_key not in names:
            raise OptionError(unknown(f"option of a run with strategy {strategy}", key, {*names, *RUN_KEYS}))
        result[names[plain_key]] = value
    return result


def run_yaml(values: Mapping[str, Any]) -> bytes:
    """Return option values as a file for --config."""
    import yaml

    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    rows = " and --train-file with the rows that were in memory" if IN_MEMORY in values else ""
    return (f"# adapt run --config with this file{rows} trains the same adapter again\n" + text).encode()
