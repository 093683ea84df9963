"""Studies: trials in order, resumed, none repeated."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import pytest

from adapterkit import Base, Plan, Watch
from adapterkit.errors import OptionError, TrainingError
from adapterkit.execution.stop_signals import StoppedError
from adapterkit.training import train as training
from adapterkit.workflows.tune import tune
from tests.helpers.watches import Heard


class Landscape:
    """Stands for training: the score is best at a rate of 1e-3 and with the highest rank, and grows by epochs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []
        self.dies_at: tuple[int, int] | None = None  # a call and an epoch, counted from 1

    def __call__(self, base: Any, task: Any, strategy: Any, data: Any, options: Any, *, watch: Watch) -> Any:
        self.calls.append((strategy, options))
        if strategy.learning_rate > 1e-1:
            raise TrainingError("the loss is nan at step 3 of this epoch")
        top = 1 / (1 + abs(math.log10(strategy.learning_rate / 1e-3))) * (0.5 + strategy.r / 64)
        for epoch in range(1, options.num_train_epochs + 1):
            if self.dies_at == (len(self.calls), epoch):
                raise KeyboardInterrupt
            watch.epoch(epoch, options.num_train_epochs, {task.best: top * epoch / options.num_train_epochs})
        return SimpleNamespace(
            validation=SimpleNamespace(values={task.best: top}), best_epoch=options.num_train_epochs, losses=[1.0]
        )


