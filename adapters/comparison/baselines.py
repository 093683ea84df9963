"""Baselines on the rows of a comparison: no transformer, or a frozen one with a classifier of scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..base.base import Base
from ..report.answers import kind_of, texts_of
from ..tasks import Task
from ..tasks.labels import number_in

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

MAJORITY, TFIDF, EMBEDDINGS = "majority", "tf-idf + logistic regression", "embeddings + logistic regression"


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline."""

    name: str
    seconds: float
    parameters: int
    rate: float  # rows a second
    predict: Callable[[Sequence[str]], list[Any]]  # predictions as the task's: logits of each text


def fit_baselines(task: Task, train: Dataset, base: Base, *, embeddings: bool, seed: int) -> list[Baseline]:
    """Fit the baselines that a task has; none but for labels and numbers of texts."""
    kind = kind_of(task)
    if kind not in ("label", "labels", "number"):
        return []
    target = _target(task, kind, train)
    vectorise = _TfIdf()
    inputs: list[tuple[str, Callable[[Sequence[str]], Any]]] = [(MAJORITY, _nothing), (TFIDF, vectorise)]
    if embeddings:
        inputs.append((EMBEDDINGS, lambda texts: _embedded(base, texts)))
    return [_fitted(name, task, kind, read, train, target, seed) for name, read in inputs]


def _fitted(
    name: str, task: Task, kind: str, read: Callable[[Sequence[str]], Any], train: Dataset, target: Any, seed: int
) -> Baseline:
    began = time.perf_counter()
    texts = texts_of(task, train)
    fit = getattr(read, "fit", None)
    x = fit(texts) if fit is not None else read(texts)
    model = _model(name, kind, seed).fit(x, target)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    _logits(model, kind, x, task)
    rate = len(texts) / max(time.perf_counter() - began, 1e-9)

    def predict(texts: Sequence[str]) -> list[Any]:
        return list(_logits(model, kind, read(texts), task))

    return Baseline(name, seconds, _parameters(model), rate, predict)


def _model(name: str, kind: str, seed: int) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if kind == "number":
        return DummyRegressor() if name == MAJORITY else Ridge()
    if name == MAJORITY:
        return DummyClassifier() if kind == "label" else OneVsRestClassifier(DummyClassifier())
    model = LogisticRegression(max_iter=1000, random_state=seed)
    return model if kind == "label" else OneVsRestClassifier(model)


def label_numbers(task: Task, data: Dataset) -> list[int]:
    """Return the number of each row's label."""
    labels = list(task.labels)  # type: ignore[attr-defined]
    return [labels.index(row[0]) for row in task.labels_by_row(data)]


def _target(task: Task, kind: str, data: Dataset) -> Any:
    import numpy as np

    if kind == "number":
        return np.array([number_in(value) for value in data[str(task.label_column_name)]])  # type: ignore[attr-defined]
    if kind == "label":
        return np.array(label_numbers(task, data))
    labels = list(task.labels)  # type: ignore[attr-defined]
    return np.array([[label in row for label in labels] for row in task.labels_by_row(data)], dtype=int)


def _logits(model: Any, kind: str, x: Any, task: Task) -> np.ndarray:
    """Return predictions in the form of the task's: logits of every label, (rows, labels)."""
    import numpy as np

    if kind == "number":
        numbers: np.ndarray = np.asarray(model.predict(x), dtype=float).reshape(-1, 1)
        return numbers
    share = np.clip(np.asarray(model.predict_proba(x), dtype=float), 1e-7, 1 - 1e-7)
    if kind == "labels":
        odds: np.ndarray = np.log(share / (1 - share))
        return odds
    logits = np.full((len(share), len(task.labels)), np.log(1e-7))  # type: ignore[attr-defined]
    logits[:, model.classes_] = np.log(share)
    return logits


def _parameters(model: Any) -> int:
    parts = getattr(model, "estimators_", [model])
    return sum(int(p.coef_.size + p.intercept_.size) for p in parts if hasattr(p, "coef_"))


def _nothing(texts: Sequence[str]) -> np.ndarray:
    import numpy as np

    return np.zeros((len(texts), 1))


class _TfIdf:
    """Words and pairs of words, weighted by TF-IDF."""

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)

    def fit(self, texts: Sequence[str]) -> Any:
        return self.vectoriser.fit_transform(texts)

    def __call__(self, texts: Sequence[str]) -> Any:
        return self.vectoriser.transform(texts)


def _embedded(base: Base, texts: Sequence[str]) -> np.ndarray:
    from ..report.embeddings import embeddings

    return embeddings(base, texts)
