"""Labels that look alike, that spreadsheets turned into dates, and lists among single labels, are named."""

from __future__ import annotations

from collections import Counter

import pytest

from adapterkit.tasks.label_remarks import label_remarks
from adapterkit.tasks.labels import SINGLE


def remarks(*labels: str) -> list[str]:
    cells = list(labels) * 10
    return label_remarks("label", cells, Counter(cells), SINGLE)


@pytest.mark.parametrize(
    "same",
    [("not ok", "not-ok", "not_ok"), ("01", "1"), ("Cat", "\u0421at"), ("\u039fslo", "Oslo"), ("v1.02", "v1.02 ")],
)
def test_labels_that_look_alike_are_named(same: tuple[str, ...]) -> None:
    [remark] = remarks(*same, "other")
    assert remark.startswith(
        "labels that differ in case, hyphens, leading zeros, look-alike letters, spaces or invisible characters alone: "
    )
    assert all(repr(label) in remark for label in same)


@pytest.mark.parametrize("different", [("1-2", "12"), ("10", "1"), ("a1", "a2"), ("10", "100"), ("кот", "kit")])
def test_labels_that_do_not_are_not(different: tuple[str, ...]) -> None:
    assert remarks(*different, "other") == []


def test_dates_among_other_labels_are_named() -> None:
    [remark] = remarks("TP53", "2-Mar", "1-Sep")
    assert remark == "20 rows have a date among other labels, as spreadsheets make of 1-2: '1-Sep', '2-Mar'"
    assert remarks("2024-01-01", "2024-02-01") == []


def test_labels_joined_by_the_sign_of_doccano_are_named() -> None:
    assert any("joined by '#'" in remark for remark in remarks("pos", "food", "pos#food"))


def test_lists_among_single_labels_are_named() -> None:
    [remark] = remarks("joy", "anger", "['joy', 'anger']", "['fear', 'joy']")
    assert remark.startswith("20 rows have a list as text, read as one label, as most have none: ")


def test_minus_one_among_numbers_of_labels_often_means_none() -> None:
    assert remarks("0", "1", "2", "-1") == ["10 rows have a label that often means none: '-1'"]
    assert remarks("1", "0", "-1") == []
