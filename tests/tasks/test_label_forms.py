"""Labels that look alike, dates, lists and amounts among labels are named; lists of fractions are read as flags."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from datasets import Dataset

from adapterkit import Base
from adapterkit.data.splits import LINE
from adapterkit.errors import DataError
from adapterkit.features.tokenize import tokenized
from adapterkit.tasks import TextClassification
from adapterkit.tasks.label_remarks import label_remarks
from adapterkit.tasks.labels import MULTI, NUMBER, SINGLE, kind_of, number_in


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


@pytest.mark.parametrize("form", ["${}.50", "{}.5 EUR", "{}'000.5", "{}.000,5", "CHF {}.20", "({}.5)", "{}.5kg"])
def test_different_numbers_with_a_unit_or_other_signs_are_named(form: str) -> None:
    [remark] = remarks(*(form.format(i) for i in range(1, 12)))
    assert remark.startswith("the labels in column 'label' look like numbers with other signs (")


@pytest.mark.parametrize("form", ["v{}.1", "1.{}.2", "{} stars", "T{}", "{}/5", "type {}.0"])
def test_versions_and_names_with_numbers_are_not(form: str) -> None:
    assert remarks(*(form.format(i) for i in range(1, 12))) == []


def test_a_typographic_minus_is_one() -> None:
    assert (number_in("\u22124.5"), kind_of(["\u22124.5", "3.5"])) == (-4.5, NUMBER)


def test_separated_thousands_are_counted() -> None:
    remark, *_ = label_remarks("label", ["1,234.5", "2,000.25", "7.5"], {}, NUMBER)
    assert remark == "2 numbers in column 'label' with separated thousands: read as 1234.5 of 1,234.5"


def _lists(cells: list[list[float]]) -> Dataset:
    return Dataset.from_dict(
        {"text": [f"text {i}" for i in range(len(cells))], "label": cells, LINE: [*range(len(cells))]}
    )


def test_lists_of_probabilities_are_no_labels() -> None:
    task = TextClassification().with_columns(["text", "label"])
    with pytest.raises(DataError, match="column 'label' holds lists of probabilities, but labels, or zeros and ones"):
        task.fit(_lists([[0.2, 0.8], [1.0, 0.0]]))


def test_zeros_and_ones_as_fractions_are_flags() -> None:
    data = _lists([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    task = TextClassification().with_columns(["text", "label"])
    with pytest.raises(DataError, match="lists of 3 zeros and ones, one for each label; give --labels"):
        task.fit(data)
    named = TextClassification(labels=("a", "b", "c")).with_columns(["text", "label"]).fit(data)
    assert list(named.labels_by_row(data)) == [["a", "c"], [], ["a", "b", "c"]]


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        ([[1, 0, 1], [0, 1, 1], [1, 1, 0]], {"labels": ("a", "b", "c"), "problem_type": MULTI}),
        ([[True, False], [False, True]], {"labels": ("a", "b"), "problem_type": MULTI}),
        ([4, 2, 0], {"problem_type": NUMBER}),
        ([4.0, 2.0, 0.0], {"labels": ("0", "2", "4"), "problem_type": SINGLE}),
        (["2", "0"], {"labels": ("0", "2"), "problem_type": SINGLE}),
    ],
)
def test_targets_do_not_depend_on_the_type_or_the_name_of_the_column(
    cells: list[Any], options: dict[str, Any], tiny_base: Base
) -> None:
    features = []
    for name in ("label", "labels"):
        rows = range(len(cells))
        data = Dataset.from_dict({"text": [f"text {i}" for i in rows], name: cells, LINE: [*rows]})
        task = TextClassification(**options).with_columns(["text", name])
        features.append(tokenized(task, data, tiny_base, labelled=True))
    assert features[0]["labels"][:] == features[1]["labels"][:]
    assert features[0].features["labels"] == features[1].features["labels"]
