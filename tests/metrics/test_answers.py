"""Metrics of answers are those that SQuAD defines."""

from __future__ import annotations

import math
import random
import string

import numpy as np
import pytest
from torchmetrics.functional.text import squad as torchmetrics_squad

from adapterkit import metrics
from adapterkit.metrics.scripts import is_unspaced
from tests.helpers.metric_rows import TEXTS, close

SPACED = [text for text in TEXTS if not is_unspaced(text)]
"""Those that SQuAD's script, which knows no others, measures by words."""


def squads(seed: int, unanswerable: float) -> tuple[list[str], list[list[str]], list[float]]:
    """Return predictions, answers and distinct scores of no answer, negative ones among them."""
    rng = random.Random(seed)
    n = rng.randint(2, 40)
    answers = [[] if rng.random() < unanswerable else rng.choices(SPACED, k=rng.randint(1, 3)) for _ in range(n)]
    others = [rng.choice(SPACED) for _ in range(n)]
    predictions = [rng.choice([*row, other]) for row, other in zip(answers, others, strict=True)]
    return predictions, answers, [rng.gauss(0 if row else 2, 3) for row in answers]


def reference(prediction: str, answers: list[str]) -> tuple[float, float]:
    """Return exact match and F1 of one row: torchmetrics' of an answer, and by definition where there is none."""
    if not answers:
        return (100.0 * (prediction == ""),) * 2
    target = {"answers": {"answer_start": [0] * len(answers), "text": answers}, "id": "0"}
    found = torchmetrics_squad([{"prediction_text": prediction, "id": "0"}], [target])
    return float(found["exact_match"]), float(found["f1"])


def without_articles_alone(predictions: list[str], answers: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Leave out answers such as "the", of which nothing is left to compare, and on which references differ."""
    plain = [text if _something(text) else "" for text in predictions]
    return plain, [[text for text in row if _something(text)] for row in answers]


def _something(text: str) -> bool:
    words = text.lower().translate(str.maketrans("", "", string.punctuation)).split()
    return any(word not in ("a", "an", "the") for word in words)


@pytest.mark.parametrize("unanswerable", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("seed", range(15))
def test_answers_are_measured_as_squad_defines(seed: int, unanswerable: float) -> None:
    predictions, answers = without_articles_alone(*squads(seed, unanswerable)[:2])
    found = dict(metrics.squad(predictions, answers).values)
    rows = np.array([reference(*row) for row in zip(predictions, answers, strict=True)])
    has = np.array([bool(row) for row in answers])
    assert found.pop("exact_match") == pytest.approx(rows[:, 0].mean(), abs=1e-4)
    assert found.pop("f1") == pytest.approx(rows[:, 1].mean(), abs=1e-4)
    both = has.any() and not has.all()
    wanted = {"HasAns_exact": rows[has, 0], "HasAns_f1": rows[has, 1], "NoAns_exact": rows[~has, 0]}
    wanted["NoAns_f1"] = rows[~has, 1]
    assert found == pytest.approx({k: v.mean() for k, v in wanted.items()} if both else {}, abs=1e-4)


def f1_at(threshold: float, predictions: list[str], answers: list[list[str]], scores: list[float]) -> float:
    chosen = ["" if score > threshold else text for score, text in zip(scores, predictions, strict=True)]
    _, f1 = np.transpose([metrics.answers._best(*pair) for pair in zip(chosen, answers, strict=True)])
    return 100 * float(f1.mean())


@pytest.mark.parametrize("seed", range(60))
def test_no_other_threshold_has_a_better_f1(seed: int) -> None:
    predictions, answers, scores = squads(seed, [0.0, 0.3, 0.9, 1.0][seed % 4])
    scores = [float(round(score)) for score in scores]  # many are equal
    threshold, found = metrics.best_threshold(scores, predictions, answers)
    assert close(found.values["f1"], f1_at(threshold, predictions, answers, scores))
    best = max(f1_at(other, predictions, answers, scores) for other in [-math.inf, *scores])
    assert close(found.values["f1"], best)
