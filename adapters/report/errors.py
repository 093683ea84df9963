"""The rows that an adapter gets wrong, the most confident first, each with the nearest training rows."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..settings import DataOptions
from ..store.registry import Registry
from ..watch import Watch
from ..workflows.evaluate import evaluate_adapter
from ..workflows.recorded_rows import own_rows
from ..workflows.registered import load_base
from .answers import answers_of, expected_of, joined, kind_of, lines_of, texts_of
from .results import Answer

if TYPE_CHECKING:
    from datasets import Dataset

    from ..adapter.adapter import Adapter

NEAREST = 3
"""The number of training rows beside each error."""


@dataclass(frozen=True)
class Near:
    """A training row, and the cosine of its embedding and an error's."""

    line: int
    text: str
    label: str
    similarity: float


@dataclass(frozen=True)
class Error:
    """A row that is answered wrong."""

    line: int
    text: str
    expected: str
    answer: Answer
    nearest: list[Near]

    def plain(self) -> dict[str, Any]:
        """Return the error as JSON values."""
        answer = self.answer
        near = [vars(one) for one in self.nearest]
        return {
            **{"line": self.line, "text": self.text, "expected": self.expected, "answer": answer.text},
            **{"score": answer.score, "probabilities": answer.others, "nearest": near},
        }


def errors_of(
    registry: Registry,
    name: str,
    *,
    test_file: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    reading: DataOptions | None = None,
    most: int | None = 20,
    watch: Watch | None = None,
) -> tuple[list[Error], int, int]:
    """Return an adapter's errors on labelled rows, at most `most`; how many there are; and of how many rows.

    Raises `DataError` for a task whose answers are neither right nor wrong, such as numbers and generated texts.
    """
    watch, adapter = watch or Watch(), registry.load(name)
    if kind_of(adapter.task) in ("number", "text", "other"):
        raise DataError(
            f"'{name}' is for {adapter.task.name}, whose answers are neither right nor wrong; see adapt eval"
        )
    report = evaluate_adapter(
        registry, name, test_file=test_file, dataset=dataset, split=split, reading=reading, watch=watch
    )
    task, data = adapter.task, report.rows
    answers = answers_of(task, report.evaluation.answers, report.evaluation.predictions, data, most=None)
    wrong = [i for i, answer in enumerate(answers) if answer.right is False]
    wrong.sort(key=lambda i: -(answers[i].score or 0.0))
    chosen = wrong[:most]
    if not chosen:
        return [], 0, len(data)
    rows = data.select(chosen)
    expected, texts, lines = expected_of(task, rows), texts_of(task, rows), lines_of(data)
    nearest = _nearest(registry, name, adapter, texts, watch)
    errors = [
        Error(lines[i], text, joined(task, truth), answers[i], near)
        for i, text, truth, near in zip(chosen, texts, expected, nearest, strict=True)
    ]
    return errors, len(wrong), len(data)


def _nearest(registry: Registry, name: str, adapter: Adapter, texts: list[str], watch: Watch) -> list[list[Near]]:
    """Return the training rows whose embeddings by the base are nearest to those of texts; none where they are gone."""
    import numpy as np

    from .embeddings import embeddings

    try:
        train: Dataset = own_rows(registry, name, adapter, Watch())["train"]
    except DataError as error:
        watch.note("nearest", f"no training rows: {error}")
        return [[] for _ in texts]
    base = load_base(registry, adapter)
    trained_on, lines = texts_of(adapter.task, train), lines_of(train)
    labels = [joined(adapter.task, labels) for labels in expected_of(adapter.task, train)]
    vectors, queries = (_unit(embeddings(base, some)) for some in (trained_on, texts))
    similarity = queries @ vectors.T
    order = np.argsort(-similarity, axis=1)[:, :NEAREST]
    return [
        [Near(lines[i], trained_on[i], labels[i], float(similarity[row, i])) for i in chosen]
        for row, chosen in enumerate(order)
    ]


def _unit(vectors: Any) -> Any:
    import numpy as np

    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def errors_csv(errors: list[Error]) -> str:
    """Return errors as csv: line, text, expected, answer, score, probabilities, and the nearest training rows."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    near = [f"nearest {k} {part}" for k in range(1, NEAREST + 1) for part in ("line", "label", "text")]
    table.writerow(["line", "text", "expected", "answer", "score", "probabilities", *near])
    for error in errors:
        shares = "; ".join(f"{label} {p:.4f}" for label, p in error.answer.others.items())
        row = [error.line, error.text, error.expected, error.answer.text, error.answer.score, shares]
        table.writerow([*row, *(value for one in error.nearest for value in (one.line, one.label, one.text))])
    return out.getvalue()
