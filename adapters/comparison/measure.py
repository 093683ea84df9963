"""Measure a comparison's candidates on its last rows, once; and the rows, the speed and the circumstances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import AdapterkitError
from ..evaluation.evaluate import Evaluation, evaluate
from ..io.schema import converted
from ..report.answers import kind_of, texts_of
from ..report.attribution import explain_errors
from ..report.evaluated import analysed, circumstances, measured_of
from ..report.results import Answer, Candidate, Costs, Row
from ..report.tables import groups_of, sample_rows
from . import setfit
from .baselines import Baseline, fit_baselines, label_numbers
from .costs import pool_rates
from .entries import Entry, Options
from .trials import MEASURED, RATES, Study
from .verdict import mean_draws, mean_measured

if TYPE_CHECKING:
    from datasets import Dataset

    from ..adapter.adapter import Adapter
    from ..workflows.run import RunSetup


def last_split(study: Study) -> str:
    """Return which rows are measured last: test, or without any validation."""
    return "test" if "test" in study.on.splits else "validation"


def measure_entry(study: Study, entry: Entry) -> None:
    """Set a candidate's results on the last rows, and the rows a second of its first adapter."""
    on, candidate, split = study.on, entry.candidate, last_split(study)
    values = [
        study.measured(trial, MEASURED, lambda adapter: measured_values(study, adapter, split))
        for trial in entry.trials
    ]
    candidate.metrics[split] = measured_of(mean_measured([v["metrics"] for v in values]))
    entry.draws[split] = mean_draws([v["draws"] for v in values])
    candidate.tables = values[0]["tables"]
    if not on.task.generates:
        rates = study.measured(
            entry.trials[0], RATES, lambda adapter: list(pool_rates(on.base, adapter, on.splits["validation"]))
        )
        candidate.costs.rate, candidate.costs.rate_beside = rates
    entry.answers = converted(values[0]["answers"], list[Answer]) or None
    study.watch.note(candidate.name, f"{on.task.best} {candidate.metrics[split].values[on.task.best]:.4f} on {split}")


def measured_values(study: Study, adapter: Adapter, split: str) -> dict[str, Any]:
    """Return an adapter's metrics, analyses and answers on a split, as JSON values."""
    on = study.on
    data = on.splits[split]
    size = on.plan.training.per_device_eval_batch_size
    measured = evaluate(on.base, adapter, data, batch_size=size, watch=study.watch)
    values = analysed(adapter.task, measured, data, on.splits.sets.get("train"))
    explain_errors(on.base, adapter, data, values["answers"])
    return values


def measure_baselines(study: Study, options: Options) -> list[Entry]:
    """Fit the baselines and measure them on the last rows."""
    on, split = study.on, last_split(study)
    seed = on.plan.training.seed
    try:
        fitted = fit_baselines(on.task, on.splits["train"], on.base, embeddings=options.baselines, seed=seed)
    except (ValueError, MemoryError) as error:  # scikit-learn refuses rows, such as texts without a word
        study.watch.note("baselines", f"not fitted: {error}")
        return []
    entries = [_baseline(study, baseline, split) for baseline in fitted]
    if options.baselines and setfit.is_installed() and kind_of(on.task) == "label":
        entries.append(_setfit(study, split, seed))
    for entry in entries:
        if not entry.candidate.error:
            value = entry.candidate.metrics[split].values[on.task.best]
            study.watch.note("baseline", f"{entry.candidate.name}: {on.task.best} {value:.4f} on {split}")
    return entries


def _setfit(study: Study, split: str, seed: int) -> Entry:
    on = study.on
    train = on.splits["train"]
    try:
        numbers = label_numbers(on.task, train)
        labels = len(on.task.labels)  # type: ignore[attr-defined]
        return _baseline(study, setfit.fit_setfit(on.base, texts_of(on.task, train), numbers, labels, seed), split)
    except (AdapterkitError, RuntimeError, ValueError) as error:  # of another package
        return Entry(Candidate(setfit.NAME, "baseline", error=" ".join(str(error).split())[:300]), [], {})


def _baseline(study: Study, baseline: Baseline, split: str) -> Entry:
    on, task = study.on, study.on.task
    costs = Costs(seconds=baseline.seconds, parameters=baseline.parameters, rate=baseline.rate)
    candidate = Candidate(baseline.name, "baseline", costs=costs)
    entry = Entry(candidate, [], {})
    for rows in dict.fromkeys(("validation", split)):
        data = on.splits[rows]
        predictions = baseline.predict(texts_of(task, data))
        answers = task.answers(predictions, data, on.base.tokenizer)
        evaluation = Evaluation(task.metrics(predictions, data), answers, task.tables(predictions, data), predictions)
        values = analysed(task, evaluation, data, on.splits.sets.get("train"))
        candidate.metrics[rows] = measured_of(values["metrics"])
        entry.draws[rows] = values["draws"]
        candidate.tables = values["tables"]
        entry.answers = converted(values["answers"], list[Answer]) or None
    return entry


def rows_of(study: Study, entries: list[Entry], split: str) -> list[Row]:
    """Return a sample of the rows, with the answers of every candidate, in the order of `entries`."""
    on = study.on
    data: Dataset = on.splits[split]
    if not any(entry.answers for entry in entries):
        return []
    groups = groups_of(on.task, data, on.splits.sets.get("train"))
    return sample_rows(on.task, data, [entry.answers for entry in entries], groups)


def ran(on: RunSetup, command: str, seconds: float, remarks: list[str], trained: str) -> dict[str, Any]:
    """Return what was run: the command, base, data with digests, versions and machine."""
    return {
        **circumstances(command),
        "base": {"name": on.base.name, "fingerprint": on.base.fingerprint, "model": on.base.describe()},
        "data": on.splits.describe(),
        "task": on.task.recorded(),
        "seconds": round(seconds, 1),
        "remarks": remarks,
        **({"trained": trained} if trained else {}),
    }
