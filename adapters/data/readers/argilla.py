"""Read records of Argilla: a record's fields with the first submitted response to each of its questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .source import BadRow, NumberedRows, Row, Source

WORDS = {
    "none": ("record without a submitted response left out", "records without a submitted response left out"),
    "further": (
        "further response to a question not read",
        "further responses to questions not read, the first counts",
    ),
    "suggested": ("record with suggestions, which are not read", "records with suggestions, which are not read"),
}
"""How records and responses that aren't read are counted."""


def records(source: Source, numbered: NumberedRows) -> NumberedRows:
    """Replace Argilla's records by rows of their fields and answers; other rows are returned as they are.

    Records without a response are left out, unless rows are to be predicted.
    """
    counts: Counter[str] = Counter()
    for number, row in numbered:
        row = row if isinstance(row, BadRow) else _nested(row)
        if isinstance(row, BadRow) or not _is_record(row):
            yield number, row
            continue
        values = _first_values(row["responses"], counts)
        counts["suggested"] += bool(row.get("suggestions"))
        if not values and not source.options.every_row:
            counts["none"] += 1
            continue
        identity = {key: row[key] for key in ("id", "external_id") if row.get(key) is not None}
        yield number, {**identity, **row["fields"], **values}
    for kind, words in WORDS.items():
        source.count(counts[kind], *words)


def _nested(row: Row) -> Row:
    """Return a row of `Dataset.records.to_datasets()`, with columns such as `label.responses`, as a record."""
    questions = [name.removesuffix(".responses") for name in row if name.endswith(".responses")]
    if not questions or not all(f"{name}.responses.status" in row for name in questions):
        return row
    responses = {name: _answers(row[f"{name}.responses"], row[f"{name}.responses.status"]) for name in questions}
    others = {name: value for name, value in row.items() if name.partition(".")[0] not in questions}
    identity = {name: others.pop(name) for name in ("id", "_server_id", "status") if name in others}
    suggested = any(row.get(f"{name}.suggestion") is not None for name in questions)
    return {"fields": others, "responses": responses, "suggestions": suggested, "id": identity.get("id")}


def _answers(values: Any, statuses: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not isinstance(statuses, list):  # None: no response
        return []
    return [{"value": value, "status": status} for value, status in zip(values, statuses, strict=False)]


def _is_record(row: Row) -> bool:
    return isinstance(row.get("fields"), Mapping) and isinstance(row.get("responses"), list | Mapping)


def _first_values(responses: Any, counts: Counter[str]) -> dict[str, Any]:
    """Return the first submitted answer to each question, by its name."""
    answers: dict[str, list[Any]] = {}
    if isinstance(responses, Mapping):  # Argilla 2: the responses to each question
        pairs = [(name, one) for name, several in responses.items() if isinstance(several, list) for one in several]
    else:  # Argilla 1: the answers of each response
        pairs = [
            (name, {"status": response.get("status", "submitted"), **value})
            for response in responses
            if isinstance(response, Mapping) and isinstance(response.get("values"), Mapping)
            for name, value in response["values"].items()
            if isinstance(value, Mapping)
        ]
    for name, one in pairs:
        if isinstance(one, Mapping) and "value" in one and one.get("status", "submitted") == "submitted":
            answers.setdefault(name, []).append(one["value"])
    counts["further"] += sum(len(several) - 1 for several in answers.values())
    return {name: several[0] for name, several in answers.items()}
