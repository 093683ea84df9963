"""Answers of a model beside what was expected, row by row, for any task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..data.column_types import LINE
from ..tasks import Task
from .results import Answer

if TYPE_CHECKING:
    from datasets import Dataset

Kind = Literal["label", "labels", "number", "tags", "span", "text", "other"]
MOST_TEXT = 600
"""The most characters of a text that a page shows."""
BETWEEN_TEXTS = "⏐"
"""Between the texts of a row that has several."""
_MOST_PROBABILITIES = 5
_PROBLEMS: Mapping[Any, Kind] = {"multi_label_classification": "labels", "regression": "number"}


def kind_of(task: Task) -> Kind:
    """Return what a task answers with: a label, several, a number, tags of words, a span, a text, or anything else."""
    if task.name == "text-classification":
        return _PROBLEMS.get(getattr(task, "problem_type", None), "label")
    if task.generates:
        return "text"
    return {"token-classification": "tags", "question-answering": "span"}.get(task.name, "other")  # type: ignore[return-value]


def answers_of(
    task: Task,
    answers: Sequence[Mapping[str, Any]],
    predictions: Sequence[Any],
    data: Dataset,
    *,
    most: int | None = _MOST_PROBABILITIES,
) -> list[Answer]:
    """Return each row's answer, its `most` highest probabilities (None: all), and whether it is as expected."""
    kind, truths = kind_of(task), expected_of(task, data)
    if kind in ("label", "labels"):
        return [_labelled(task, kind, row, truth, most) for row, truth in zip(predictions, truths, strict=True)]
    result = []
    for answer, truth in zip(answers, truths, strict=False):
        text, score = _headline(task, answer), answer.get("score")
        result.append(Answer(text, _number(score), None if kind in ("number", "text", "other") else text in truth))
    if kind == "tags":
        for one, tags, labels in zip(result, tags_of(task, predictions), task.labels_by_row(data), strict=True):
            one.right = tags == list(labels)
    return result


def _labelled(task: Task, kind: Kind, logits: Any, truth: Sequence[str], most: int | None) -> Answer:
    labels, scores = task.labels, probabilities(logits, kind)  # type: ignore[attr-defined]
    order = scores.argsort()[::-1][:most]
    others: dict[str, float | None] = {labels[i]: round(float(scores[i]), 4) for i in order}
    if kind == "label":
        return Answer(labels[order[0]], float(scores[order[0]]), labels[order[0]] in truth, others)
    threshold = task.threshold  # type: ignore[attr-defined]
    chosen = [label for label, p in zip(labels, scores, strict=True) if p >= threshold]
    sure = float(min(max(p, 1 - p) for p in scores))
    return Answer(", ".join(chosen) or "(none)", sure, set(chosen) == set(truth), others)


def probabilities(logits: Any, kind: Kind) -> Any:
    """Return the probability of each label, (labels,), of a row's logits."""
    import numpy as np
    from scipy.special import expit, softmax

    values = np.asarray(logits, dtype="float64")
    return expit(values) if kind == "labels" else softmax(values, axis=-1)


def tags_of(task: Task, predictions: Sequence[Any]) -> list[list[str]]:
    """Return the tags of each sentence of a token classifier."""
    return [[task.labels[i] for i in logits.argmax(-1)] for logits in predictions]  # type: ignore[attr-defined]


def expected_of(task: Task, data: Dataset) -> list[list[str]]:
    """Return the accepted answers of each row; of several labels, these."""
    kind = kind_of(task)
    if kind in ("label", "labels"):
        return [list(labels) for labels in task.labels_by_row(data)]
    if kind == "tags":
        return [[entities_text(task, row, tags)] for row, tags in zip(data, task.labels_by_row(data), strict=True)]
    if kind == "text":
        references = task.references(data)
        return [[text] for text in references] if references else [[""]] * len(data)
    if kind == "span":
        cells = data[str(task.answer_column_name)]  # type: ignore[attr-defined]
        return [_texts(cell) for cell in cells]
    column = getattr(task, "label_column_name", None)
    return [[str(value)] for value in data[column]] if column in data.column_names else [[""]] * len(data)


def joined(task: Task, truth: Sequence[str]) -> str:
    """Return what is expected of a row as one text: all of its labels, or any of its answers."""
    return (", " if kind_of(task) == "labels" else " or ").join(truth)


def _texts(cell: Any) -> list[str]:
    texts = cell.get("text", []) if isinstance(cell, Mapping) else cell
    texts = (
        [texts] if isinstance(texts, str) else [t["text"] if isinstance(t, Mapping) else str(t) for t in texts or []]
    )
    return texts or [""]


def entities_text(task: Task, row: Mapping[str, Any], tags: Sequence[str]) -> str:
    """Return a sentence's entities: `Mary PER, Rome LOC`."""
    from ..errors import DataError
    from ..metrics import entity_spans

    words = row[task.text_column_name[0]]  # type: ignore[attr-defined]
    try:
        spans = entity_spans([str(tag) for tag in tags])
    except DataError:
        return " ".join(f"{word}/{tag}" for word, tag in zip(words, tags, strict=False))
    return ", ".join(f"{' '.join(map(str, words[start:end]))} {type_}" for type_, start, end in spans)


def texts_of(task: Task, data: Dataset) -> list[str]:
    """Return the inputs of each row as one text."""
    columns = [data[name] for name in task.input_columns if name in data.column_names]
    key = getattr(task, "source_lang", None)
    texts = ([_cell(cell, key) for cell in row] for row in zip(*columns, strict=True))
    return [f" {BETWEEN_TEXTS} ".join(row)[:MOST_TEXT] for row in texts]


def lines_of(data: Dataset) -> list[int]:
    """Return the line of each row in its file, or its number."""
    if LINE not in data.column_names:
        return list(range(1, len(data) + 1))
    return [int(line) if str(line).isdigit() else i for i, line in enumerate(data[LINE], start=1)]


def _cell(value: Any, key: str | None) -> str:
    """Return a cell as text: of a translation its source, of another object its values."""
    if isinstance(value, list):
        return " ".join(_cell(part, key) for part in value)
    if isinstance(value, Mapping):
        return str(value[key]) if key in value else ": ".join(map(str, value.values()))
    return str(value)


def _headline(task: Task, answer: Mapping[str, Any]) -> str:
    value = task.headline(answer)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(
            f"{part.get('text', part.get('word', ''))} {part.get('entity', part.get('entity_group', ''))}"
            if isinstance(part, Mapping)
            else str(part)
            for part in value
        )
    return str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
