"""A whole run: from options to an adapter that is trained, measured, saved and registered."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..adapter.model_card import CARD, card
from ..data import splits as data
from ..data.splits import Splits
from ..discovery import default, find, strategy_class
from ..errors import OptionError, named, unknown
from ..io.atomic import json_bytes, sha256
from ..options import Option, build, options, plain
from ..runtime import processes
from ..runtime.trackers import check_trackers, tracked
from ..settings import AS_IS, RUN_FILE, BaseOptions, DataOptions, SavingOptions, TrainingOptions
from ..store.registry import Registry, check_name
from ..store.version_files import entry_of
from ..strategy import Strategy
from ..tasks import TASKS, Task, infer_task, task_class
from ..watch import Watch

if TYPE_CHECKING:
    from datasets import Dataset

    from ..adapter.adapter import Adapter
    from ..base.base import Base
    from ..training.checkpoints import Checkpoints
    from ..training.train import Trained

T = TypeVar("T")
SECTIONS = (BaseOptions, DataOptions, TrainingOptions, SavingOptions)
RATE, AUTO = "learning_rate", "auto"
_OF_A_RUN = ("strategy", "task", "name")


def run_options(strategy: str = "lora", task: str | None = None) -> dict[str, Option]:
    """Return every option that a run with this strategy and task takes, by name."""
    found: dict[str, Option] = {}
    tasks = [task_class(task)] if task is not None else [Task, TASKS["text-classification"], *TASKS.values()]
    for section in (strategy_class(strategy), *tasks, *SECTIONS):
        for name, option in options(section).items():
            found[name] = _merged(found[name], option) if name in found else option
    rate = found[RATE]
    return {**found, RATE: replace(rate, help=f"{rate.help}; {AUTO} searches for a good one", words=(AUTO,))}


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
    """What a run is to do, every option resolved."""

    strategy_name: str
    strategy: Strategy
    task_name: str | None  # None: told from the columns
    task_options: Mapping[str, Any]
    base: BaseOptions
    data: DataOptions
    training: TrainingOptions
    saving: SavingOptions = field(default_factory=SavingOptions)
    name: str | None = None
    auto_rate: bool = False  # search for a learning rate around the strategy's

    @classmethod
    def resolve(cls, values: Mapping[str, Any], *, config: Mapping[str, Any] | None = None) -> Plan:
        """Make a plan of option values by name, over those of `config`; `strategy`, `task` and `name` are options too.

        Raises `OptionError` for an option that neither the run, nor its task, nor its strategy has, and where `config`
        alone asks for a checkpoint's own code: a file may be a stranger's.
        """
        chosen = {**(config or {}), **values}
        strategy_name = default() if chosen.get("strategy") is None else chosen["strategy"]
        task_name = chosen.get("task")
        for key, value in (("strategy", strategy_name), ("task", task_name)):
            if value is not None and not isinstance(value, str):
                raise OptionError(f"--{key}={value!r} is not a name")
        known = run_options(strategy_name, task_name)
        asked = spelled(values, known, strategy_name)
        given = {**spelled(config or {}, known, strategy_name), **asked}
        auto_rate = given.get(RATE) == AUTO
        if auto_rate:
            del given[RATE]
        sections = {f.name for section in (*SECTIONS, strategy_class(strategy_name)) for f in fields(section)}

        def made(section: type[T]) -> T:
            own = {f.name for f in fields(section)}  # type: ignore[arg-type]
            return build(section, {key: value for key, value in given.items() if key in own})

        base = made(BaseOptions)
        if base.trust_remote_code and "trust_remote_code" not in asked:
            raise OptionError("the config sets trust_remote_code, which runs code: that takes --trust-remote-code, too")
        with named(find(strategy_name).who):
            strategy = made(strategy_class(strategy_name))
        return cls(
            strategy_name=strategy_name,
            strategy=strategy,
            task_name=None if task_name is None else task_class(task_name).name,
            task_options={key: value for key, value in given.items() if key not in sections},
            base=base,
            data=made(DataOptions),
            training=made(TrainingOptions),
            saving=made(SavingOptions),
            name=None if chosen.get("name") is None else check_name(str(chosen["name"])),
            auto_rate=auto_rate,
        )

    def values(self) -> dict[str, Any]:
        """Return the plan as option values, those that are None or empty left out: what run.yaml holds.

        How it is kept while it runs, and whom it tells of itself, is not part of it.
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
        return {key: value for key, value in parts.items() if value not in (None, [])}


