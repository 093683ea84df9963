"""Which rows become validation rows: each label stays in training, and no more are cut than can be."""

from __future__ import annotations

from collections import Counter

import pytest

from adapterkit.data.validation_rows import EACH_LABEL_STAYS, validation_rows


def cut(labels: list[list[str]], percentage: int = 10, *, single: bool = True) -> tuple[list[int], str]:
    strata = [row[0] for row in labels] if single else None
    return validation_rows(len(labels), percentage, 42, strata, labels)


def test_few_rows_of_many_labels_leave_each_label_in_training() -> None:
    labels = [[str(i % 150)] for i in range(450)]
    rows, how = cut(labels)
    assert len(set(rows)) == len(rows) == 45
    assert rows == sorted(rows)
    assert Counter(labels[i][0] for i in rows).most_common(1)[0][1] == 1  # at most a third of a label
    assert how == EACH_LABEL_STAYS


@pytest.mark.parametrize("count", [1, 2, 12])
def test_rows_that_are_the_last_of_their_label_stay(count: int) -> None:
    assert cut([[str(i)] for i in range(count)])[0] == []


def test_a_rare_label_is_not_cut_off() -> None:
    labels = [["usual"]] * 19 + [["rare"]]
    for seed in range(20):
        rows, _ = validation_rows(20, 10, seed, [row[0] for row in labels], labels)
        assert len(rows) == 2
        assert 19 not in rows


def test_each_of_several_labels_of_a_row_stays() -> None:
    labels = [["a", "b"], ["a", "c"], ["a"], ["a"], ["b"], []]
    for seed in range(30):
        rows, _ = validation_rows(6, 50, seed, None, labels)
        left = Counter(label for i, row in enumerate(labels) if i not in rows for label in row)
        assert set(left) == {"a", "b", "c"}
        assert len(rows) == 3


def test_where_labels_stay_anyway_the_rows_are_those_of_earlier_versions() -> None:
    labels = [["p" if i % 4 else "n"] for i in range(80)]
    rows, how = cut(labels, 20)
    assert how == "stratified"
    assert rows == validation_rows(80, 20, 42, [row[0] for row in labels])[0]
