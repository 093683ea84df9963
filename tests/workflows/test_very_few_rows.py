"""Runs on hardly any rows, or on rows that nearly all have one label: each ends, and its remarks say what to expect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from adapterkit import Base, Plan, Registry, run
from adapterkit.errors import DataError

WORDS = ("good", "bad", "fine", "poor", "great", "awful")
ON_TRAINING = "no validation rows: the metrics are those of the training rows, and too high for new ones"
TWELVE = [f"l{i}" for i in range(12)]
CROSS_VALIDATED = "no validation rows: the metrics are cross-validated"


def csv_of(labels: Sequence[str], folder: Path) -> str:
    """Write a row for each label, with texts that tell nothing about it."""
    file = folder / "rows.csv"
    file.write_text("text,label\n" + "".join(f"{WORDS[i % 6]} {i},{label}\n" for i, label in enumerate(labels)))
    return str(file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "labels", "split", "remarks"),
    [
        ("head-only", "ab", "train", ["2 labels of one row each: 'a', 'b'", ON_TRAINING]),
        ("lora", "ab", "train", ["none of the 2 training rows can be split off", ON_TRAINING]),
        ("head-only", "aab", "train", ["1 label of one row each: 'b'", ON_TRAINING]),
        ("lora", "aab", "validation", ["only 1 validation row: their metrics"]),
        ("head-only", TWELVE, "train", ["12 labels of one row each", ON_TRAINING]),
        ("lora", TWELVE, "train", ["none of the 12 training rows can be split off", ON_TRAINING]),
        ("head-only", TWELVE * 3, "cross-validation", [CROSS_VALIDATED]),
        ("lora", TWELVE * 3, "validation", ["only 4 validation rows: their metrics"]),
        (
            "head-only",
            "a" * 57 + "b" * 3,
            "cross-validation",
            ["more rows of the rare labels", "--class-weight balanced"],
        ),
        ("lora", "a" * 57 + "b" * 3, "validation", ["more rows of the rare labels", "--class-weight balanced"]),
    ],
)
def test_a_run_ends_and_remarks_on_what_its_rows_allow(
    strategy: str,
    labels: Sequence[str],
    split: str,
    remarks: list[str],
    tiny_base: Base,
    registry: Registry,
    tmp_path: Path,
) -> None:
    values = {"strategy": strategy, "train_file": csv_of(labels, tmp_path), "name": "few", "num_train_epochs": 1}
    report = run(Plan.resolve(values), registry, base=tiny_base)
    assert list(report.metrics) == [split]
    assert all(remark in "\n".join(report.remarks) for remark in remarks)


def test_one_label_is_an_error(tiny_base: Base, registry: Registry, tmp_path: Path) -> None:
    values = {"strategy": "head-only", "train_file": csv_of("aaa", tmp_path), "name": "one"}
    with pytest.raises(DataError, match="all 3 training rows have the label 'a' in column 'label'; to learn anything"):
        run(Plan.resolve(values), registry, base=tiny_base)
