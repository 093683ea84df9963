"""Evaluate a registered adapter on labelled rows: what `adapt eval` runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import splits as data
from ..errors import DataError, OptionError
from ..evaluation.report import write_evaluation
from ..settings import DataOptions
from ..store.registry import Registry
from ..watch import Watch
from .recorded_rows import own_rows
from .registered import load_base, on_base
from .remarks import remarks_on
from .usable_rows import select_usable

if TYPE_CHECKING:
    from datasets import Dataset

    from ..adapter.adapter import Adapter
    from ..data.splits import Splits
    from ..evaluation.evaluate import Evaluation
    from ..tasks import Task


_MOST_IN_MATRIX, _MOST_ERRORS = 10, 10
"""Labels of a confusion matrix that is printed whole, and the largest errors that are listed of a larger one."""


@dataclass(frozen=True, repr=False)
class EvaluationReport:
    """The evaluation of a registered adapter, and the rows it was measured on."""

    name: str  # of the adapter, as requested
    split: str
    file: str
    evaluation: Evaluation
    rows: Dataset
    best: str  # the metric that chooses the epoch of a run
    remarks: tuple[str, ...] = ()  # on the rows
    base_mismatch: dict[str, Any] | None = None  # how the base differs from the one the adapter was trained on

    def metrics(self) -> dict[str, Any]:
        """Return the metrics as JSON values: by name, with `n`, `intervals` and where they come from."""
        from ..evaluation.evaluate import metrics_plain

        mismatch = {} if self.base_mismatch is None else {"base_mismatch": self.base_mismatch}
        source = {"adapter": self.name, "split": self.split, "file": self.file}
        remarks = {"remarks": list(self.remarks)} if self.remarks else {}
        return {**source, **metrics_plain(self.evaluation.metrics), **mismatch, **remarks}

    def plain(self) -> dict[str, Any]:
        """Return metrics and tables as JSON values."""
        return {**self.metrics(), **self.evaluation.tables}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows for reading: each metric with its 95 % interval, the one named `best` first."""
        measured = self.evaluation.metrics
        names = sorted(measured.values, key=lambda name: name != self.best)
        rows = [[n, f"{measured.values[n]:.4f}", "{:.4f} to {:.4f}".format(*measured.intervals[n])] for n in names]
        return [f"{self.split}, {measured.n:,} rows", "value", "95 % interval"], rows

    def label_tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Return columns and rows of the metrics by label or type, where the task has them."""
        tables = [table for title in ("per_label", "per_type") if (table := self.evaluation.tables.get(title))]
        return [(list(table[0]), [[_cell(value) for value in row.values()] for row in table]) for table in tables]

    def confusion_table(self) -> tuple[list[str], list[list[str]]] | None:
        """Return columns and rows of the confusion matrix, a row for each true label; of many labels its errors.

        None where the task has no such matrix, or every row is right.
        """
        tables = self.evaluation.tables
        matrix, labels = tables.get("confusion_matrix"), [str(label) for label in tables.get("labels", [])]
        if not matrix or not any(n for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j):
            return None
        if len(labels) <= _MOST_IN_MATRIX:
            return ["true / predicted", *labels], [
                [label, *(f"{n:,}" if n else "." for n in row)] for label, row in zip(labels, matrix, strict=True)
            ]
        errors = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
        errors.sort(key=lambda error: (-error[0], error[1:]))
        rows = [[labels[i], labels[j], f"{n:,}", f"{sum(matrix[i]):,}"] for n, i, j in errors[:_MOST_ERRORS]]
        return ["true", "predicted", "rows", "of"], rows

    def write(self, folder: str | Path) -> list[Path]:
        """Write metrics.json, predictions.jsonl and confusion_matrix.csv, where there are any; return the files."""
        write_evaluation(Path(folder), self.metrics(), self.rows, self.evaluation)
        return sorted(Path(folder).iterdir())

    def __repr__(self) -> str:
        return f"{self.name}: {self.evaluation.metrics.describe(self.split)}"

    def _repr_html_(self) -> str:
        return self.evaluation.metrics.html(f"{self.name}, {self.split}")


def evaluate_adapter(
    registry: Registry,
    name: str,
    *,
    test_file: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    reading: DataOptions | None = None,
    base: str | None = None,
    allow_base_mismatch: bool = False,
    device: str | None = None,
    watch: Watch | None = None,
) -> EvaluationReport:
    """Evaluate NAME or NAME@VERSION on a file, a data set, or else on the rows of its own run.

    `split` defaults to test where there is such a split, else to validation; a `test_file` is the test split, and
    `text_columns` and `label_column` are the rows' columns, where the task's have other names.
    `reading` is how a file is read: separator, encoding, columns of a CoNLL file, whether bad rows are skipped. `base`
    is where to load the base from if it was moved, `device` where to run it, by default the CPU. Raises `DataError` for
    rows that the task can't read, `PoolError` for a device that isn't there, and `AdapterError` for another base than
    the adapter's unless `allow_base_mismatch`.
    """
    if test_file and dataset:
        raise DataError(f"give --test-file {test_file} or --dataset {dataset}, not both")
    watch, adapter = watch or Watch(), registry.load(name)
    sources = replace(reading or DataOptions(), test_file=test_file, dataset=dataset)
    columns = _columns(name, adapter.task, text_columns, label_column)
    if columns and not (test_file or dataset):
        raise OptionError("columns are those of --test-file or --dataset; the rows of the run have the task's")
    splits = _splits(registry, name, adapter, sources, columns, watch)
    split = "test" if test_file else split or ("test" if "test" in splits else "validation")
    if split == "validation" and split not in splits and not dataset:
        raise DataError(
            f"'{name}' has neither test nor validation rows to be measured on again; of its run: adapt show {name}; "
            f"on other rows: adapt eval {name} --file FILE"
        )
    rows = splits[split]

    from ..evaluation.evaluate import evaluate
    from ..pool.routed_base import device_of

    loaded = load_base(registry, adapter, base)
    if device is not None:
        loaded.model.to(device_of(device))
    adapter = on_base(name, adapter, loaded, allow_base_mismatch=allow_base_mismatch, watch=watch)
    remarks = remarks_on(adapter.task, splits, loaded, {split: rows}, watch)
    for remark in remarks:
        watch.note("remark", remark)
    evaluation = evaluate(loaded, adapter, rows, watch=watch)
    mismatch = adapter.manifest["base"].get("mismatch")
    for note in evaluation.metrics.notes:
        watch.note("remark", note)
        remarks.append(note)
    return EvaluationReport(
        name, split, splits.files[split], evaluation, rows, adapter.task.best, tuple(remarks), mismatch
    )


def _columns(name: str, task: Task, texts: Sequence[str], label: str | None) -> dict[str, str]:
    """Return the task's column for each named one. Raises `OptionError` where the task has another number."""
    wanted = [column for column in task.input_columns if column not in task.optional_columns] if texts else []
    if texts and not len(wanted) <= len(texts) <= len(task.input_columns):
        reads = " + ".join(task.input_columns)
        raise OptionError(f"--text-column-name={','.join(texts)}, but adapter '{name}' reads {reads}")
    columns = dict(zip(texts, task.input_columns, strict=False))
    if label:
        theirs = getattr(task, "label_column_name", None)
        if not isinstance(theirs, str):
            raise OptionError(f"--label-column-name={label}, but the rows of {task.name} have no column of labels")
        columns[label] = theirs
    return columns


def _splits(
    registry: Registry, name: str, adapter: Adapter, sources: DataOptions, columns: Mapping[str, str], watch: Watch
) -> Splits:
    adapter.task.check_named()
    if sources.test_file or sources.dataset:
        splits = data.load(sources, watch, adapter.task.name)
        splits.rename(columns)
        select_usable(splits, adapter.task, sources)
        return splits
    return own_rows(registry, name, adapter, watch)


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