def spelled(values: Mapping[str, Any], known: Mapping[str, Option], strategy: str) -> dict[str, Any]:
    """Return option values by the options' own names, whichever spelling was used."""
    names = {name: name for name in known}
    names |= {alias.lstrip("-").replace("-", "_"): o.name for o in known.values() for alias in o.aliases}
    found = {}
    for key, value in values.items():
        plain_key = key.replace("-", "_")
        if plain_key in _OF_A_RUN:
            continue
        if plain_key not in names:
            raise OptionError(unknown(f"option of a run with strategy {strategy}", key, {*names, *_OF_A_RUN}))
        found[names[plain_key]] = value
    return found


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    name: str
    version: str
    folder: str
    adapter: Adapter
    metrics: dict[str, dict[str, Any]]  # by split: each metric by name, n, and intervals by name
    history: list[dict[str, float]]
    trained_parameters: int
    adapter_bytes: int
    base_bytes: int
    seconds: float
    learning_rate: float  # given, or found

    def plain(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "adapter"}


@dataclass(frozen=True)
class Ready:
    """What a plan is carried out on: rows, the task as it fits them, and the base."""

    name: str
    splits: Splits
    task: Task
    base: Base


def ready(plan: Plan, *, base: Base | None = None, watch: Watch | None = None) -> Ready:
    """Read the rows of a plan, fit its task to them, and load its base, unless it is given."""
    watch = watch or Watch()
    with processes.first_of_node_first():
        splits = data.load(plan.data, watch)
    name = plan.name or check_name(_default_name(splits.name, plan.strategy_name))
    task = _task(plan, splits["train"], watch).with_columns(splits["train"].column_names)
    for split, rows in splits.sets.items():
        task.check(rows, splits.files[split])
    task = task.fit(splits["train"])
    _cut(splits, plan.data, plan.training.seed, task)
    for split, rows in splits.sets.items():
        task.check(rows, splits.files[split])
    sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in splits.sets.items())
    watch.note("data", f"{splits.name}: {sizes} rows; {task.describe_columns()}")
    for remark in splits.notes:
        watch.note("", remark)
    watch.note("task", f"{task.name}: {summary}" if (summary := task.summary()) else task.name)

    from ..base.base import Base

    if base is None:
        base = Base.load(
            plan.base.base,
            revision=plan.base.revision,
            trust_remote_code=plan.base.trust_remote_code,
            quantization=plan.base.quantization,
        )
    base = base.with_tokens(plan.base.added_tokens)
    watch.note("base", base.describe())
    task.check_base(base)
    if base.max_length and task.max_seq_length > base.max_length:
        watch.note("", f"max_seq_length={task.max_seq_length}, but the base takes {base.max_length}: that is used")
        task = replace(task, max_seq_length=base.max_length)
    shown = {k: v for k, v in plain(plan.strategy).items() if v not in (None, [])}
    shown |= {RATE: AUTO} if plan.auto_rate else {}
    watch.note("strategy", f"{plan.strategy_name}: " + ", ".join(f"{k}={v}" for k, v in shown.items()))
    return Ready(name, splits, task, base)


def run(
    plan: Plan, registry: Registry, *, base: Base | None = None, resume: bool = False, watch: Watch | None = None
) -> Report:
    """Train, measure, save and register an adapter. `base` is one that is loaded already, to share it between runs.

    With `resume`, it goes on from the newest checkpoint of the same plan, if there is one. Of several processes that a
    launcher started, each calls this; the first one writes. Raises an `AdapterkitError` that says what is wrong; then
    nothing was written.
    """
    processes.begin()
    watch = (watch or Watch()) if processes.index() == 0 else Watch()
    found = find(plan.strategy_name)
    registry.prepare()
    check_trackers(plan.saving.report_to)
    on = ready(plan, base=base, watch=watch)
    name, splits, task, base = on.name, on.splits, on.task, on.base

    from ..evaluation.evaluate import evaluate, metrics_plain
    from ..training.train import train

    about = {
        "strategy": {
            "name": found.name,
            "distribution": found.distribution,
            "version": found.version,
            "options": plain(plan.strategy),
        },
        "training": plain(plan.training),
        "data": {"name": splits.name, "splits": splits.describe()},
    }
    asked = replace(plan, name=name)
    told = {**asked.values(), "base_fingerprint": base.fingerprint}
    checkpoints = _checkpoints(asked, registry, about["data"], base, watch)
    trackers = tracked(plan.saving.report_to, registry.path.parent / "trackers", name, told, watch)
    with contextlib.closing(checkpoints), trackers as watch:
        trained = train(
            base,
            task,
            plan.strategy,
            splits.sets,
            plan.training,
            about=about,
            auto_rate=plan.auto_rate,
            checkpoints=checkpoints,
            resume=resume,
            watch=watch,
        )
        plan = replace(plan, strategy=replace(plan.strategy, learning_rate=trained.learning_rate), auto_rate=False)
        metrics = {"validation": metrics_plain(trained.validation)}
        if "test" in splits:
            size = plan.training.per_device_eval_batch_size
            measured = evaluate(base, trained.adapter, splits["test"], batch_size=size, watch=watch, deal=True)
            metrics["test"] = metrics_plain(measured.metrics)
        trained.adapter.manifest["strategy"]["options"] = plain(plan.strategy)
        trained.adapter.manifest |= {"parameters": trained.trained_parameters, "metrics": metrics}
        if plan.training.save_as != AS_IS:
            trained = processes.from_main(lambda: _encoded(plan, on, trained, watch))
            metrics = trained.adapter.manifest["metrics"]
        version, size = processes.from_main(lambda: _saved(plan, registry, on, trained, checkpoints))
        report = Report(
            name=name,
            version=version,
            folder=str(registry.folder(name, version)),
            adapter=trained.adapter,
            metrics=metrics,
            history=trained.history,
            trained_parameters=trained.trained_parameters,
            adapter_bytes=size,
            base_bytes=base.nbytes,
            seconds=trained.seconds,
            learning_rate=trained.learning_rate,
        )
        watch.result(report.plain())
    return report


