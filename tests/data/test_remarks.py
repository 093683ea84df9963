"""Remarks on the rows of a run: printed, stored beside run.yaml, shown, and part of the report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from datasets import Dataset

import adapterkit as ak
from adapterkit import Base, Registry, Watch
from adapterkit.data.splits import LINE
from adapterkit.tasks.text_classification import TextClassification

Adapt = Callable[..., Result]
QUICK = {"strategy": "head-only", "epochs": 1, "mixed_precision": "no"}


class Notes(Watch):
    """Collect the notes of a run."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def note(self, topic: str, text: str) -> None:
        self.lines.append((topic, text))

    def remarks(self) -> list[str]:
        return [text for topic, text in self.lines if topic == "remark"]


@pytest.fixture
def torn_csv(small_csv: Path) -> Path:
    """Return the file with a row of three cells behind its two columns."""
    small_csv.write_text(small_csv.read_text() + "one,cell,more\n")
    return small_csv


def test_a_remark_is_printed_stored_reported_and_shown(
    tiny_base: Base, registry: Registry, torn_csv: Path, adapt: Adapt
) -> None:
    watch = Notes()
    flags = {**QUICK, "train_file": str(torn_csv), "skip_bad_rows": True, "name": "a"}
    report = ak.run(base=tiny_base, registry=registry, watch=watch, **flags)
    assert any(remark.startswith(f"1 bad row skipped in {torn_csv}, at line 26") for remark in report.remarks)
    assert watch.remarks() == report.remarks == report.plain()["remarks"]
    assert Path(report.folder, "remarks.txt").read_text().splitlines() == report.remarks
    shown = adapt("show", "a", "--registry", registry.path)
    assert [line[11:] for line in shown.stdout.splitlines() if line.startswith("remark ")] == report.remarks
    assert json.loads(adapt("show", "a", "--registry", registry.path, "--json").stdout)["remarks"] == report.remarks
    assert adapt("verify", "a", "--registry", registry.path).exit_code == 0


@dataclass(frozen=True, kw_only=True)
class Counting(TextClassification):
    """A task that counts the rows it is shown."""

    def remarks(self, data: Dataset, file: str, tokenizer: Any) -> list[str]:
        assert tokenizer("a text")["input_ids"]
        return [f"{Path(file).name}: {len(data)} rows, from line {data[LINE][0]}"]


def test_a_task_sees_each_file_once_before_validation_rows_are_cut_off(
    tiny_base: Base, registry: Registry, small_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterkit.workflows.run.task_class", lambda name: Counting)
    report = ak.run(base=tiny_base, registry=registry, watch=None, train_file=str(small_csv), name="a", **QUICK)
    assert [remark for remark in report.remarks if "from line" in remark] == ["rows.csv: 24 rows, from line 2"]


def test_an_evaluation_reports_the_remarks_on_its_own_rows(
    tiny_base: Base, registry: Registry, small_csv: Path, adapt: Adapt, monkeypatch: pytest.MonkeyPatch
) -> None:
    ak.run(base=tiny_base, registry=registry, watch=None, train_file=str(small_csv), name="a", **QUICK)
    monkeypatch.setattr(TextClassification, "remarks", Counting.remarks)
    done = adapt("eval", "a", "--file", small_csv, "--registry", registry.path, "--json")
    assert json.loads(done.stdout)["remarks"] == ["rows.csv: 24 rows, from line 2"]
    assert "remark     rows.csv: 24 rows" in done.stderr


def test_a_link_in_the_place_of_remarks_is_not_followed(
    tiny_base: Base, registry: Registry, torn_csv: Path, adapt: Adapt
) -> None:
    flags = {**QUICK, "train_file": str(torn_csv), "skip_bad_rows": True, "name": "a"}
    report = ak.run(base=tiny_base, registry=registry, watch=None, **flags)
    file = Path(report.folder, "remarks.txt")
    file.unlink()
    os.symlink(torn_csv, file)
    done = adapt("show", "a", "--registry", registry.path)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "it is a link" in done.stderr
