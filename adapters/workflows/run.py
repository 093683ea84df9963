"""A run: train, evaluate, save and register an adapter from its options."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..base.modalities import check_reads
from ..data.splits import Splits
from ..discovery import find_plugin
from ..display import best_metric, html_table, metric_rows
from ..display import size as size_text
from ..errors import RegistryError
from ..execution import processes
from ..execution.trackers import check_trackers, tracked
from ..io.atomic import json_bytes, sha256
from ..options import options, plain
from ..settings import AS_IS, RUN_FILE
from ..store.registry import Registry, check_name, check_tag
from ..tasks import Task
from ..watch import Watch
from .adapted_model import AdaptedModel
from .plan import AUTO, RATE, Plan, run_yaml
from .remarks import remarks_file, remarks_on
from .row_defaults import with_row_defaults
from .run_command import run_command
from .run_rows import run_rows

if TYPE_CHECKING:
    from datasets import Dataset

    from ..adapter.adapter import Adapter
    from ..base.base import Base
    from ..training.advice import Advice
    from ..training.checkpoints import Checkpoints
    from ..training.train import Trained


@dataclass(frozen=True)
class Report:
    """The result of a run.

    `predict` raises `DataError` for a row that lacks a column of the task.

    >>> rows = [{"text": "lovely", "label": "good"}, {"text": "awful", "label": "bad"}] * 8
    >>> report = ak.run(strategy="head-only", train=rows, base=base, name="moods", watch=None)
    >>> report.name, report.trained_parameters, report.metrics["cross-validation"]["n"]
    ('moods', 3074, 16)
    >>> report.predict("lovely")["label"]
    'good'
    """

    name: str
    version: str
    folder: str
    adapter: Adapter
    base: Base
    metrics: dict[str, dict[str, Any]]  # by split: each metric by name, n, and intervals by name
    history: list[dict[str, float]]
    trained_parameters: int
    adapter_bytes: int
    base_bytes: int
    seconds: float
    learning_rate: float  # as set, or the result of the search
    remarks: list[str] = field(default_factory=list)  # on the rows

    def plain(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("adapter", "base")}

    @property
    def model(self) -> AdaptedModel:
        """The adapter on its base, for prediction and evaluation."""
        return AdaptedModel(self.name, self.version, self.adapter, self.base)

    def predict(
        self, rows: Any, *, batch_size: int = 64, skip_bad_rows: bool = False, watch: Watch | None = None
    ) -> Any:
        """Return an answer for each text or row, as `AdaptedModel.predict` does."""
        return self.model.predict(rows, batch_size=batch_size, skip_bad_rows=skip_bad_rows, watch=watch)

    def __repr__(self) -> str:
        best = best_metric(self.metrics, self.adapter.task.best)
        return f"<Report {self.name}@{self.version}: {best}, {size_text(self.adapter_bytes)}, {self.seconds:.1f} s>"

    def _repr_html_(self) -> str:
        return html_table(repr(self)[1:-1], ["split", "metric", "value", "rows"], metric_rows(self.metrics))


@dataclass(frozen=True)
class RunSetup:
    """The inputs of a run: rows, the task fitted to them, and the base."""

    plan: Plan  # as resolved by the rows
    name: str
    splits: Splits
    task: Task
    base: Base
    remarks: list[str]  # on the rows


def prepare_run(
    plan: Plan, *, base: Base | None = None, splits: Splits | None = None, watch: Watch | None = None
) -> RunSetup:
    """Read the rows of a plan, fit its task to them, and load its base, unless `splits` and `base` hold them already.

    `splits` isn't changed where validation rows have to be cut off.
    """
    watch = watch or Watch()
    rows = run_rows(plan, splits, watch, base)
    plan, splits, task = rows.plan, rows.splits, rows.task
    name = plan.name or check_name(_default_name(splits.name, plan.strategy_name))

    base = (base or load_base(plan)).with_tokens(plan.base.added_tokens)
    watch.note("base", base.describe())
    check_reads(base, task.modality, f"task {task.name}")
    task.check_base(base)
    task = _with_length(plan, task.for_base(base), splits["train"], base, watch)
    remarks = remarks_on(task, splits, base, rows.uncut, watch)
    for remark in remarks:
        watch.note("remark", remark)
    watch.note("strategy", plan.strategy_name + "".join(f", {text}" for text in _chosen(plan)))
    plan, notes = with_row_defaults(plan, task, len(splits["train"]), base)
    for title, text in notes.items():
        watch.note(title, text)
    return RunSetup(plan, name, splits, task, base, remarks)


def _with_length(plan: Plan, task: Task, train: Dataset, base: Base, watch: Watch) -> Task:
    """Return the task with the plan's max_seq_length, or the default for its rows; at most what the base takes."""
    from ..features.lengths import with_length

    if "max_seq_length" not in plan.task_options:
        with processes.first_of_node_first():
            return with_length(task, train, base, watch)
    if base.max_length and task.max_seq_length > base.max_length:
        watch.note("", f"max_seq_length={task.max_seq_length}, but the base takes {base.max_length}: that is used")
        return replace(task, max_seq_length=base.max_length)
    return task


