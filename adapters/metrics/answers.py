"""Metrics of extracted answers, as in the official scripts of SQuAD."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .bootstrap import Metrics, check_pairs, measure, ratio

if TYPE_CHECKING:
    import numpy as np

PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> Metrics:
    """Measure answers against the possible ones of each question: exact_match and f1, from 0 to 100.

    A question without answers can't be answered, and "" is then right. Where there are questions of both kinds, each
    kind is also measured by itself, as HasAns_exact, HasAns_f1, NoAns_exact and NoAns_f1.
    """
    import numpy as np

    check_pairs(answers, predictions)
    pairs = zip(predictions, answers, strict=True)
    points = 100 * np.array([_best(*pair) for pair in pairs], dtype=float).reshape(-1, 2)
    has = np.array([len(row) > 0 for row in answers], dtype=bool)

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        exact, f1 = (weights @ points).T / len(points)
        values = {"exact_match": exact, "f1": f1}
        for kind, rows in (("HasAns", has), ("NoAns", ~has)) if 0 < has.sum() < len(has) else ():
            exact, f1 = ratio((weights[:, rows] @ points[rows]).T, weights[:, rows].sum(-1))
            values |= {f"{kind}_exact": exact, f"{kind}_f1": f1}
        return values

    return measure(len(points), scores)


def best_threshold(
    scores_null_minus_best: Sequence[float], predictions: Sequence[str], answers: Sequence[Sequence[str]]
) -> tuple[float, Metrics]:
    """Return the threshold with the best f1, and the metrics with "" in place of each prediction that scores above it.

    This is `find_best_thresh` of SQuAD 2.0's script, but for two cases where the script's threshold doesn't give the
    script's f1: here equal scores fall on one side together, and if it is best to answer nothing, nothing is answered.
    """
    import numpy as np

    check_pairs(answers, predictions)
    check_pairs(answers, scores_null_minus_best)
    null = np.asarray(scores_null_minus_best, dtype=float)
    unanswered = [_best("", row)[1] for row in answers]
    answered = [_best(*pair)[1] for pair in zip(predictions, answers, strict=True)]
    order = np.argsort(null, kind="stable")
    gains = (np.array(answered, dtype=float) - unanswered)[order]
    f1 = np.cumsum([float(sum(unanswered)), *gains])  # (n + 1,), by how many of the rows are answered
    f1[1:-1][null[order][1:] == null[order][:-1]] = -np.inf  # a threshold can't separate equal scores
    count = int(f1.argmax())
    threshold = null[order[count - 1]] if count else min(0.0, np.nextafter(null.min(initial=0.0), -np.inf))
    chosen = ["" if score > threshold else text for score, text in zip(null, predictions, strict=True)]
    return float(threshold), squad(chosen, answers)


def _best(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Return exact match and f1, from 0 to 1, each against the answer that it is best for."""
    predicted = _words(prediction)
    accepted = [words for words in map(_words, answers) if words] or [[]]
    return max(float(predicted == words) for words in accepted), max(_overlap(predicted, words) for words in accepted)


def _overlap(predicted: list[str], accepted: list[str]) -> float:
    if not predicted or not accepted:
        return float(predicted == accepted)
    same = (Counter(predicted) & Counter(accepted)).total()
    return 2 * same / (len(predicted) + len(accepted))


def _words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation and articles."""
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split()
