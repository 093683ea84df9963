"""Turn the logits of a text classifier into its answers: a label, several labels or a number, and all scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .labels import MULTI, NUMBER, Kind
from .probabilities import expit, softmax

if TYPE_CHECKING:
    import numpy as np


def label_answers(logits: Sequence[Any], labels: Sequence[str], kind: Kind, threshold: float) -> list[dict[str, Any]]:
    """Return the answer to each row; `threshold` is the probability from which one of several labels is predicted."""
    rows = _probabilities(logits, kind)
    if kind == NUMBER:
        return [{"value": float(row[0])} for row in rows]
    if kind == MULTI:
        return [{"labels": {labels[i]: float(p) for i, p in enumerate(row) if p >= threshold}} for row in rows]
    return [{"label": labels[row.argmax()], "score": float(row.max())} for row in rows]


def label_candidates(logits: Sequence[Any], labels: Sequence[str], kind: Kind) -> list[list[dict[str, Any]]]:
    """Return the label and score of every label, the best first; a number is the score of a label "value"."""
    names = ("value",) if kind == NUMBER else labels
    rows = _probabilities(logits, kind)
    scored = [[{"label": name, "score": float(p)} for name, p in zip(names, row, strict=True)] for row in rows]
    return [sorted(row, key=lambda candidate: -float(candidate["score"])) for row in scored]


def _probabilities(logits: Sequence[Any], kind: Kind) -> np.ndarray:
    """Return the probability of each label, (rows, labels), or the numbers themselves."""
    import numpy as np

    values = np.stack(logits).astype("float64")
    if kind == NUMBER:
        return values
    result: np.ndarray = expit(values) if kind == MULTI else softmax(values, axis=-1)
    return result
