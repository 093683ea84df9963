"""Evaluations as results: of registered adapters on the same rows, of a run, and of a search."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import DataError, OptionError
from ..evaluation.evaluate import Evaluation, metrics_plain
from ..io.schema import converted
from ..settings import DataOptions
from ..store.registry import Registry
from ..tasks import Task
from ..watch import Watch
from ..workflows.evaluate import EvaluationReport, evaluate_adapter
from .answers import answers_of, expected_of, kind_of, texts_of
from .results import FORMAT, Answer, Candidate, Costs, Measured, Results, Tried
from .tables import groups_of, number_pairs, number_slices, sample_rows, slices, span_slices, tables_of

if TYPE_CHECKING:
    from datasets import Dataset

    from ..workflows.run import Report
    from ..workflows.tune import Tuned


def analysed(task: Task, measured: Evaluation, data: Dataset, train: Dataset | None = None) -> dict[str, Any]:
    """Return metrics, resamples of the metric that ranks, tables and answers of an evaluation as JSON values."""
    answers = answers_of(task, measured.answers, measured.predictions, data) if len(measured.predictions) else []
    answers = answers if len(answers) == len(data) else []
    tables = tables_of(task, measured.tables, measured.predictions, data) if answers else dict(measured.tables)
    if answers:
        groups = groups_of(task, data, train)
        tables["slices"] = slices(groups, answers)
        if kind_of(task) == "span":
            tables["per_slice"] = span_slices(groups, answers, expected_of(task, data))
        if kind_of(task) == "number":
            pairs = number_pairs(task, measured.predictions, data)
            tables["per_slice"] = number_slices(groups, [guess - number for number, guess in pairs])
    draws: Any = measured.metrics.draws.get(task.best, ())
    return {
        "metrics": metrics_plain(measured.metrics),
        "draws": [float(value) for value in draws],
        "tables": tables,
        "answers": msgspec.to_builtins(answers),
    }


def measured_of(metrics: Mapping[str, Any]) -> Measured:
    """Return metrics as JSON values in the form of the results."""
    values = {name: value for name, value in metrics.items() if name not in ("n", "intervals")}
    intervals = {name: (low, high) for name, (low, high) in metrics.get("intervals", {}).items()}
    return Measured(values, intervals, int(metrics.get("n", 0)))


def circumstances(command: str) -> dict[str, Any]:
    """Return the command, the versions and the machine of this process."""
    packages = ("adapterkit", "torch", "transformers", "datasets", "scikit-learn")
    versions = {name: metadata.version(name) for name in packages} | {"python": platform.python_version()}
    return {"command": command, "versions": versions, "machine": machine()}


def machine() -> str:
    """Describe the machine: system, processors or GPU."""
    import os

    import torch

    if torch.cuda.is_available():
        return f"{platform.system()} {platform.machine()}, {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    cpus = f"{os.cpu_count()} CPUs, {threads} thread{'s' * (threads > 1)}"
    return f"{platform.system()} {platform.machine()}, {cpus}"


# ---- registered adapters


def adapter_results(
    registry: Registry,
    names: Sequence[str],
    *,
    test_file: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    reading: DataOptions | None = None,
    device: str | None = None,
    command: str = "",
    watch: Watch | None = None,
) -> Results:
    """Evaluate registered adapters of one task on the same rows, by default those of their runs.

    Raises `OptionError` for adapters of several tasks, and `DataError` where their rows differ.
    """
    if not names:
        raise OptionError("no adapter is named; adapt list shows those that are registered")
    reports: list[tuple[EvaluationReport, Any]] = []
    for name in dict.fromkeys(names):
        report = evaluate_adapter(
            registry,
            name,
            test_file=test_file,
            dataset=dataset,
            split=split,
            reading=reading,
            device=device,
            watch=watch,
        )
        adapter = registry.load(name)
        if reports and adapter.task.name != reports[0][1].task.name:
            raise OptionError(
                f"'{name}' is for {adapter.task.name} and '{reports[0][0].name}' for {reports[0][1].task.name}; write "
                "a page for each"
            )
        reports.append((report, adapter))
    return results_of(registry, reports, command)


def results_of(registry: Registry, reports: Sequence[tuple[EvaluationReport, Any]], command: str) -> Results:
    """Return evaluations of adapters on the same rows as results."""
    first, adapter = reports[0]
    task, data = adapter.task, first.rows
    texts = texts_of(task, data)
    candidates, answers = [], []
    for report, each in reports:
        if texts_of(each.task, report.rows) != texts:
            raise DataError(f"'{report.name}' and '{first.name}' are measured on other rows; give --test-file FILE")
        values = analysed(each.task, report.evaluation, report.rows)
        candidates.append(_candidate(registry, report, each, values))
        answers.append(converted(values["answers"], list[Answer]) or None)
    order = sorted(range(len(candidates)), key=lambda i: _rank(candidates[i], first.split, task))
    names = ", ".join(candidates[i].name for i in order)
    ran = circumstances(command) | {"data": {first.split: {"file": first.file, "rows": len(data)}}}
    rows = sample_rows(task, data, [answers[i] for i in order], groups_of(task, data, None)) if any(answers) else []
    return Results(
        format=FORMAT,
        title=f"{names} on {Path(first.file).name}",
        answer=[_sentence(candidates[i], first.split, task.best) for i in order],
        task=task.name,
        metric=task.best,
        lower_is_better=task.lower_is_better,
        split=first.split,
        candidates=[candidates[i] for i in order],
        rows=rows,
        measured=len(data),
        labels=[str(label) for label in getattr(task, "labels", ())],
        ran={**ran, "remarks": list(first.remarks)},
    )


def _candidate(registry: Registry, report: EvaluationReport, adapter: Any, values: Mapping[str, Any]) -> Candidate:
    name, version = registry.resolve(report.name)
    manifest = adapter.manifest
    recorded = {split: measured_of(metrics) for split, metrics in manifest.get("metrics", {}).items()}
    nbytes = manifest.get("files", {}).get("adapter_model.safetensors", {}).get("bytes")
    return Candidate(
        report.name,
        "adapter",
        registered=f"{name}@{version}",
        options=dict(manifest.get("strategy", {})),
        metrics={**recorded, report.split: measured_of(values["metrics"])},
        costs=Costs(bytes=nbytes, parameters=manifest.get("parameters")),
        tables=values["tables"],
    )


def _rank(candidate: Candidate, split: str, task: Task) -> float:
    value = candidate.metrics[split].values.get(task.best) or 0.0
    return value if task.lower_is_better else -value


def _sentence(candidate: Candidate, split: str, metric: str) -> str:
    measured = candidate.metrics[split]
    low, high = measured.intervals.get(metric, (None, None))
    ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{candidate.name}: {metric} {measured.values[metric]:.3f}{ends} on {measured.n:,} {split} rows."


def run_results(registry: Registry, report: Report, command: str) -> Results:
    """Evaluate the adapter of a run once more, and return it with the run's epochs and costs."""
    results = adapter_results(registry, [f"{report.name}@{report.version}"], command=command)
    (candidate,) = results.candidates
    candidate.history = [dict(epoch) for epoch in report.history]
    candidate.costs.seconds = report.seconds
    candidate.command = f"adapt run --config {report.folder}/run.yaml"
    return results


# ---- searches


def search_results(tuned: Tuned, command: str) -> Results:
    """Return a search of `adapt tune` as results: its trials, without rows."""
    tried = [Tried(t.values, t.state, t.score, t.seconds) for t in tuned.trials]
    best = tuned.trials[0]
    score = best.score
    candidate = Candidate(
        tuned.name,
        "strategy",
        command=tuned.command,
        options=best.values,
        metrics={} if score is None else {"validation": Measured({tuned.metric: score}, {}, 0)},
        trials=tried,
    )
    return Results(
        format=FORMAT,
        title=f"{len(tried)} trials of {tuned.name}",
        answer=[f"Best: {', '.join(f'{k}={v}' for k, v in best.values.items())}, {tuned.metric} {score:.4f}."],
        task=str(tuned.best.task_name or ""),
        metric=tuned.metric,
        lower_is_better=False,
        split="validation",
        candidates=[candidate],
        rows=[],
        measured=0,
        ran=circumstances(command),
    )
