"""Metrics of extracted answers, as in the official scripts of SQuAD."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .bootstrap import Metrics, check_pairs, measure, ratio
from .scripts import composed, is_unspaced, words

if TYPE_CHECKING:
    import numpy as np

PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> Metrics:
    """Measure answers against the possible ones of each question: exact_match and f1, from 0 to 100.

    Where an answer is in a script without spaces, such as Chinese, f1 is that of CMRC 2018: of the longest run of
    characters that both have. In other scripts than Latin, punctuation is not ASCII's alone.
    Composed characters equal decomposed ones.
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

    characters = sum(any(map(is_unspaced, row)) for row in answers)
    notes = [f"f1 of {characters:,} answers counts characters, as in CMRC 2018: they have no spaces between words"]
    return measure(len(points), scores, notes=notes if characters else ())


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
    scores = [_score(prediction, answer, empty_counts=False) for answer in answers]
    scores = [score for score in scores if score is not None] or [_score(prediction, "")]
    exact, f1 = zip(*filter(None, scores), strict=True)
    return max(exact), max(f1)


def _score(prediction: str, answer: str, *, empty_counts: bool = True) -> tuple[float, float] | None:
    """Return exact match and f1 against one answer; None for one without words, unless it counts."""
    prediction, answer = composed(prediction), composed(answer)
    unspaced = is_unspaced(answer)
    split = words if unspaced else _words_of(answer)
    predicted, expected = split(prediction), split(answer)
    if not (expected or empty_counts):
        return None
    f1 = (_longest_run if unspaced else _overlap)(predicted, expected)
    return float(predicted == expected), f1


def _overlap(predicted: list[str], accepted: list[str]) -> float:
    if not predicted or not accepted:
        return float(predicted == accepted)
    same = (Counter(predicted) & Counter(accepted)).total()
    return 2 * same / (len(predicted) + len(accepted))


def _longest_run(predicted: list[str], accepted: list[str]) -> float:
    """Return the F1 of the longest run of tokens that both have (Cui et al. 2019, arXiv:1810.07366)."""
    longest, runs = 0, [0] * (len(accepted) + 1)  # by where a run ends in `accepted`
    for token in predicted:
        for i in range(len(accepted), 0, -1):
            runs[i] = runs[i - 1] + 1 if accepted[i - 1] == token else 0
        longest = max(longest, *runs)
    return 2 * longest / max(len(predicted) + len(accepted), 1)


def _words_of(answer: str) -> Callable[[str], list[str]]:
    """Return how to split an answer into words: as SQuAD does, for other scripts without all punctuation."""
    letters = [] if answer.isascii() else [c for c in answer if c.isalpha()]
    if 2 * sum(c > "\u024f" for c in letters) > len(letters):  # after Latin
        return lambda text: _words(_without_punctuation(text))
    return _words


def _without_punctuation(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c)[0] != "P")


def _words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation and articles."""
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split()
