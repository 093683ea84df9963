"""Metrics of labels equal scikit-learn's."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics

from adapterkit import metrics


def some_labels(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return truth and guess: many labels or few, often right or never, some labels absent."""
    rng = np.random.default_rng(seed)
    n, labels = int(rng.integers(1, 60)), int(rng.integers(1, 9))
    truth = rng.integers(0, labels, n)
    return truth, np.where(rng.random(n) < rng.random(), truth, rng.integers(0, labels, n)), labels + seed % 3


@pytest.mark.parametrize("seed", range(40))
def test_labels_are_measured_as_by_scikit_learn(seed: int) -> None:
    truth, guess, num_labels = some_labels(seed)
    found = metrics.classification(truth.tolist(), guess.tolist(), num_labels).values
    with warnings.catch_warnings(action="ignore"):
        wanted = {
            "accuracy": sklearn.metrics.accuracy_score(truth, guess),
            "f1_macro": sklearn.metrics.f1_score(truth, guess, average="macro", zero_division=0.0),
            "f1_micro": sklearn.metrics.f1_score(truth, guess, average="micro", zero_division=0.0),
            "matthews": sklearn.metrics.matthews_corrcoef(truth, guess),
        }
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_tables_of_labels_are_those_of_scikit_learn(seed: int) -> None:
    truth, guess, num_labels = some_labels(seed)
    matrix = metrics.confusion_matrix(truth.tolist(), guess.tolist(), num_labels)
    with warnings.catch_warnings(action="ignore"):
        assert matrix == sklearn.metrics.confusion_matrix(truth, guess, labels=range(num_labels)).tolist()
    table = metrics.label_table(truth.tolist(), guess.tolist(), [f"label {i}" for i in range(num_labels)])
    columns = sklearn.metrics.precision_recall_fscore_support(truth, guess, labels=range(num_labels), zero_division=0.0)
    for i, row in enumerate(table):
        assert list(row) == ["label", "precision", "recall", "f1", "support"]
        assert row["label"] == f"label {i}"
        assert list(row.values())[1:] == pytest.approx([column[i] for column in columns])
    json.dumps([matrix, table])


@pytest.mark.parametrize("seed", range(40))
def test_many_labels_a_row_are_measured_as_by_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 50)), int(rng.integers(2, 7)))
    truth, guess = rng.random(shape) < rng.random(shape[1]), rng.random(shape) < rng.random(shape[1])
    truth[:, 0] &= seed % 2 == 0  # in half of the trials nobody has the first label
    guess = np.where(rng.random((shape[0], 1)) < 0.5, truth, guess)
    found = metrics.multilabel(truth, guess).values
    options = {"zero_division": 0.0}
    assert found == pytest.approx(
        {
            "f1_micro": sklearn.metrics.f1_score(truth, guess, average="micro", **options),
            "f1_macro": sklearn.metrics.f1_score(truth, guess, average="macro", **options),
            "accuracy": sklearn.metrics.accuracy_score(truth, guess),
            "precision_micro": sklearn.metrics.precision_score(truth, guess, average="micro", **options),
            "recall_micro": sklearn.metrics.recall_score(truth, guess, average="micro", **options),
        }
    )
