"""Runs without validation rows: what is cut off, what is measured on which rows, and that it is repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base, Plan, Registry, run
from adapterkit.errors import OptionError, TrainingError
from adapterkit.watch import Watch
from adapterkit.workflows.recorded_rows import own_rows


def file_of(folder: Path, labels: list[str]) -> str:
    path = folder / "rows.csv"
    path.write_text("\n".join(["text,label", *(f"{label} text number {i},{label}" for i, label in enumerate(labels))]))
    return str(path)


def trained(file: str, registry: Registry, base: Base, strategy: str = "head-only", **options: Any) -> Any:
    values = {"strategy": strategy, "name": "a", "train_file": file, "num_train_epochs": 1, **options}
    return run(Plan.resolve(values), registry, base=base)


def test_head_only_uses_every_row_of_few_and_is_cross_validated(
    tmp_path: Path, registry: Registry, tiny_base: Base
) -> None:
    report = trained(file_of(tmp_path, ["a", "b"] * 8), registry, tiny_base)
    assert list(report.metrics) == ["cross-validation"]
    assert report.metrics["cross-validation"]["n"] == 16
    assert set(report.adapter.manifest["data"]["splits"]) == {"train"}
    assert "validation_split_percentage: 0" in (Path(report.folder) / "run.yaml").read_text()
    assert any("cross-validated on the training rows" in remark for remark in report.remarks)
    assert "(cross-validation, 16 rows)" in repr(report)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "labels", "split", "rows"),
    [
        ("head-only", ["a", "b"], "train", 2),
        ("head-only", list("abcdefgh"), "train", 8),
        ("head-only", [f"l{i % 40}" for i in range(120)], "cross-validation", 120),
        ("head-only", ["a"] * 38 + ["b"] * 2, "cross-validation", 40),
        ("lora", ["a", "b"], "train", 2),
        ("lora", list("abcdefgh"), "train", 8),
        ("lora", [f"l{i % 40}" for i in range(120)], "validation", 12),
        ("lora", ["a"] * 38 + ["b"] * 2, "validation", 4),
    ],
)
def test_few_rows_of_any_kind_are_trained_on_and_measured(
    strategy: str, labels: list[str], split: str, rows: int, tmp_path: Path, registry: Registry, tiny_base: Base
) -> None:
    report = trained(file_of(tmp_path, labels), registry, tiny_base, strategy)
    assert list(report.metrics) == [split]
    assert report.metrics[split]["n"] == rows
    assert len(report.adapter.task.labels) == len(set(labels))
    assert any("no validation rows" in remark for remark in report.remarks)
    splits = own_rows(registry, "a", registry.load("a"), Watch())
    assert set(splits["train"]["label"]) == set(labels)
    assert ("validation" in splits) == (split == "validation")


def test_a_cut_of_zero_trains_on_all_rows_and_names_the_rows_it_measured(
    tmp_path: Path, registry: Registry, tiny_base: Base
) -> None:
    file = file_of(tmp_path, ["a", "b"] * 10)
    report = trained(file, registry, tiny_base, "lora", validation_split_percentage=0, test_file=file)
    assert list(report.metrics) == ["train", "test"]
    assert report.metrics["train"]["n"] == 20
    assert any("those of the training rows, and too high" in remark for remark in report.remarks)


def test_a_percentage_is_used_by_head_only_too(tmp_path: Path, registry: Registry, tiny_base: Base) -> None:
    report = trained(file_of(tmp_path, ["a", "b"] * 10), registry, tiny_base, validation_split_percentage=20)
    assert report.metrics["validation"]["n"] == 4


def test_a_probe_that_is_chosen_needs_validation_rows(tmp_path: Path, registry: Registry, tiny_base: Base) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_text('{"tokens": ["a", "b"], "tags": ["O", "B-x"]}\n' * 8)
    with pytest.raises(TrainingError, match="--validation-split-percentage must be >= 1"):
        trained(str(path), registry, tiny_base, validation_split_percentage=0)


@pytest.mark.parametrize("value", [-1, 51])
def test_other_percentages_are_errors(value: int) -> None:
    with pytest.raises(OptionError, match=f"must be between 0 and 50, got {value}"):
        Plan.resolve({"validation_split_percentage": value})
