"""Pages and errors from the command line: of a run, an evaluation, a search, a comparison and registered adapters."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from adapterkit.report import read_results
from tests.helpers.cli import Adapt


@pytest.fixture
def options(tiny_folder, small_csv: Path) -> list[str]:  # type: ignore[no-untyped-def]
    files = [f"--{split}-file={small_csv}" for split in ("train", "validation", "test")]
    return [f"--base={tiny_folder()}", *files, "--epochs=2"]


@pytest.mark.slow
def test_a_run_an_evaluation_and_a_report_write_pages(adapt: Adapt, options: list[str], tmp_path: Path) -> None:
    done = adapt("run", "--strategy", "bitfit", *options, "--name", "one", "--report", "run.html")
    assert done.exit_code == 0, done.output
    results = read_results(tmp_path / "run.json")
    assert len(results.candidates[0].history) == 2
    assert "<table" in (tmp_path / "run.html").read_text()
    assert adapt("run", "--strategy", "head-only", *options, "--name", "two").exit_code == 0
    assert adapt("eval", "one", "--report", "eval.html").exit_code == 0
    assert read_results(tmp_path / "eval.json").candidates[0].metrics["test"] == results.candidates[0].metrics["test"]
    done = adapt("report", "one", "two", "--out", "both.html")
    assert done.exit_code == 0, done.output
    assert {c.name for c in read_results(tmp_path / "both.json").candidates} == {"one", "two"}
    done = adapt("report", "--results", "both.json", "--out", "again.html")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "again.html").read_text() == (tmp_path / "both.html").read_text()


def test_errors_are_listed_with_the_nearest_training_rows(adapt: Adapt, options: list[str], small_csv: Path) -> None:
    wrong = small_csv.with_name("wrong.csv")
    text = small_csv.read_text().replace("lovely food 0,pos", "lovely food 0,neg")
    wrong.write_text(text)
    assert adapt("run", "--strategy", "head-only", *options, "--name", "one").exit_code == 0
    done = adapt("errors", "one", "--test-file", wrong, "--csv", "errors.csv", "--json")
    assert done.exit_code == 0, done.output
    listed = json.loads(done.stdout)
    scores = [error["score"] for error in listed["errors"]]
    assert scores == sorted(scores, reverse=True)
    error = next(e for e in listed["errors"] if e["text"] == "lovely food 0")
    assert error["expected"] == "neg"
    assert error["answer"] == "pos"
    assert set(error["probabilities"]) == {"pos", "neg"}
    assert error["nearest"][0]["text"] == "lovely food 0"
    assert error["nearest"][0]["label"] == "pos"
    assert error["nearest"][0]["similarity"] == pytest.approx(1.0, abs=1e-5)
    rows = list(csv.DictReader(small_csv.with_name("errors.csv").read_text().splitlines()))
    assert len(rows) == listed["wrong"]
    assert rows[0]["line"] == str(listed["errors"][0]["line"])


@pytest.mark.slow
def test_a_comparison_prints_its_table_and_writes_it(
    adapt: Adapt, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterkit.comparison.measure.pool_rates", lambda *args: (1.0, 1.0))
    done = adapt(
        *("compare", *options, "--strategies", "head-only,bitfit", "--report", "page.html", "--csv", "table.csv")
    )
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert {row["name"] for row in rows} >= {"head-only", "bitfit", "majority", "tf-idf + logistic regression"}
    results = read_results(tmp_path / "page.json")
    assert results.plain() == json.loads((tmp_path / "comparisons/rows-comparison/results.json").read_bytes())
    assert f"Use {results.recommended}" in done.stdout
    assert f"saved      rows-{results.recommended}@" in done.stdout
    done = adapt("predict", f"rows-{results.recommended}", "lovely food")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compare", "--time", "soon"], "--time soon: expected a time such as 90s, 15m or 1.5h"),
        (["compare", "--strategies", "lorra"], "no strategy named 'lorra'"),
        (["compare", "--report", "page.pdf"], "which ends in .html"),
        (["compare", "--train-file", "nowhere.csv"], "nowhere.csv"),
        (["report"], "no adapter is named"),
        (["report", "--results", "none.json"], "'none.json' is no results file of adapterkit"),
        (["errors", "none"], "none"),
    ],
)
def test_a_mistake_is_one_line(adapt: Adapt, args: list[str], message: str) -> None:
    done = adapt(*args)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert "Traceback" not in done.output
