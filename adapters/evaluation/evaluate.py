"""Evaluate an adapter on labelled rows, and predict with one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..data.rows import as_rows
from ..errors import DataError, TaskError, warn
from ..execution import processes
from ..features.lengths import count_cut, cut_note
from ..features.tokenize import tokenized
from ..metrics import Metrics
from ..tasks import Task
from ..tasks.columns import columns_of
from ..watch import Watch
from .outputs import generate, outputs
from .row_errors import answers_or_errors

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, repr=False)
class Evaluation:
    """An adapter's metrics on labelled rows, an answer for each row, and tables such as a confusion matrix."""

    metrics: Metrics
    answers: list[dict[str, Any]]
    tables: dict[str, Any]
    predictions: Sequence[Any] = ()  # as `Task.predictions` returns them: of a classifier its logits

    def __repr__(self) -> str:
        return self.metrics.describe()

    def _repr_html_(self) -> str:
        return self.metrics.html()


def metrics_plain(metrics: Metrics) -> dict[str, Any]:
    """Return metrics as JSON values: each by name, `n`, and `intervals` by name."""
    intervals = {name: list(interval) for name, interval in metrics.intervals.items()}
    return {**metrics.values, "n": metrics.n, "intervals": intervals}


def evaluate(
    base: Base,
    adapter: Adapter,
    data: Dataset,
    *,
    batch_size: int = 64,
    watch: Watch | None = None,
    distributed: bool = False,
) -> Evaluation:
    """Measure an adapter on labelled rows; a task that generates is measured on what it generates, too.

    With `distributed`, the processes of a run share the work; each of them has to call this.

    Raises `AdapterError` where the adapter was trained on another base, `DataError` where there is no row.

    >>> rows = datasets.Dataset.from_list([{"text": "lovely", "label": "positive"}])
    >>> ak.evaluate(base, ak.load("reviews", base=base).adapter, rows).answers[0]["label"]
    'positive'
    """
    task, base = adapter.task, adapter.on(base)
    with processes.first_of_node_first() if distributed else contextlib.nullcontext():
        features = tokenized(task, data, base, labelled=False, watch=watch)
    _check_some(features)
    with adapter.attached(base) as model:
        values = outputs(task, model, features, base, batch_size=batch_size, watch=watch, distributed=distributed)
        predictions = task.predictions(values, features, data)
        metrics = task.metrics(predictions, data)
        references = task.references(data)
        if not task.generates:
            answers = task.answers(predictions, data, base.tokenizer) if task.new_head else []
            return Evaluation(metrics, answers, task.tables(predictions, data), predictions)
        if references is None:
            return Evaluation(metrics, [], {}, predictions)
        prompts = _prompts(task, data[:], base)
        texts = generate(task, model, prompts, base, batch_size=batch_size, watch=watch, distributed=distributed)
    from ..metrics import text
    from ..metrics.bootstrap import merged

    both = merged(metrics, text(texts, references))
    return Evaluation(both, [{"generated_text": t} for t in texts], {}, predictions)


def predict(
    base: Base,
    adapter: Adapter,
    rows: Any,
    *,
    batch_size: int = 64,
    skip_bad_rows: bool = False,
    watch: Watch | None = None,
) -> Any:
    """Return an answer for each text or row, such as {"label": "positive", "score": 0.98}; for one text, its answer.

    `rows` are those that `as_rows` takes. The fields of a text with several (a pair; question and context) are
    separated by tabs; a dict has them as columns. A row that can't be read is a `DataError` or, with `skip_bad_rows`,
    has {"error": reason} in the place of its answer. Texts that are cut are a `TruncationWarning` or, with `watch`, a
    note.

    >>> adapter = ak.load("reviews", base=base).adapter
    >>> [answer["label"] for answer in ak.predict(base, adapter, ["lovely food", "The soup was cold."])]
    ['positive', 'negative']

    Raises `AdapterError` where the adapter was trained on another base.
    """
    listed, single = as_rows(rows, skip_bad=skip_bad_rows)

    def answers_of(some: list[Any]) -> list[dict[str, Any]]:
        return _answers(base, adapter, some, batch_size, watch) if some else []

    answers = answers_or_errors(adapter.task, listed, answers_of) if skip_bad_rows else answers_of(listed)
    return answers[0] if single else answers


def _answers(
    base: Base, adapter: Adapter, rows: Sequence[Any], batch_size: int, watch: Watch | None
) -> list[dict[str, Any]]:
    import datasets

    task, base = adapter.task, adapter.on(base)
    if task.generates:
        _, features = _read(task, rows, base, watch)
        with adapter.attached(base) as model:
            texts = generate(task, model, features, base, batch_size=batch_size, watch=watch)
        return [{"generated_text": text} for text in texts]
    data = datasets.Dataset.from_dict(dict(columns_of(task, rows).values))
    predicted = predictions(base, adapter, rows, batch_size=batch_size, watch=watch)
    return task.answers(predicted, data, base.tokenizer)


def predictions(
    base: Base, adapter: Adapter, rows: Sequence[Any], *, batch_size: int = 64, watch: Watch | None = None
) -> list[Any]:
    """Return the task's prediction for each text or row, as `Task.predictions` does: of a classifier its logits.

    Raises `TaskError` for a task that generates.
    """
    import datasets

    task, base = adapter.task, adapter.on(base)
    if task.generates:
        raise TaskError(f"{task.name} generates texts and predicts nothing else; use predict")
    columns, features = _read(task, rows, base, watch)
    with adapter.attached(base) as model:
        scores = outputs(task, model, features, base, batch_size=batch_size, watch=watch)
    return task.predictions(scores, features, datasets.Dataset.from_dict(dict(columns)))


def _read(
    task: Task, rows: Sequence[Any], base: Base, watch: Watch | None
) -> tuple[Mapping[str, Sequence[Any]], Dataset]:
    """Return rows as columns and as features, and report the texts that were cut."""
    import datasets

    columns = columns_of(task, rows).values
    features = dict(task.prompts(columns, base.tokenizer))
    if cut := count_cut(task, columns, base.tokenizer, features):
        note = cut_note(task, cut, len(rows))
        if watch is None:
            warn(note)
        else:
            watch.note("warning", note)
    return columns, datasets.Dataset.from_dict(features)


def _prompts(task: Task, rows: Any, base: Base) -> Dataset:
    import datasets

    return datasets.Dataset.from_dict(dict(task.prompts(rows, base.tokenizer)))


def _check_some(features: Dataset) -> None:
    if len(features) == 0:
        raise DataError("nothing to measure: the rows hold no text")