@pytest.fixture
def landscape_of_trials(monkeypatch: pytest.MonkeyPatch) -> Landscape:
    made = Landscape()
    monkeypatch.setattr(training, "train", made)
    return made


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the table of a study without the seconds."""
    with open(folder / "a" / "trials.csv") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


RANGES = {"learning_rate": "1e-5..1e-1", "r": "2..32"}


def test_a_signal_ends_the_search_and_fails_no_trial(
    planned: Callable[..., Plan],
    landscape_of_trials: Landscape,
    tiny_base: Base,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*args: Any, **how: Any) -> Any:
        if len(landscape_of_trials.calls) == 2:
            raise StoppedError(15, "stopped by SIGTERM")
        return landscape_of_trials(*args, **how)

    plan = planned("lora", name="a", num_train_epochs=3)
    monkeypatch.setattr(training, "train", stopped)
    with pytest.raises(StoppedError):
        tune(plan, tmp_path, search=RANGES, trials=4, base=tiny_base)
    assert len(rows(tmp_path)) == 2
    monkeypatch.setattr(training, "train", landscape_of_trials)
    assert all(t.state != "failed" for t in tune(plan, tmp_path, search=RANGES, trials=4, base=tiny_base).trials)


@pytest.mark.parametrize("dies_at", [(1, 1), (1, 2), (6, 1)])
def test_a_study_that_was_killed_goes_on_as_if_it_had_not_been(
    dies_at: tuple[int, int],
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    plan = planned("lora", num_train_epochs=4)
    tune(plan, tmp_path / "whole", search=RANGES, trials=8, base=tiny_base)
    whole, landscape_of_trials.calls[:] = list(landscape_of_trials.calls), []
    landscape_of_trials.dies_at = dies_at
    with pytest.raises(KeyboardInterrupt):
        tune(plan, tmp_path / "killed", search=RANGES, trials=8, base=tiny_base)
    landscape_of_trials.dies_at = None
    with open(tmp_path / "killed" / "a" / "journal.log", "ab") as journal:
        journal.write(b'{"op_code": 8, "tri')  # what a full disk leaves of a line
    tune(plan, tmp_path / "killed", search=RANGES, trials=8, base=tiny_base)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "killed")) == 8
    assert len(landscape_of_trials.calls) == len(whole) + 1


def test_the_search_finds_what_is_good(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    bests = []
    for seed in range(3):
        plan = planned("lora", num_train_epochs=3, seed=seed)
        found = tune(plan, tmp_path / str(seed), search=RANGES, trials=25, base=tiny_base)
        bests.append(found.trials[0])
    best = sorted(bests, key=lambda trial: trial.score or 0.0)[1]
    assert 3e-4 < best.values["learning_rate"] < 3e-3
    assert best.values["r"] > 24
    scores = [t.score for t in found.trials if t.state == "done" and t.score is not None]
    assert scores == sorted(scores, reverse=True)
    first = next(t for t in found.trials if t.number == 1)
    assert first.values == {"learning_rate": 1e-3, "r": 8}  # the plan's own
    assert all(options.keep_features for _, options in landscape_of_trials.calls)
    assert found.best.strategy.learning_rate == bests[-1].values["learning_rate"]  # type: ignore[union-attr]


def test_few_combinations_are_tried_each_once_the_plans_own_first(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    heard, spaces = Heard(), {"r": "4,8", "warmup_ratio": "0,0.1,0.2"}
    found = tune(planned("lora"), tmp_path, search=spaces, trials=20, base=tiny_base, watch=heard)
    assert len({tuple(t.values.items()) for t in found.trials}) == len(found.trials) == 6
    assert next(t.values for t in found.trials if t.number == 1) == {"r": 8, "warmup_ratio": 0.1}
    assert heard.notes["study"] == "all 6 combinations were tried"


def test_nothing_is_trained_twice(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    found = tune(planned("lora"), tmp_path, search={"r": "7..8"}, trials=6, base=tiny_base)
    assert len(found.trials) == 6
    assert len(landscape_of_trials.calls) == len({t.values["r"] for t in found.trials}) == 2


def test_a_trial_that_fails_is_one_that_was_tried(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    found = tune(planned("lora"), tmp_path, search={"lr": "0.5,1e-3,1e-4,3e-4,1e-5,3e-5"}, base=tiny_base)
    assert [t.state for t in found.trials] == ["done", "done", "done", "done", "pruned", "failed"]
    assert found.trials[-1].why == "the loss is nan at step 3 of this epoch"
    assert [row["why"] for row in rows(tmp_path)] == [*[""] * 5, found.trials[-1].why]
    with pytest.raises(TrainingError, match=r"no trial of .* was completed; the last: the loss is nan"):
        tune(planned("lora", name="b"), tmp_path, search={"lr": "0.5,0.6"}, base=tiny_base)


def test_more_trials_are_more_of_the_same_study(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    plan, heard = planned("lora"), Heard()
    tune(plan, tmp_path, search=RANGES, trials=3, base=tiny_base)
    assert len(landscape_of_trials.calls) == 3
    assert len(tune(plan, tmp_path, search=RANGES, trials=5, base=tiny_base, watch=heard).trials) == 5
    assert len(landscape_of_trials.calls) == 5
    assert heard.notes["study"].endswith(": 3 of 5 trials completed")


def test_another_study_of_the_same_name_is_refused(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tiny_folder: Any,
    tmp_path: Path,
    landscape_of_trials: Landscape,
    small_csv: Path,
) -> None:
    def again(plan: Plan, base: Base = tiny_base, spaces: dict[str, str] = RANGES) -> None:
        tune(plan, tmp_path, search=spaces, trials=1, base=base)

    again(planned("lora"))
    with pytest.raises(OptionError, match="was begun with lora_alpha=16, and this is lora_alpha=32; choose another"):
        again(planned("lora", lora_alpha=32))
    with pytest.raises(OptionError, match=r"was begun with r=2\.\.32:linear, and this is no r"):
        again(planned("lora"), spaces={"lr": "1e-5..1e-1"})
    with pytest.raises(OptionError, match="was begun on another base"):
        again(planned("lora"), Base.load(str(tiny_folder("bert", 1))))
    with (
        filelock.FileLock(tmp_path / "a" / ".lock"),
        pytest.raises(OptionError, match="another process is running study"),
    ):
        again(planned("lora"))
    small_csv.write_text(small_csv.read_text() + "one more,pos\n")
    with pytest.raises(OptionError, match="was begun with other train rows"):
        again(planned("lora"))
