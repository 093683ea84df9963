"""adapt predict of several files: one output each, complete or not at all, and what is missing is answered later."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Adapt = Callable[..., Any]


@pytest.fixture
def files(adapt: Adapt, tiny_folder: Callable[..., Path], small_csv: Path, tmp_path: Path) -> list[Path]:
    """Train an adapter `a`, and return three files of texts."""
    done = adapt("run", "--train-file", small_csv, "--base", tiny_folder(), "--epochs", 1, "--name", "a")
    assert done.exit_code == 0, done.output
    for name, count in (("x", 3), ("y", 70), ("z", 1)):
        (tmp_path / f"{name}.txt").write_text("".join(f"text {i}\n" for i in range(count)))
    return sorted(tmp_path.glob("?.txt"))


def test_each_file_has_the_answers_that_it_has_alone(adapt: Adapt, files: list[Path], tmp_path: Path) -> None:
    done = adapt("predict", "a", *files, "--out", "answers", "--format", "csv")
    assert done.exit_code == 0, done.output
    assert "written    answers: 3 files, 74 rows" in done.stderr
    for file in files:
        adapt("predict", "a", file, "--out", "alone.csv")
        assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / "answers" / f"{file.stem}.csv").read_bytes()


def test_a_later_run_answers_what_is_missing(adapt: Adapt, files: list[Path], tmp_path: Path) -> None:
    texts = files[1].read_bytes()
    files[1].write_bytes(texts + b"\n\nlast\n")  # a blank line ends the run
    done = adapt("predict", "a", *files, "--out", "answers")
    assert (done.exit_code, done.stderr.splitlines()[-2]) == (2, f"Error: {files[1]}:71: the line is empty")
    assert sorted(p.name for p in (tmp_path / "answers").iterdir()) == [".predict.json", "x.jsonl"]
    files[1].write_bytes(texts)
    before = (tmp_path / "answers/x.jsonl").stat().st_mtime_ns
    done = adapt("predict", "a", *files, "--out", "answers")
    assert "files      1 of 3 were answered before, in answers" in done.stderr
    assert (tmp_path / "answers/x.jsonl").stat().st_mtime_ns == before
    assert len((tmp_path / "answers/y.jsonl").read_text().splitlines()) == 70
    later = before + 10**10
    os.utime(files[0], ns=(later, later))  # a file that changed is answered again
    assert "2 of 3 were answered before" in adapt("predict", "a", *files, "--out", "answers").stderr


def test_answers_of_two_kinds_are_not_mixed(adapt: Adapt, files: list[Path], tmp_path: Path) -> None:
    assert adapt("predict", "a", *files, "--out", "answers").exit_code == 0
    version = json.loads((tmp_path / "answers/.predict.json").read_text())["adapters"]
    other = adapt("predict", "a", *files, "--out", "answers", "--format", "csv")
    assert "--out answers has answers with format jsonl, and this run has csv; choose another" in other.stderr
    assert version[0].startswith("a@")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper/x.txt").write_text("a\n")
    twice = adapt("predict", "a", files[0], "deeper/x.txt", "--out", "both")
    assert "2 files would be written to both/x.jsonl; give files with different names" in twice.stderr
    (tmp_path / "file").write_text("")
    assert "--out file is a file, and a folder was expected" in adapt("predict", "a", *files, "--out", "file").stderr
    for more in ([], ["--out", "o", "--json"], ["--out", "o", "--format", "table"]):
        refused = adapt("predict", "a", *files, *more)
        assert "3 files are answered into a folder, as jsonl, csv or tsv: give --out FOLDER" in refused.stderr
