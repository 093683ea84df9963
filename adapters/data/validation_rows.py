"""Which training rows become validation rows: drawn by a seed, stratified, and so that each label stays in training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

EACH_LABEL_STAYS = "each label stays in training"


def validation_rows(
    count: int, percentage: int, seed: int, strata: Sequence[str] | None, labels: Sequence[Sequence[str]] = ()
) -> tuple[list[int], str]:
    """Return the rows to cut off `count` training rows, in order, and how they were drawn.

    `strata` has a value per row, or is None; `labels` has the labels of each row, or is empty. There are none where
    every row is the last of one of its labels, or where there is one row.
    """
    if count < 2:
        return [], EACH_LABEL_STAYS
    cut, how = _drawn(count, percentage, seed, strata)
    if not labels or ((how == "stratified" or strata is None) and _labels_stay(cut, labels)):
        return cut, how
    return _with_labels_staying(count, percentage, seed, labels), EACH_LABEL_STAYS


def none_to_cut(count: int) -> str:
    """Return the remark on a training split that validation rows can't be cut off."""
    why = "each is the only one of its label" if count > 1 else "it is the only one"
    return f"no validation rows, and none of the {count:,} training rows can be split off: {why}"


def _drawn(count: int, percentage: int, seed: int, strata: Sequence[str] | None) -> tuple[list[int], str]:
    from sklearn.model_selection import train_test_split

    size = percentage / 100
    try:
        _, cut = train_test_split(range(count), test_size=size, random_state=seed, stratify=strata)
        return sorted(cut), "stratified" if strata else "at random"
    except ValueError:  # a stratum of one row, or fewer validation rows than strata
        _, cut = train_test_split(range(count), test_size=size, random_state=seed)
        return sorted(cut), "at random"


def _labels_stay(cut: Sequence[int], labels: Sequence[Sequence[str]]) -> bool:
    left = Counter(label for row in labels for label in row)
    every = set(left)
    left.subtract(label for i in cut for label in labels[i])
    return all(left[label] > 0 for label in every)


def _with_labels_staying(count: int, percentage: int, seed: int, labels: Sequence[Sequence[str]]) -> list[int]:
    """Return rows of which none is the last of a label: first at most the percentage of each label, then more."""
    wanted = math.ceil(count * percentage / 100)
    left = Counter(label for row in labels for label in set(row))
    quota = {label: math.ceil(rows * percentage / 100) for label, rows in left.items()}
    order, cut = np.random.default_rng(seed).permutation(count).tolist(), set[int]()
    for limited in (True, False):
        for i in order:
            row = set(labels[i])
            free = all(left[label] > 1 and (quota[label] > 0 or not limited) for label in row)
            if len(cut) < wanted and i not in cut and free:
                cut.add(i)
                left.subtract(row)
                for label in row:
                    quota[label] -= 1
    return sorted(cut)
