"""Several data sets, and searches."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base, Registry
from adapterkit.comparison import Options, compare_tasks
from adapterkit.comparison.matrix import Matrix
from adapterkit.errors import DataError, OptionError
from adapterkit.report import Results
from adapterkit.report.results import Candidate, Measured
from adapterkit.training import train as training
from tests.helpers.results import results


@pytest.fixture(autouse=True)
def no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterkit.comparison.measure.pool_rates", lambda *args: (1.0, 1.0))


def with_values(values: dict[str, float | None], *, lower: bool = False) -> Results:
    made = results(rows=2, candidates=1)
    made.lower_is_better = lower
    made.candidates = [
        Candidate(
            name, "strategy", error="" if v is not None else "no", metrics={"test": Measured({"accuracy": v}, {}, 9)}
        )
        for name, v in values.items()
    ]
    return made


def test_ranks_are_means_over_data_sets_and_ties_share_them() -> None:
    one = with_values({"a": 0.9, "b": 0.8, "c": 0.8, "d": None})
    two = with_values({"a": 3.0, "b": 1.0, "c": 2.0, "d": 4.0}, lower=True)
    matrix = Matrix({"one": one, "two": two}, {})
    assert matrix.mean_ranks() == {"a": 2.0, "b": 1.75, "c": 2.25, "d": 4.0}
    assert matrix.names == ["b", "a", "c", "d"]
    columns, rows = matrix.table()
    assert columns == ["", "mean rank", "one (accuracy)", "two (accuracy)"]
    assert rows[-1] == ["d", "4.00", "failed", "4.000"]
    assert next(csv.DictReader(matrix.csv_text().splitlines()))["two"] == "1.0"


def test_every_data_set_of_a_folder_is_compared_and_one_that_fails_is_named(
    small_csv: Path, tmp_path: Path, registry: Registry, tiny_base: Base
) -> None:
    tasks = tmp_path / "tasks"
    (tasks / "two").mkdir(parents=True)
    shutil.copy(small_csv, tasks / "one.csv")
    for split in ("train", "validation", "test"):
        shutil.copy(small_csv, tasks / "two" / f"{split}.csv")
    (tasks / "empty.csv").write_text("text,label\n")
    (tasks / "notes.md").write_text("no data")
    options = Options(strategies=("head-only", "bitfit"), keep="none")
    matrix = compare_tasks({"num_train_epochs": 1}, registry, tmp_path / "s", tasks, options, base=tiny_base)
    assert list(matrix.results) == ["one", "two"]
    assert list(matrix.errors) == ["empty"]
    assert {"head-only", "bitfit", "majority"} <= set(matrix.names)
    with pytest.raises(OptionError, match="--tasks several"):
        compare_tasks({"train_file": "x.csv"}, registry, tmp_path / "s", tasks, options, base=tiny_base)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="there are none"):
        compare_tasks({}, registry, tmp_path / "s", tmp_path / "none", options, base=tiny_base)


@pytest.mark.slow
def test_a_search_continues_after_a_kill_and_ends_with_the_same_table(
    compared: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies = ("layerwise", "head-only")
    through = compared(*strategies, trials=4, values={"name": "through"}, keep="none")
    by_name = {c.name: c for c in through.candidates}
    assert len(by_name["layerwise"].trials) == 4
    assert by_name["head-only"].trials == []  # a linear probe is solved: there is no rate to search
    best = max(t.score for t in by_name["layerwise"].trials if t.state == "done" and t.score is not None)
    assert by_name["layerwise"].metrics["validation"].values["accuracy"] == pytest.approx(best, abs=1e-6)
    original, calls = training.train, iter(range(1, 100))

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(training, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        compared(*strategies, trials=4, values={"name": "killed"}, keep="none")
    monkeypatch.setattr(training, "train", original)
    resumed = compared(*strategies, trials=4, values={"name": "killed"}, keep="none")

    def table(of: Results) -> list[Any]:
        return [
            (c.name, c.options, c.metrics, [(t.options, t.state, t.score) for t in c.trials]) for c in of.candidates
        ]

    assert table(resumed) == table(through)
