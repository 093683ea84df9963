"""Labels that can't be predicted count as errors, as scikit-learn counts a label that is never guessed."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, recall_score

from adapterkit.metrics import classification, multilabel


def test_a_label_that_cannot_be_predicted_is_an_error() -> None:
    guess = [0, 1, 1, 0, 1]
    truth = [0, 1, 2, 2, 0]
    values = classification(truth, guess, 3).values
    assert values["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert values["f1_macro"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert values["matthews"] == pytest.approx(matthews_corrcoef(truth, guess))


def test_further_labels_of_a_row_are_missed() -> None:
    truth, guess = np.array([[1, 0], [1, 1], [0, 0]]), np.array([[1, 0], [1, 0], [0, 0]])
    values = multilabel(truth, guess, unknown=[False, False, True]).values
    full = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    padded = np.c_[guess, [0, 0, 0]]
    assert values["accuracy"] == pytest.approx(accuracy_score(full, padded))
    assert values["f1_micro"] == pytest.approx(f1_score(full, padded, average="micro"))
    assert values["recall_micro"] == pytest.approx(recall_score(full, padded, average="micro"))
    assert multilabel(truth, guess).values["accuracy"] == pytest.approx(2 / 3)
