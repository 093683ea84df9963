"""Read spaCy's training data: pairs of a text and its annotations, and categories with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .source import Source


def from_pairs(entries: Sequence[Any]) -> list[Any]:
    """Return pairs of a text and {"entities": [...]}, or of a text and spans, as objects; other entries unchanged."""
    return [{"text": entry[0], **_annotations(entry[1])} if _is_pair(entry) else entry for entry in entries]


def _annotations(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"entities": value}


def are_pairs(value: Any) -> bool:
    """Return whether a value is a list of pairs, among which the annotators for spaCy write null."""
    return isinstance(value, list) and any(map(_is_pair, value))


def _is_pair(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and (isinstance(entry[1], Mapping) or _are_spans(entry[1]))
        and "text" not in entry[1]
    )


def _are_spans(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(span, list) and len(span) == 3 and isinstance(span[0], int) and isinstance(span[2], str)
        for span in value
    )


def with_categories(source: Source, entries: Sequence[Any]) -> list[Any]:
    """Return objects with `cats`, scores by category, with a column `label`: the category, or a list of categories.

    A category counts from a score of 0.5. They are lists where any object has none or several.
    """
    chosen = [_categories(entry) for entry in entries]
    several = any(names is not None and len(names) != 1 for names in chosen)
    if any(names is not None for names in chosen):
        what = "lists of categories" if several else "categories"
        source.notes.append(f"cats read as {what} with a score of at least 0.5 (label)")
    return [
        entry if names is None else {**entry, "label": names if several else names[0]}
        for entry, names in zip(entries, chosen, strict=True)
    ]


def _categories(entry: Any) -> list[str] | None:
    if not isinstance(entry, Mapping) or "label" in entry or not isinstance(entry.get("cats"), Mapping):
        return None
    scores = entry["cats"]
    if not scores or not all(isinstance(score, int | float) for score in scores.values()):
        return None
    return [name for name, score in scores.items() if score >= 0.5]
