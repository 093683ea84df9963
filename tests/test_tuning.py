"""A rate search finds what is good and leaves no trace; a study tries each thing once and goes on where it stopped."""

from __future__ import annotations

import csv
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import pytest
import torch
import yaml
from click.testing import Result

from adapterkit import Base, Plan, Registry, Watch, run
from adapterkit.errors import OptionError, StrategyError, TrainingError
from adapterkit.training import lr_finder
from adapterkit.training import steps as stepping
from adapterkit.training import train as training
from adapterkit.workflows import search_space
from adapterkit.workflows import tune as tuning
from adapterkit.workflows.tune import tune
from tests.test_planning import Heard, assert_same, planned, state  # noqa: F401, a fixture

Adapt = Callable[..., Result]


# ---- a rate


def landscape(best: float, seed: int = 0) -> lr_finder.Losses:
    """Return losses of a training that learns by the rate's size, and forgets from ten times `best` on."""
    noise = random.Random(seed)

    def losses(at: float, factor: float) -> Iterator[float]:
        loss = 2.0
        while True:
            loss = (
                loss + 0.3 * math.log10(at / (10 * best)) if at > 10 * best else loss * (1 - min(0.2, at / best / 40))
            )
            if loss > 50:
                return
            yield loss + noise.gauss(0, 0.02)
            at *= factor

    return losses


@pytest.mark.parametrize("off", [0.1, 0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("steps", [500, 5000])
def test_a_good_rate_is_found_wherever_the_strategys_own_lies(off: float, steps: int) -> None:
    found = lr_finder.search(1e-3 * off, steps, landscape(best=1e-3), Watch())
    assert 0.3e-3 < found < 3e-3


def test_the_search_takes_its_share_of_the_steps_and_no_more() -> None:
    rates: list[float] = []

    def losses(at: float, factor: float) -> Iterator[float]:
        while True:
            rates.append(at)
            yield 1.0
            at *= factor

    heard = Heard()
    assert lr_finder.search(1e-3, 1000, losses, heard) == 1e-3
    assert len(rates) == int(1000 * lr_finder.SHARE)
    assert (rates[0], rates[-1]) == pytest.approx((1e-3 * lr_finder.LOWEST, 1e-3 * lr_finder.HIGHEST))
    assert "the loss didn't fall in 120 steps" in heard.notes["rate"]


@pytest.mark.parametrize(
    ("default", "steps", "why"),
    [(1e-3, 100, "12% of 100 steps are too few for a search"), (0.0, 1000, "a rate of 0 can't")],
)
def test_the_strategys_own_rate_stands_where_there_is_nothing_to_search(default: float, steps: int, why: str) -> None:
    heard = Heard()
    assert lr_finder.search(default, steps, landscape(1e-3), heard) == default
    assert why in heard.notes["rate"]


def test_noise_is_no_rate() -> None:
    noise = random.Random(0)
    assert lr_finder.lowest([noise.gauss(1, 0.1) for _ in range(100)], 8) is None
    assert lr_finder.lowest([1.0, 0.5], 3) is None
    assert lr_finder.lowest([5, 5.1, 5, 4, 3, 2, 1, 1.1, 1, 4, 9], 3) == 7


@pytest.mark.parametrize(("strategy", "accumulate"), [("layerwise", 1), ("lora", 2)])
def test_a_run_with_the_found_rate_is_the_run_that_found_it(
    strategy: str,
    accumulate: int,
    planned: Callable[..., Plan],  # noqa: F811
    tiny_base: Base,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lr_finder, "LEAST", 6)
    monkeypatch.setattr(lr_finder, "lowest", lambda losses, width: len(losses) / 2)
    size = {"per_device_train_batch_size": 2, "num_train_epochs": 9 * accumulate}
    options = {**size, "gradient_accumulation_steps": accumulate}
    steps: list[int] = []
    epoch = stepping.Steps.learn

    def counted(self: Any, loader: Any, *rest: Any) -> float:
        return epoch(self, (steps.append(1) or batch for batch in loader), *rest)

    with monkeypatch.context() as patched:
        patched.setattr(stepping.Steps, "learn", counted)
        before = state(tiny_base)
        registry = Registry(tmp_path / "auto" / "registry.json")
        found = run(planned(strategy, **options, learning_rate="auto"), registry, base=tiny_base)
        assert_same(tiny_base, before)
    whole = 12 * 9 * accumulate
    assert whole < len(steps) <= whole * (1 + lr_finder.SHARE)
    plan = planned(strategy, **options)
    assert found.learning_rate != plan.strategy.learning_rate
    written = yaml.safe_load(Path(found.folder, "run.yaml").read_text())
    assert written["learning_rate"] == found.learning_rate
    assert found.adapter.manifest["strategy"]["options"]["learning_rate"] == found.learning_rate
    again = run(Plan.resolve({}, config=written), Registry(tmp_path / "again" / "registry.json"), base=tiny_base)
    assert again.version == found.version
    assert again.history == found.history


def test_auto_is_a_word_for_the_rate_alone(planned: Callable[..., Plan], adapt: Adapt) -> None:  # noqa: F811
    plan = planned("lora", lr="auto")
    assert (plan.auto_rate, plan.strategy.learning_rate) == (True, planned("lora").strategy.learning_rate)
    assert Plan.resolve({}, config=plan.values()) == plan
    assert not Plan.resolve({"lr": "1e-3"}, config=plan.values()).auto_rate
    assert "must be a number or auto, got 'often'" in adapt("run", "--lr", "often").stderr
    assert adapt("run", "--epochs", "auto").exit_code == 2


def test_a_probe_has_no_rate_to_search(planned: Callable[..., Plan], tiny_base: Base, registry: Registry) -> None:  # noqa: F811
    plan = planned("head-only", learning_rate="auto")
    assert run(plan, registry, base=tiny_base).learning_rate == plan.strategy.learning_rate
    with pytest.raises(OptionError, match="head-only solves a linear probe, which has no learning rate"):
        tune(planned("head-only"), registry.path.parent, base=tiny_base)


# ---- what is tried


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("r=4,8, 16", "4,8,16"),
        ("r=2..16", "2..16:linear"),
        ("r=2..16:log", "2..16:log"),
        ("lr=1e-4..1e-2", "0.0001..0.01:log"),
        ("learning_rate=1e-4..1e-2:linear", "0.0001..0.01:linear"),
        ("lora_dropout=0..0.3", "0.0..0.3:linear"),
        ("target-modules=query+value,all-linear", "query+value,all-linear"),
        ("group_by_length=true,false", "True,False"),
        ("lr_scheduler_type=linear,cosine", "linear,cosine"),
        ("epochs=2,3,2", "2,3"),
    ],
)
def test_choices_and_ranges_are_read(text: str, space: str, planned: Callable[..., Plan]) -> None:  # noqa: F811
    name, _, values = text.partition("=")
    (read,) = search_space.read_search(planned("lora"), {name: values}).values()
    assert str(read) == space
    assert str(*search_space.read_search(planned("lora"), {name: str(read)}).values()) == space


