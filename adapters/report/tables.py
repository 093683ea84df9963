"""Analyses of predictions for a page: calibration, thresholds, kinds of errors, residuals, and slices of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..tasks import Task
from .answers import expected_of, joined, kind_of, lines_of, probabilities, tags_of, texts_of
from .results import Answer, Row

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

BINS = 15
"""Bins of confidence, equally wide, as in the original ECE (Naeini et al. 2015; Guo et al. 2017)."""
THRESHOLDS = [k / 20 for k in range(1, 20)]
MOST_ROWS = 400
"""The most rows of a page."""
_MOST_ERRORS, _MOST_POINTS, _MOST_VALUES, _LEAST_ROWS = 25, 400, 12, 5


def tables_of(task: Task, tables: dict[str, Any], predictions: Sequence[Any], data: Dataset) -> dict[str, Any]:
    """Return a task's own tables and the analyses that apply to what it answers with."""
    import numpy as np

    kind = kind_of(task)
    more: dict[str, Any] = {}
    if kind == "label":
        scores = np.stack([probabilities(row, kind) for row in predictions])
        right = [scores[i].argmax() for i in range(len(scores))]
        labels = task.labels  # type: ignore[attr-defined]
        truth = [row[0] for row in task.labels_by_row(data)]
        more = calibration(scores.max(-1), np.array([labels[g] == t for g, t in zip(right, truth, strict=True)]))
        more |= _confusion(tables)
        tables = {key: value for key, value in tables.items() if key not in ("confusion_matrix", "labels")}
    elif kind == "labels":
        more = several_labels(task, predictions, data)
    elif kind == "tags":
        more = {"errors_by_kind": errors_by_kind(task, predictions, data)}
    elif kind == "number":
        more = {"points": number_pairs(task, predictions, data)[:_MOST_POINTS]}
    return {**tables, **more}


def number_pairs(task: Task, predictions: Sequence[Any], data: Dataset) -> list[list[float]]:
    """Return the expected and the predicted number of each row."""
    numbers = [float(value) for value in data[str(task.label_column_name)]]  # type: ignore[attr-defined]
    return [[number, float(row[0])] for number, row in zip(numbers, predictions, strict=True)]


