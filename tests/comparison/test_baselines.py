"""Baselines of a comparison: scikit-learn's own figures, and SetFit where it is installed."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from adapterkit import Pool
from adapterkit.base import Base
from adapterkit.comparison import baselines, setfit
from adapterkit.report import Results

pytestmark = pytest.mark.usefixtures("no_speed")


def accuracy(results: Results, name: str) -> float | None:
    candidate = next(c for c in results.candidates if c.name == name)
    assert candidate.error == ""
    return candidate.metrics["test"].values["accuracy"]


def test_their_figures_are_scikit_learns(compared: Callable[..., Results], small_csv: Path, tiny_base: Base) -> None:
    results = compared("head-only", baselines=True, keep="none")
    with small_csv.open() as file:
        rows = list(csv.DictReader(file))
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    assert accuracy(results, baselines.TFIDF) == pytest.approx(words.fit(texts, labels).score(texts, labels))
    assert accuracy(results, baselines.MAJORITY) == max(labels.count(x) for x in set(labels)) / len(labels)
    with Pool(tiny_base) as pool:
        vectors = pool.embed(texts)
    model = LogisticRegression(max_iter=1000).fit(vectors.numpy(), labels)
    assert accuracy(results, baselines.EMBEDDINGS) == pytest.approx(model.score(vectors.numpy(), labels))


def test_setfit_is_a_row_or_its_error(compared: Callable[..., Results], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setfit, "is_installed", lambda: True)
    monkeypatch.setattr(setfit, "MOST_ROWS", 5)
    rows = {c.name: c for c in compared("head-only", baselines=True, keep="none").candidates}
    assert rows[setfit.NAME].error == "24 rows are more than the 5 that SetFit is run on here"
    assert setfit.NAME not in {c.name for c in compared("head-only", keep="none").candidates}


def test_setfit_learns_what_the_rows_say(minilm: Base) -> None:
    pytest.importorskip("setfit")
    texts = ["what a lovely film", "i enjoyed it so much", "a dreadful bore", "i hated every minute"]
    fitted = setfit.fit_setfit(minilm, texts, [2, 2, 0, 0], 3, seed=0)
    logits = fitted.predict(["we loved this", "boring and awful"])
    assert [row.argmax() for row in logits] == [2, 0]
    assert [row.argmin() for row in logits] == [1, 1]  # of which there was no row
