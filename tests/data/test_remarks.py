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
from adapterkit.data.splits import LINE, load
from adapterkit.settings import DataOptions
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
    monkeypatch.setattr("adapterkit.workflows.run_rows.task_class", lambda name: Counting)
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


def csv_of(tmp_path: Path, name: str, columns: str, *rows: str) -> str:
    path = tmp_path / name
    path.write_text("\n".join([columns, *rows]) + "\n")
    return str(path)


@pytest.fixture
def remarks(tiny_base: Base, registry: Registry) -> Callable[..., list[str]]:
    """Return a function that trains and returns the remarks of the run, without folders."""

    def train(**flags: Any) -> list[str]:
        report = ak.run(base=tiny_base, registry=registry, watch=None, name="a", **{**QUICK, **flags})
        return [remark.rsplit("/", 1)[-1] for remark in report.remarks]

    return train


GOOD = [f"film {i} is {word},{label}" for i in range(30) for word, label in (("fine", "pos"), ("dull", "neg"))]


def test_rows_that_occur_twice_or_with_another_label_are_counted(remarks: Any, tmp_path: Path) -> None:
    path = csv_of(tmp_path, "a.csv", "text,label", *GOOD, GOOD[0], GOOD[3], GOOD[1].replace("neg", "pos"))
    found = remarks(train_file=path)
    assert "a.csv: 2 rows repeat an earlier one, first line 62 that of line 2" in found
    assert "a.csv: 1 row has the text of an earlier one and another label, first lines 3 and 64" in found


def test_rows_of_two_splits_and_few_validation_rows_are_counted(remarks: Any, tmp_path: Path) -> None:
    files = {
        "train_file": csv_of(tmp_path, "a.csv", "text,label", *GOOD),
        "validation_file": csv_of(tmp_path, "b.csv", "text,label", *GOOD[:3], "new,pos"),
        "test_file": csv_of(tmp_path, "c.csv", "text,label", GOOD[0].replace("pos", "neg"), "newer,neg"),
    }
    found = remarks(**files)
    assert any(r.startswith("only 4 validation rows") for r in found)
    assert [r for r in found if r.startswith("b.csv:2")]
    assert [r for r in found if r.startswith("c.csv:2")]
    assert not any(
        r.startswith("only") for r in remarks(train_file=csv_of(tmp_path, "d.csv", "text,label", *GOOD * 10))
    )


def test_rows_of_two_splits_that_differ_in_case_and_spaces_alone_are_counted(remarks: Any, tmp_path: Path) -> None:
    (text, label), *_ = (row.rsplit(",", 1) for row in GOOD)
    found = remarks(
        train_file=csv_of(tmp_path, "a.csv", "text,label", *GOOD),
        validation_file=csv_of(tmp_path, "b.csv", "text,label", f"{text.upper()}  ,{label}", "new,pos", "newer,neg"),
    )
    assert "b.csv:2" in found


COLUMNS = {
    "a second text": ("text,body,label", "{i} a,please send me {i} of them,{l}", "column 'body' (texts of 6 words)"),
    "a usual name": ("text,context,label", "{i} a,c{i},{l}", "column 'context' (30 different values)"),
    "a second label": ("text,label,topic", "{i} a,{l},{t}", "column 'topic' (3 different values)"),
    "notes of annotators": ("notes,text,label", "this one was hard {i},{i} a,{l}", "column 'notes' (texts of 5 words)"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_looks_as_if_it_mattered_is_named(kind: str, remarks: Any, tmp_path: Path) -> None:
    columns, row, named = COLUMNS[kind]
    rows = [row.format(i=i, l="pn"[i % 2], t="xyz"[i % 3]) for i in range(30)]
    flags = {"text_column_name": "text", "label_column_name": "label"}
    found = remarks(train_file=csv_of(tmp_path, "a.csv", columns, *rows), **flags)
    assert f"a.csv: not read: {named}" in found


def test_ids_dates_addresses_and_constant_columns_are_not_named(remarks: Any, tmp_path: Path) -> None:
    columns = "id,text,label,when,url,source,hash,title"
    rows = [f"{i},{i} a,{'pn'[i % 2]},2020-01-01 10:{i},http://x.y/{i},web,{i:040x},same" for i in range(10, 40)]
    assert not any("not read" in remark for remark in remarks(train_file=csv_of(tmp_path, "a.csv", columns, *rows)))


def test_rejected_annotations_are_left_out_and_counted(remarks: Any, tmp_path: Path) -> None:
    answers = ["accept"] * 40 + ["reject"] * 15 + ["ignore"] * 5
    rows = [f"{row},{answer}" for row, answer in zip(GOOD, answers, strict=True)]
    found = remarks(train_file=csv_of(tmp_path, "a.csv", "text,label,answer", *rows))
    assert "a.csv: 5 'ignore' and 15 'reject' in column 'answer': these rows are left out" in found
    for other in ("yes", "no"):  # not Prodigy's: named as unread
        changed = [row.replace("ignore", other) for row in rows]
        found = remarks(train_file=csv_of(tmp_path, "b.csv", "text,label,answer", *changed))
        assert any("not read: column 'answer'" in remark for remark in found)


def test_files_of_demo_data_are_shown_without_the_folder_of_the_installation(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("text,label\nGood,yes\nBad,no\n")
    assert load(DataOptions(dataset="demo:topics")).shown("train") == "demo:topics/train.csv"
    assert load(DataOptions(train_file=str(file))).shown("train") == str(file)
