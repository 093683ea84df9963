"""Studies that train."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit import Base, Plan, Watch
from adapterkit.cluster import Local, local_processes
from adapterkit.cluster.local_processes import LocalProcesses
from adapterkit.errors import StrategyError
from adapterkit.training import train as training
from adapterkit.workflows.tune import tune
from tests.helpers.cli import Adapt
from tests.helpers.snapshots import assert_same, state
from tests.helpers.watches import Heard


@pytest.mark.slow
def test_the_best_trial_is_had_again_from_its_config_and_by_its_command(
    adapt: Adapt, small_csv: Path, tiny_folder: Any, tmp_path: Path
) -> None:
    flags = ["--base", tiny_folder(), "--train-file", small_csv, "--validation-file", small_csv, "--name", "a"]
    spaces = ["--search", "learning_rate=1e-3..3e-2", "--search", "top=1,2", "--trials", "4", "--epochs", "2"]
    done = adapt("tune", "--strategy", "layerwise", *flags, *spaces, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    best = found["trials"][0]
    assert len(found["trials"]) == 4
    assert best["score"] == max(trial["score"] for trial in found["trials"])
    assert not Path("registry.json").exists()
    config = adapt("run", "--config", "tuning/a/best.yaml", "--json")
    typed = adapt(*found["command"].split()[1:], "--json")
    for done in (config, typed):
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert report["metrics"]["validation"][found["metric"]] == best["score"]
        assert (report["name"], report["learning_rate"]) == ("a", best["values"]["learning_rate"])
    resumed = adapt("tune", "--name", "a", "--resume", "--trials", "4")
    assert resumed.exit_code == 0, resumed.output
    assert "4 of 4 trials completed" in resumed.stderr
    assert resumed.stdout.splitlines()[0].split() == [
        "trial",
        "state",
        "accuracy",
        *found["search"],
        "epoch",
        "seconds",
    ]
    assert f"best       {found['command']}" in resumed.stdout


def test_trials_share_the_features_of_the_trunk(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
    small_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_csv.write_text(small_csv.read_text() + "rows that no other test has kept,pos\n")
    said: list[str] = []
    train = training.train

    def heard(*args: Any, watch: Watch, **kwargs: Any) -> Any:
        note = watch.note
        monkeypatch.setattr(
            watch, "note", lambda topic, text: (topic == "trunk" and said.append(text), note(topic, text))
        )
        return train(*args, watch=watch, **kwargs)

    monkeypatch.setattr(training, "train", heard)
    before = state(tiny_base)
    tune(planned("layerwise", seed=7), tmp_path, search={"top": "1,2", "lr": "1e-3,2e-3"}, base=tiny_base)
    assert_same(tiny_base, before)
    assert len(said) == 4
    assert sum("run once over" in text for text in said) == 2  # one for each cut
    assert sum("by an earlier run" in text for text in said) == 2


def test_a_pruned_trial_leaves_the_base_as_it_was(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
) -> None:
    before = state(tiny_base)
    plan = planned("full", num_train_epochs=3, seed=1, learning_rate=3e-3)  # the first trial's
    found = tune(plan, tmp_path, search={"learning_rate": "3e-3,1e-9,3e-9,1e-8,3e-8,1e-7"}, base=tiny_base)
    assert_same(tiny_base, before)
    assert "pruned" in {t.state for t in found.trials}
    assert torch.is_grad_enabled()


def test_a_plan_that_does_not_fit_the_base_ends_the_study(
    planned: Callable[..., Plan],
    tiny_base: Base,
    tmp_path: Path,
) -> None:
    with pytest.raises(StrategyError, match="top=9"):
        tune(planned("layerwise", top=9), tmp_path, search={"lr": "3e-4,1e-3"}, base=tiny_base)


def test_several_processes_end_with_the_study_of_one(
    planned: Callable[..., Plan], tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned("bitfit", num_train_epochs=2, base=str(tiny_folder()))
    studies, started, start = [], [], local_processes._Process.start
    monkeypatch.setattr(local_processes._Process, "start", lambda *how: started.append(start(*how)) or started[-1])
    for place, executor in (("one", Local()), ("two", LocalProcesses(2))):
        heard = Heard()
        with executor:
            found = tune(plan, tmp_path / place, trials=6, executor=executor, watch=heard)
        studies.append([replace(trial, seconds=0.0) for trial in found.trials])
        assert {f"trial {number}/6" for number in range(1, 7)} <= set(heard.notes)
    assert studies[0] == studies[1]
    assert len(started) == 2  # each of which has loaded the base once
    assert sorted(trial.number for trial in studies[0]) == [1, 2, 3, 4, 5, 6]