def _encoded(plan: Plan, on: Ready, trained: Trained, watch: Watch) -> Trained:
    """Return what was trained in the encoding that the plan names; as it is, where there is nothing to gain."""
    from ..convert.compress import NothingToGain, compress

    try:
        adapter = compress(on.base, trained.adapter, plan.training.save_as, on.splits.sets, watch=watch)
    except NothingToGain as error:
        watch.note("encoded", f"as it is, {error}")
        return trained
    return replace(trained, adapter=adapter)


def _saved(plan: Plan, registry: Registry, on: Ready, trained: Trained, checkpoints: Checkpoints) -> tuple[str, int]:
    """Save and register what a run trained, which then needs no checkpoints; return its version and bytes."""
    resolved = replace(plan, name=on.name, task_name=on.task.name, task_options=plain(on.task))
    run_file = run_yaml(resolved.values())
    saved = register(registry, on.name, trained.adapter, run_file, seconds=round(trained.seconds, 1))
    checkpoints.finish()
    return saved


def register(registry: Registry, name: str, adapter: Adapter, run_file: bytes | None, **about: Any) -> tuple[str, int]:
    """Store an adapter as the current version of `name`; return that version and the bytes of its tensors.

    `run_file` is the run.yaml that trains it again; the registry's entry also says `about`.
    """
    from ..adapter.manifest import MANIFEST, TENSORS

    files = adapter.files()
    entry = {**entry_of(adapter.manifest, len(files[TENSORS])), "best": adapter.task.best, **about}
    files |= {CARD: card(name, files[MANIFEST]), **({} if run_file is None else {RUN_FILE: run_file})}
    return registry.add(name, files, entry), len(files[TENSORS])


def _checkpoints(plan: Plan, registry: Registry, rows: Mapping[str, Any], base: Base, watch: Watch) -> Checkpoints:
    """Return where a plan is kept while it runs: a folder of its own for its name and its options."""
    from ..training.checkpoints import RUNS, Checkpoints

    values = plan.values()
    digest = sha256(json_bytes(values))[:12]
    identity = {
        **{key: value for key, value in values.items() if key != "name"},
        "data": rows,
        "base fingerprint": base.fingerprint,
        "base dtype": str(base.model.dtype),
        "tokenizer": base.tokenizer_digest,
        "processes": processes.count(),
    }
    folder = registry.path.parent / RUNS / str(plan.name) / digest
    return Checkpoints(folder, plan.saving, json.loads(json_bytes(identity)), run_yaml(values), watch)


def own_splits(options: DataOptions, seed: int, task: Task, watch: Watch | None = None) -> Splits:
    """Return the rows of a run again, as `run` split them."""
    splits = data.load(options, watch)
    _cut(splits, options, seed, task)
    return splits


def _cut(splits: Splits, options: DataOptions, seed: int, task: Task) -> None:
    if "validation" not in splits:
        strata = task.strata(splits["train"])
        data.cut_validation(splits, options.validation_split_percentage, seed, strata)


def _task(plan: Plan, train: Dataset, watch: Watch) -> Task:
    """Make the task that the plan names, or the one that fits the first row."""
    name = plan.task_name
    if name is None:
        name = infer_task({key: value for key, value in train[0].items() if key != data.LINE})
        watch.note("task", f"{name}, told from the columns; --task chooses another")
    cls = task_class(name)
    own = {f.name for f in fields(cls)}
    for key in plan.task_options:
        if key not in own:
            raise OptionError(unknown(f"option of {name}", key, own))
    return build(cls, plan.task_options)


def _default_name(data_name: str, strategy_name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", f"{data_name}-{strategy_name}").strip("-_")[:96]


def run_yaml(values: Mapping[str, Any]) -> bytes:
    """Return option values as a file for --config."""
    import yaml

    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    return ("# adapt run --config with this file trains the same adapter again\n" + text).encode()
