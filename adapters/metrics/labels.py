"""Metrics of labels: one per row, or any number per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .bootstrap import Metrics, check_pairs, measure, ratio

if TYPE_CHECKING:
    import numpy as np


def classification(truth: Sequence[int], guess: Sequence[int], num_labels: int) -> Metrics:
    """Measure one label per row: accuracy, f1_macro, f1_micro and matthews.

    As in scikit-learn, f1_macro is the mean over the labels that occur in truth or guess. f1_micro equals accuracy.
    matthews is 0 where truth or guess is one label throughout.
    """
    from scipy.sparse import csr_array

    true, guessed = _checked(truth, guess, num_labels)
    of_true, of_guessed = (_one_hot(labels, num_labels) for labels in (true, guessed))
    of_right = csr_array(of_true * of_guessed)

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        t, g, right = weights @ of_true, weights @ of_guessed, weights @ of_right  # (draws, num_labels)
        accuracy = right.sum(-1) / weights.sum(-1)
        f1_macro = ratio(ratio(2 * right, t + g).sum(-1), (t + g > 0).sum(-1))
        return {"accuracy": accuracy, "f1_macro": f1_macro, "f1_micro": accuracy, "matthews": _matthews(t, g, right)}

    return measure(len(true), scores)


def multilabel(truth: np.ndarray, guess: np.ndarray, *, unknown: Sequence[bool] = ()) -> Metrics:
    """Measure any number of labels per row, (n, labels): f1_micro, f1_macro, accuracy, precision_micro, recall_micro.

    `unknown` is whether a row also has labels that can't be predicted, which are missed. accuracy counts the rows whose
    labels are all right. f1_macro is the mean over all labels and, as in scikit-learn, a
    label that nobody gave counts as 0.
    """
    import numpy as np
    from scipy.sparse import csr_array

    true, guessed = np.asarray(truth, dtype=bool), np.asarray(guess, dtype=bool)
    if true.shape != guessed.shape or true.ndim != 2:
        raise DataError(f"predictions of shape {guessed.shape} for labels of shape {true.shape}")
    if any(unknown):  # as one more label, which is never guessed
        true, guessed = np.c_[true, unknown], np.c_[guessed, np.zeros(len(guessed), dtype=bool)]
    exact = (true == guessed).all(-1).astype(float)
    seen = (true | guessed).any(0).mean()
    of_true, of_guessed, of_right = (csr_array(x.astype(float)) for x in (true, guessed, true & guessed))

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        t, g, right = weights @ of_true, weights @ of_guessed, weights @ of_right  # (draws, labels)
        return {
            "f1_micro": ratio(2 * right.sum(-1), (t + g).sum(-1)),
            # a label that only a resample lacks is no fault of the predictions
            "f1_macro": ratio(ratio(2 * right, t + g).sum(-1), (t + g > 0).sum(-1)) * seen,
            "accuracy": weights @ exact / weights.sum(-1),
            "precision_micro": ratio(right.sum(-1), g.sum(-1)),
            "recall_micro": ratio(right.sum(-1), t.sum(-1)),
        }

    return measure(len(true), scores)


def confusion_matrix(truth: Sequence[int], guess: Sequence[int], num_labels: int) -> list[list[int]]:
    """Count rows by label: a row for each true label, a column for each predicted one."""
    import numpy as np

    true, guessed = _checked(truth, guess, num_labels)
    counts = np.bincount(true * num_labels + guessed, minlength=num_labels**2)
    matrix: list[list[int]] = counts.reshape(num_labels, num_labels).tolist()
    return matrix


def label_table(truth: Sequence[int], guess: Sequence[int], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return label, precision, recall, f1 and support, the number of rows that have it, for each label."""
    import numpy as np

    counts = np.array(confusion_matrix(truth, guess, len(labels)))
    columns = zip(labels, counts.diagonal(), counts.sum(0), counts.sum(1), strict=True)
    return [{"label": label, **rates(right, guessed, true)} for label, right, guessed, true in columns]


def rates(right: int, guessed: int, true: int) -> dict[str, float | int]:
    """Return precision, recall, f1 and support from counts, 0 where there is nothing to divide by."""
    return {
        "precision": float(right / guessed) if guessed else 0.0,
        "recall": float(right / true) if true else 0.0,
        "f1": float(2 * right / (guessed + true)) if guessed + true else 0.0,
        "support": int(true),
    }


def _matthews(true: np.ndarray, guessed: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the correlation of truth and guess for any number of labels (Gorodkin 2004)."""
    import numpy as np

    rows = true.sum(-1)
    covariance = right.sum(-1) * rows - (true * guessed).sum(-1)
    spread = np.sqrt(rows**2 - (true**2).sum(-1)) * np.sqrt(rows**2 - (guessed**2).sum(-1))
    return ratio(covariance, spread).clip(-1.0, 1.0)  # rounding makes it 1 + 2e-16


def _checked(truth: Sequence[int], guess: Sequence[int], num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    check_pairs(truth, guess)
    both = np.asarray([truth, guess], dtype=int)
    if both.size and not 0 <= both.min() <= both.max() < num_labels:
        raise DataError(f"labels from {both.min()} to {both.max()}, but there are {num_labels}, counted from 0")
    return both[0], both[1]


def _one_hot(labels: np.ndarray, num_labels: int) -> Any:
    """Return a sparse matrix, (n, num_labels), with a 1 in each row."""
    import numpy as np
    from scipy.sparse import csr_array

    n = len(labels)
    return csr_array((np.ones(n), labels, np.arange(n + 1)), shape=(n, num_labels))