def run(
    plan: Plan,
    registry: Registry,
    *,
    base: Base | None = None,
    splits: Splits | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> Report:
    """Train, evaluate, save and register an adapter.

    `base` is a loaded base to share between runs; `splits` holds the rows of a plan whose rows are in memory. With
    `resume`, training continues from the newest checkpoint of the same plan, if there is one. Every process of a
    launched run calls this, and rank 0 writes. Raises an `AdapterkitError`; then nothing was written.
    """
    processes.begin()
    watch = (watch or Watch()) if processes.index() == 0 else Watch()
    as_set = plan
    _check_before_reading(plan, registry)
    on = prepare_run(plan, base=base, splits=splits, watch=watch)
    if replaced := _replaced(registry, on.name, on.task.name, overwrite=plan.saving.overwrite):
        stage = plan.saving.stage
        watch.note(
            *(("replaces", replaced) if stage is None else ("beside", f"{replaced}; this one is {on.name}@{stage}"))
        )
    plan, about = on.plan, about_run(on.plan, on.splits)
    named_plan = replace(plan, name=on.name)
    recorded = {**named_plan.values(), "base_fingerprint": on.base.fingerprint}
    checkpoints = _checkpoints(named_plan, registry, about["data"], on, watch)
    trackers = tracked(plan.saving.report_to, registry.path.parent / "trackers", on.name, recorded, watch)
    with contextlib.closing(checkpoints), trackers as watch:
        from ..training.train import train

        trained = train(
            on.base,
            on.task,
            plan.strategy,
            on.splits.sets,
            plan.training,
            about=about,
            auto_rate=plan.auto_rate,
            checkpoints=checkpoints,
            resume=resume,
            watch=watch,
        )
        plan = replace(plan, strategy=replace(plan.strategy, learning_rate=trained.learning_rate), auto_rate=False)
        metrics = _measured(plan, as_set, on, trained, watch)
        trained.adapter.manifest["strategy"]["options"] = plain(plan.strategy)
        trained.adapter.manifest |= {"parameters": trained.trained_parameters, "metrics": metrics}
        if plan.training.save_as != AS_IS:
            trained = processes.from_main(lambda: _encoded(plan, on, trained, watch))
        version, size = processes.from_main(lambda: _saved(plan, registry, on, trained, checkpoints))
        report = _report(registry, on, trained, version, size)
        watch.result(report.plain())
    return report


def _check_before_reading(plan: Plan, registry: Registry) -> None:
    """Raise what can be known to fail before any row is read."""
    find_plugin(plan.strategy_name)
    registry.prepare()
    if plan.saving.stage is not None:
        check_tag(plan.saving.stage)
    check_trackers(plan.saving.report_to)


def _measured(plan: Plan, as_set: Plan, on: RunSetup, trained: Trained, watch: Watch) -> dict[str, Any]:
    """Return the metrics on the validation and test rows; what is remarkable is logged and added to the remarks.

    `as_set` is the plan with the options that the user set, for the command of an advice.
    """
    from ..evaluation.evaluate import evaluate, metrics_plain

    metrics = {trained.split: metrics_plain(trained.validation)}
    notes = list(trained.validation.notes)
    if "test" in on.splits:
        size = plan.training.per_device_eval_batch_size
        rows = on.splits["test"]
        measured = evaluate(on.base, trained.adapter, rows, batch_size=size, watch=watch, distributed=True)
        metrics["test"] = metrics_plain(measured.metrics)
        notes += measured.metrics.notes
    if trained.advice is not None:
        notes.append(_advised(as_set, trained.advice))
    for note in dict.fromkeys(notes):
        watch.note("remark", note)
        on.remarks.append(note)
    return metrics


def _report(registry: Registry, on: RunSetup, trained: Trained, version: str, size: int) -> Report:
    return Report(
        name=on.name,
        version=version,
        folder=str(registry.folder(on.name, version)),
        adapter=trained.adapter,
        base=on.base,
        metrics=trained.adapter.manifest["metrics"],
        history=trained.history,
        trained_parameters=trained.trained_parameters,
        adapter_bytes=size,
        base_bytes=on.base.nbytes,
        seconds=trained.seconds,
        learning_rate=trained.learning_rate,
        remarks=on.remarks,
    )


def _advised(plan: Plan, advice: Advice) -> str:
    """Return an advice with the command that it suggests, if it suggests one."""
    return advice.text + (f"; try {run_command(plan, advice.options)}" if advice.options else "")


def load_base(plan: Plan) -> Base:
    """Load the base of a plan. Raises `BaseModelError`."""
    from ..base.base import Base

    return Base.load(
        plan.base.base,
        revision=plan.base.revision,
        trust_remote_code=plan.base.trust_remote_code,
        quantization=plan.base.quantization,
    )


def about_run(plan: Plan, splits: Splits) -> dict[str, Any]:
    """Return what the manifest of an adapter holds about its run: strategy, training options, data."""
    plugin = find_plugin(plan.strategy_name)
    return {
        "strategy": {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "options": plain(plan.strategy),
        },
        "training": plain(plan.training),
        "data": {"name": splits.name, "splits": splits.describe()},
    }


def _chosen(plan: Plan) -> list[str]:
    """Return the options of a plan's strategy that aren't at their defaults, as name=value."""
    defaults = {name: option.default for name, option in options(type(plan.strategy)).items()}
    values = {f.name: getattr(plan.strategy, f.name) for f in fields(plan.strategy)}
    chosen = {name: value for name, value in values.items() if value != defaults[name]}
    chosen |= {RATE: AUTO} if plan.auto_rate else {}
    return [f"{name}={','.join(value) if isinstance(value, tuple) else value}" for name, value in chosen.items()]


def _replaced(registry: Registry, name: str, task: str, *, overwrite: bool) -> str | None:
    """Return the version and metric that a run under `name` replaces, or None where the name is free.

    Raises `RegistryError` where that adapter is for another task, unless it may be overwritten.
    """
    entry = registry.adapters().get(name)
    if entry is None:
        return None
    current = {**entry, **entry["versions"][entry["current"]]}
    if current["task"] != task and not overwrite:
        raise RegistryError(
            f"'{name}' is an adapter for {current['task']}, and this run is for {task}; give another --name, or "
            "--overwrite",
            suggestion=("--overwrite",),
        )
    best = best_metric(current["metrics"], current.get("best"))
    return f"{name}@{entry['current']}, {best}, as the current version"


def _encoded(plan: Plan, on: RunSetup, trained: Trained, watch: Watch) -> Trained:
    """Return the trained adapter in the plan's encoding, or unchanged if encoding it gains nothing."""
    from ..convert.compress import NothingToGain, compress_and_measure

    try:
        adapter = compress_and_measure(on.base, trained.adapter, plan.training.save_as, on.splits.sets, watch=watch)
    except NothingToGain as error:
        watch.note("encoded", f"as it is, {error}")
        return trained
    return replace(trained, adapter=adapter)


def _saved(plan: Plan, registry: Registry, on: RunSetup, trained: Trained, checkpoints: Checkpoints) -> tuple[str, int]:
    """Save and register the trained adapter, delete its checkpoints, and return its version and bytes."""
    from ..store.publish import publish

    resolved = replace(plan, name=on.name, task_name=on.task.name, task_options=on.task.recorded())
    run_file = run_yaml(resolved.values())
    beside = {RUN_FILE: run_file, **remarks_file(on.remarks)}
    published = publish(
        registry,
        on.name,
        trained.adapter,
        beside=beside,
        stage=plan.saving.stage,
        seconds=round(trained.seconds, 1),
    )
    checkpoints.finish()
    return published


def _checkpoints(plan: Plan, registry: Registry, rows: Mapping[str, Any], on: RunSetup, watch: Watch) -> Checkpoints:
    """Return the checkpoints of a plan, in a folder for its name and a digest of its options."""
    from ..training.checkpoints import RUNS, Checkpoints

    values, base = plan.values(), on.base
    digest = sha256(json_bytes(values))[:12]
    identity = {
        **{key: value for key, value in values.items() if key != "name"},
        "data": rows,
        "base fingerprint": base.fingerprint,
        "base dtype": str(base.model.dtype),
        "tokenizer": base.tokenizer_digest,
        "processes": processes.count(),
        **_inferred_length(plan, on),
    }
    folder = registry.path.parent / RUNS / str(plan.name) / digest
    return Checkpoints(folder, plan.saving, json.loads(json_bytes(identity)), run_yaml(values), watch)


def _inferred_length(plan: Plan, on: RunSetup) -> dict[str, Any]:
    """Return max_seq_length where it was inferred, and is another than earlier versions used."""
    before = min(type(on.task).max_seq_length, on.base.max_length or on.task.max_seq_length)
    inferred = "max_seq_length" not in plan.task_options and on.task.max_seq_length != before
    return {"max_seq_length": on.task.max_seq_length} if inferred else {}


def _default_name(data_name: str, strategy_name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", f"{data_name}-{strategy_name}").strip("-_")[:96]