def calibration(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Return the expected calibration error, and mean confidence, accuracy and rows of each bin of confidence."""
    import numpy as np

    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    table, error = [], 0.0
    for k in range(BINS):
        inside = bins == k
        count = int(inside.sum())
        if count:
            sure, accuracy = float(confidence[inside].mean()), float(right[inside].mean())
            error += count / len(confidence) * abs(sure - accuracy)
            table.append({"confidence": sure, "accuracy": accuracy, "rows": count})
    return {"ece": error, "calibration": table}


def _confusion(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of a confusion matrix that aren't 0: true label, predicted label, rows."""
    matrix = tables.get("confusion_matrix", [])
    return {"confusion": [[i, j, n] for i, row in enumerate(matrix) for j, n in enumerate(row) if n]}


def several_labels(task: Task, predictions: Sequence[Any], data: Dataset) -> dict[str, Any]:
    """Return the tables of several labels a text: thresholds, labels, and calibration of each label of each text."""
    import numpy as np

    from ..metrics.labels import rates

    names = list(task.labels)  # type: ignore[attr-defined]
    scores = np.stack([probabilities(row, "labels") for row in predictions])
    truth = np.array([[label in row for label in names] for row in task.labels_by_row(data)])
    guess = scores >= task.threshold  # type: ignore[attr-defined]
    return {
        "thresholds": thresholds(scores, truth),
        "per_label": [
            {"label": name, **rates(*(int(x[:, i].sum()) for x in (guess & truth, guess, truth)))}
            for i, name in enumerate(names)
        ],
        **calibration(np.maximum(scores, 1 - scores).ravel(), ((scores >= 0.5) == truth).ravel()),
    }


def thresholds(scores: np.ndarray, truth: np.ndarray) -> list[dict[str, float]]:
    """Return precision, recall and F1 (micro) at thresholds from 0.05 to 0.95; both arguments are (rows, labels)."""
    table = []
    for threshold in THRESHOLDS:
        guess = scores >= threshold
        right, guessed, true = (int(x.sum()) for x in (guess & truth, guess, truth))
        table.append(
            {
                "threshold": threshold,
                "precision": right / guessed if guessed else 0.0,
                "recall": right / true if true else 0.0,
                "f1": 2 * right / (guessed + true) if guessed + true else 0.0,
                "exact": float((guess == truth).all(-1).mean()),
            }
        )
    return table


def errors_by_kind(task: Task, predictions: Sequence[Any], data: Dataset) -> list[dict[str, Any]]:
    """Count errors of entities: wrong boundary, wrong type, missed, invented; of an entity, the first that applies."""
    from ..errors import DataError
    from ..metrics import entity_spans

    counts: Counter[str] = Counter()
    for guess, truth in zip(tags_of(task, predictions), task.labels_by_row(data), strict=True):
        try:
            predicted, expected = set(entity_spans(guess)), set(entity_spans(list(truth)))
        except DataError:  # tags of no entities, such as parts of speech
            return []
        counts["right"] += len(predicted & expected)
        left, missed = predicted - expected, expected - predicted
        for _, start, end in sorted(missed):
            same = next((p for p in left if p[1:] == (start, end)), None)
            overlapping = next((p for p in left if p[1] < end and start < p[2]), None)
            chosen = same or overlapping
            counts["type" if same else "missed" if chosen is None else "boundary"] += 1
            left = left - {chosen} if chosen else left
        counts["invented"] += len(left)
    return [{"kind": kind, "count": counts[kind]} for kind in ("right", "boundary", "type", "missed", "invented")]


# ---- rows


def groups_of(task: Task, data: Dataset, train: Dataset | None) -> list[dict[str, str]]:
    """Return the slices that each row is part of: by length, by label frequency, by the file's other columns."""
    texts = texts_of(task, data)
    lengths = [len(text.split()) for text in texts]
    groups = [{"length": name} for name in _quarters(lengths, "words")]
    if kind_of(task) == "label" and train is not None:
        counts = Counter(labels[0] for labels in task.labels_by_row(train))
        by_row = [counts[labels[0]] for labels in task.labels_by_row(data)]
        if len(set(by_row)) > 1:
            for group, name in zip(groups, _quarters(by_row, "training rows of the label"), strict=True):
                group["label frequency"] = name
    if kind_of(task) == "span":
        for group, text in zip(groups, data[task.input_columns[0]], strict=True):
            first = str(text).split()[:1]
            group["question word"] = first[0].lower() if first else ""
    for column in data.column_names:
        if column.startswith("_") or column in task.columns_read or column in task.metadata:
            continue
        values = data[column]
        if all(isinstance(v, str | int | bool) or v is None for v in values) and 1 < len(set(values)) <= _MOST_VALUES:
            for group, value in zip(groups, values, strict=True):
                group[column] = str(value)
    return groups


def _quarters(values: Sequence[int], unit: str) -> list[str]:
    """Return the quarter of the values that each is in, by its range."""
    import numpy as np

    edges = sorted({int(np.quantile(values, q, method="lower")) for q in (0.25, 0.5, 0.75, 1.0)})
    starts = [min(values), *(edge + 1 for edge in edges[:-1])]
    names = [f"{a} {unit}" if a == b else f"{a} to {b} {unit}" for a, b in zip(starts, edges, strict=True)]
    return [names[int(np.searchsorted(edges, value))] for value in values]


def _slice_order(key: tuple[str, str], rows: int) -> tuple[str, int, int, str]:
    """Return what slices are sorted by: ranges of numbers by these, others by their rows."""
    name, value = key
    number = value.split()[0] if name in ("length", "label frequency") else ""
    return name, int(number) if number.isdigit() else 0, -rows, value


def slices(groups: Sequence[dict[str, str]], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return the share of right answers in each slice of the rows."""
    counts: dict[tuple[str, str], list[int]] = {}
    for group, answer in zip(groups, answers, strict=True):
        for key in group.items():
            if answer.right is not None:
                counts.setdefault(key, []).append(answer.right)
    return [
        {"slice": name, "value": value, "rows": len(of), "right": sum(of) / len(of)}
        for (name, value), of in sorted(counts.items(), key=lambda item: _slice_order(item[0], len(item[1])))
    ]


def span_slices(
    groups: Sequence[dict[str, str]], answers: Sequence[Answer], expected: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """Return SQuAD's metrics in each slice of the rows, such as by question word, of at least five rows."""
    from ..metrics import squad

    rows: dict[tuple[str, str], list[int]] = {}
    for i, group in enumerate(groups):
        for key in group.items():
            rows.setdefault(key, []).append(i)
    table = []
    for (name, value), some in sorted(rows.items(), key=lambda item: _slice_order(item[0], len(item[1]))):
        if len(some) >= _LEAST_ROWS:
            accepted = [[text for text in expected[i] if text] for i in some]  # none for an unanswerable question
            values = squad([answers[i].text for i in some], accepted).values
            table.append(
                {"slice": name, "value": value, "rows": len(some), **{k: values[k] for k in ("exact_match", "f1")}}
            )
    return table


def number_slices(groups: Sequence[dict[str, str]], errors: Sequence[float]) -> list[dict[str, Any]]:
    """Return the mean and the mean magnitude of errors, predicted minus expected, in each slice of the rows."""
    values: dict[tuple[str, str], list[float]] = {}
    for group, error in zip(groups, errors, strict=True):
        for key in group.items():
            values.setdefault(key, []).append(error)
    return [
        {
            **{"slice": name, "value": value, "rows": len(some)},
            "mean absolute error": sum(map(abs, some)) / len(some),
            "mean error": sum(some) / len(some),
        }
        for (name, value), some in sorted(values.items(), key=lambda item: _slice_order(item[0], len(item[1])))
    ]


def sample_rows(
    task: Task, data: Dataset, answers: Sequence[Sequence[Answer] | None], groups: Sequence[dict[str, str]]
) -> list[Row]:
    """Return rows for a page: errors of the greatest confidence, rows on which candidates disagree, and others.

    `answers` are those of each candidate, row by row, or None for a candidate that failed.
    """
    import random

    chosen: dict[int, None] = {}
    for some in answers:
        wrong = [i for i, a in enumerate(some or []) if a.right is False]
        wrong.sort(key=lambda i: -((some or [])[i].score or 0.0))
        chosen |= dict.fromkeys(wrong[:_MOST_ERRORS])
    every = [some for some in answers if some]
    differ = [i for i in range(len(data)) if len({some[i].text for some in every}) > 1] if every else []
    shuffled = random.Random(0).sample(range(len(data)), len(data))
    chosen |= dict.fromkeys([*differ[: MOST_ROWS // 2], *shuffled])
    numbers = sorted(list(chosen)[:MOST_ROWS])
    some_rows = data.select(numbers)
    lines = lines_of(data)
    expected, texts = expected_of(task, some_rows), texts_of(task, some_rows)
    return [
        Row(lines[i], text, joined(task, truth)[:600], [some[i] if some else None for some in answers], groups[i])
        for i, text, truth in zip(numbers, texts, expected, strict=True)
    ]