MISTAKES = {
    "unknown": (["--search", "rr=4,8"], "no option of a run with strategy lora named 'rr'"),
    "search strategy": (
        ["--search", "strategy=lora,head-only"],
        "--search strategy: all trials of a study have one strategy",
    ),
    "search task": (["--search", "r=4", "--search", "task=a,b"], "--search task: all trials of a study have one task"),
    "form": (["--search", "r"], "--search r: expected NAME=A,B,C or NAME=LOW..HIGH"),
    "type": (["--search", "r=4,many"], "--r must be an integer, got 'many'"),
    "auto": (["--search", "lr=auto"], "--learning-rate must be a number, got 'auto'"),
    "order": (["--search", "lr=1e-2..1e-3"], "LOW must be < HIGH, got 0.01 and 0.001"),
    "log": (["--search", "lora_dropout=0..0.3:log"], "LOW must be > 0 on a logarithmic scale"),
    "scale": (["--search", "r=4..8:cubic"], "LOW..HIGH:log or LOW..HIGH:linear"),
    "no range": (["--search", "lr_scheduler_type=a..b"], "A,B,C or, for a number, LOW..HIGH"),
    "choice": (["--search", "lr_scheduler_type=linear,liner"], "must be one of linear, cosine"),
    "value": (["--search", "warmup_ratio=0.1,2"], "warmup_ratio must be between 0 and 1, got 2.0"),
    "data": (["--search", "max_seq_length=32,64"], "rows, task and base are the same in all trials; can be searched: "),
    "seed": (["--search", "seed=1,2"], "--search seed: it decides which rows are cut off"),
    "trials": (["--trials", "0"], "--trials must be >= 1, got 0"),
    "auto rate": (["--learning-rate", "auto"], "in a study, give --search learning_rate=LOW..HIGH"),
    "no rate": (["--learning-rate", "0"], "learning_rate=0 has no default search"),
    "resume": (["--resume", "--name", "other"], "no study named 'other'; in 'tuning': none"),
    "nameless": (["--resume"], "--resume continues a study; name it with --name"),
    "strategy": (["--strategy", "layerwise", "--top", "9"], "top=9, but the base has 3 blocks"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_in_one_line(mistake: str, adapt: Adapt, small_csv: Path, tiny_folder: Any) -> None:
    flags, said = MISTAKES[mistake]
    done = adapt("tune", "--base", tiny_folder(), "--train-file", small_csv, *flags)
    assert done.exit_code == 2
    error = done.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert said in error


def test_the_default_search_lies_around_the_strategys_own_options(planned: Callable[..., Plan]) -> None:  # noqa: F811
    assert search_space.default_search(planned("lora")) == {
        "learning_rate": "0.0001..0.01:log",
        "r": "4,8,16",
        "lora_alpha": "8,16,32",
    }
    assert search_space.default_search(planned("layerwise", learning_rate=1e-3)) == {
        "learning_rate": "0.0001..0.01:log"
    }


def test_without_optuna_it_says_how_to_get_it(
    planned: Callable[..., Plan],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptionError, match=r"pip install 'adapterkit\[tune\]'"):
        tune(planned("lora"), tmp_path / "tuning")


# ---- trials, with a training that takes no time


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


@pytest.mark.parametrize("dies_at", [(1, 1), (6, 1)])
def test_a_study_that_was_killed_goes_on_as_if_it_had_not_been(
    dies_at: tuple[int, int],
    planned: Callable[..., Plan],  # noqa: F811
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
    planned: Callable[..., Plan],  # noqa: F811
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    found = tune(planned("lora", num_train_epochs=3), tmp_path, search=RANGES, trials=25, base=tiny_base)
    best = found.trials[0]
    assert 3e-4 < best.values["learning_rate"] < 3e-3
    assert best.values["r"] > 24
    scores = [t.score for t in found.trials if t.state == "done" and t.score is not None]
    assert scores == sorted(scores, reverse=True)
    first = next(t for t in found.trials if t.number == 1)
    assert first.values == {"learning_rate": 1e-3, "r": 8}  # the plan's own
    assert all(options.keep_features for _, options in landscape_of_trials.calls)
    assert found.best.strategy.learning_rate == best.values["learning_rate"]  # type: ignore[union-attr]


def test_few_combinations_are_tried_each_once_the_plans_own_first(
    planned: Callable[..., Plan],  # noqa: F811
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
    planned: Callable[..., Plan],  # noqa: F811
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    found = tune(planned("lora"), tmp_path, search={"r": "7..8"}, trials=6, base=tiny_base)
    assert len(found.trials) == 6
    assert len(landscape_of_trials.calls) == len({t.values["r"] for t in found.trials}) == 2


def test_a_trial_that_fails_is_one_that_was_tried(
    planned: Callable[..., Plan],  # noqa: F811
    tiny_base: Base,
    tmp_path: Path,
    landscape_of_trials: Landscape,
) -> None:
    found = tune(planned("lora"), tmp_path, search={"lr": "0.5,1e-3,1e-4"}, base=tiny_base)
    assert [t.state for t in found.trials] == ["done", "done", "failed"]
    assert found.trials[-1].why == "the loss is nan at step 3 of this epoch"
    assert [row["why"] for row in rows(tmp_path)] == ["", "", found.trials[-1].why]
    with pytest.raises(TrainingError, match=r"no trial of .* was completed; the last: the loss is nan"):
        tune(planned("lora", name="b"), tmp_path, search={"lr": "0.5,0.6"}, base=tiny_base)


def test_more_trials_are_more_of_the_same_study(
    planned: Callable[..., Plan],  # noqa: F811
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
    planned: Callable[..., Plan],  # noqa: F811
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


# ---- trials that train


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
    planned: Callable[..., Plan],  # noqa: F811
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
    planned: Callable[..., Plan],  # noqa: F811
    tiny_base: Base,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuning, "_RANDOM_TRIALS", 1)
    before = state(tiny_base)
    plan = planned("full", num_train_epochs=3, seed=1)
    found = tune(plan, tmp_path, search={"learning_rate": "1e-4,3e-3,1e-9"}, base=tiny_base)
    assert_same(tiny_base, before)
    assert "pruned" in {t.state for t in found.trials}
    assert torch.is_grad_enabled()


def test_a_plan_that_does_not_fit_the_base_ends_the_study(
    planned: Callable[..., Plan],  # noqa: F811
    tiny_base: Base,
    tmp_path: Path,
) -> None:
    with pytest.raises(StrategyError, match="top=9"):
        tune(planned("layerwise", top=9), tmp_path, search={"lr": "3e-4,1e-3"}, base=tiny_base)
