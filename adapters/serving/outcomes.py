"""What an answer decides, without its scores: to compare versions, and to write rows that a run trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import DataError, unknown
from ..tasks import Task
from ..tasks.labels import MULTI, NUMBER


def outcome(task: Task, value: Any) -> Any:
    """Return the label, labels, number, entities, words or text of an answer, with or without all scores."""
    if task.generates:
        return (value[0] if isinstance(value, list) else value)["generated_text"]  # a list where all scores are wanted
    kind = getattr(task, "problem_type", None)
    if task.name == "token-classification":
        entities = value if isinstance(value, list) else value.get("entities", value.get("tags", []))
        return [_entity(entity) for entity in entities]
    if kind == MULTI:
        scores = {c["label"]: c["score"] for c in value} if isinstance(value, list) else value["labels"]
        threshold = getattr(task, "threshold", 0.5)
        return [label for label in getattr(task, "labels", ()) if scores.get(label, 0.0) >= threshold]
    best = (value or [{}])[0] if isinstance(value, list) else value
    if kind == NUMBER:
        return best["score"] if isinstance(value, list) else best["value"]
    if not isinstance(best, Mapping):  # of a text with several masks
        return [words[0].get("token_str") for words in value]
    return next((best[key] for key in ("label", "answer", "token_str") if key in best), None)


def _entity(entity: Any) -> Any:
    if not isinstance(entity, Mapping):
        return entity
    label = entity.get("entity_group", entity.get("entity", entity.get("label")))
    return {"start": entity.get("start"), "end": entity.get("end"), "label": label}


def scores(value: Any) -> dict[str, float] | None:
    """Return the probability of each label of an answer with all scores, else None."""
    if not isinstance(value, list) or not all(isinstance(c, Mapping) and "label" in c and "score" in c for c in value):
        return None
    return {str(c["label"]): float(c["score"]) for c in value}


def checked(task: Task, label: Any) -> Any:
    """Return a label that a client sent, in the form of `outcome`. Raises `DataError` where the task can't have it."""
    labels = tuple(getattr(task, "labels", ()))
    kind = getattr(task, "problem_type", None)
    if task.name == "token-classification":
        if not isinstance(label, list) or not all(_is_entity(entity) for entity in label):
            raise DataError("label must be a list of entities with start, end and label")
        return [_entity(entity) for entity in label]
    if kind == NUMBER:
        if isinstance(label, bool) or not isinstance(label, int | float):
            raise DataError(f"label must be a number, got {str(label)[:40]!r}")
        return float(label)
    if kind == MULTI:
        if not isinstance(label, list):
            raise DataError(f"label must be a list of labels, got {str(label)[:40]!r}")
        for one in label:
            _check_label(one, labels)
        return [one for one in labels if one in label]
    if task.has_choices:
        if isinstance(label, bool) or not isinstance(label, int):
            raise DataError(f"label must be the number of a choice, got {str(label)[:40]!r}")
        return label
    if labels:
        _check_label(label, labels)
    elif not isinstance(label, str):
        raise DataError(f"label must be a text, got {str(label)[:40]!r}")
    return label


def _is_entity(entity: Any) -> bool:
    return isinstance(entity, Mapping) and all(
        isinstance(entity.get(key), kind) for key, kind in (("start", int), ("end", int), ("label", str))
    )


def _check_label(label: Any, labels: tuple[str, ...]) -> None:
    if not isinstance(label, str) or label not in labels:
        raise DataError(unknown("label", str(label)[:100], labels, known_as="labels"))


def training_row(task: Task, row: Any, label: Any) -> dict[str, Any]:
    """Return a row with its label, in columns that `adapt run` reads for the task."""
    columns = dict(row) if isinstance(row, Mapping) else {k: v[0] for k, v in task.rows([row]).items()}
    if task.name == "token-classification":
        texts = [v for v in columns.values() if isinstance(v, str)]
        return {"text": texts[0] if texts else next(iter(columns.values())), "entities": label}
    if task.name == "question-answering":
        start = str(columns[task.input_columns[-1]]).find(label) if label else -1
        label = {"text": [label], "answer_start": [start]} if start >= 0 else {"text": [], "answer_start": []}
    if task.name == "fill-mask":
        return columns
    names = ("label_column_name", "answer_column_name", "completion_column_name", "target_column_name")
    column = next((value for name in names if isinstance(value := getattr(task, name, None), str) and value), "")
    if not column and task.generates:  # a language model's rows are texts
        first = task.input_columns[0]
        return {**columns, first: f"{columns[first]}{label}"}
    return {**columns, column or "label": label}
