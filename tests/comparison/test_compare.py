"""A comparison: equal to runs alone, errors as rows, resumed trials, baselines, what is registered."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch

from adapterkit import Base, Plan, Registry
from adapterkit.comparison import costs
from adapterkit.discovery import installed
from adapterkit.errors import OptionError, StrategyError
from adapterkit.features import SharedStates
from adapterkit.plugins.bitfit import BitFit
from adapterkit.plugins.ia3 import IA3
from adapterkit.plugins.lora import LoRA
from adapterkit.report import Results
from adapterkit.report.texts import result_table
from adapterkit.training import train as training
from adapterkit.workflows.run import run

pytestmark = pytest.mark.usefixtures("no_speed")
STRATEGIES = sorted({entry.name for entry in installed()})


def table(results: Results) -> list[Any]:
    """Return the candidates without what time and memory decide."""
    rows = []
    for candidate in results.plain()["candidates"]:
        candidate["costs"] = {k: v for k, v in candidate["costs"].items() if k in ("bytes", "parameters")}
        rows.append(candidate)
    return rows


@pytest.mark.slow
def test_each_figure_equals_that_of_a_run_alone(
    compared: Callable[..., Results], small_csv: Path, tiny_base: Base, tmp_path: Path
) -> None:
    results = compared(*STRATEGIES, keep="none")
    files = dict.fromkeys(("train_file", "validation_file", "test_file"), str(small_csv))
    for candidate in results.candidates:
        if candidate.kind == "baseline":
            continue
        assert candidate.error == ""
        plan = Plan.resolve({**files, "num_train_epochs": 2, "strategy": candidate.name, "name": "alone"})
        alone = run(plan, Registry(tmp_path / candidate.name / "registry.json"), base=tiny_base)
        for split in ("validation", "test"):
            values = alone.metrics[split]
            assert candidate.metrics[split].values == pytest.approx(
                {k: v for k, v in values.items() if k not in ("n", "intervals")}, abs=1e-6
            ), (candidate.name, split)
            assert candidate.metrics[split].intervals["accuracy"] == pytest.approx(
                values["intervals"]["accuracy"], abs=1e-6
            )
        losses = [epoch["train_loss"] for epoch in alone.history]
        assert [epoch["train_loss"] for epoch in candidate.history] == pytest.approx(losses, rel=1e-4)


def test_hidden_states_are_computed_once_for_strategies_and_seeds(
    compared: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    reused: list[Any] = []
    monkeypatch.setattr(SharedStates, "reused", lambda self, key, seconds=0.0: reused.append(key))
    results = compared("head-only", "layerwise", seeds=2, keep="none")
    assert [c.seeds for c in results.candidates if c.kind == "strategy"] == [[42, 43]] * 2
    # two splits of equal texts and two seeds: of four uses of each, of the probe, of the start of a head and of the
    # blocks below, only the first is computed
    assert [reused.count(key) for key in dict.fromkeys(reused)] == [3, 3, 3]


def test_a_strategy_that_fails_is_a_row_with_its_error(
    compared: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, model: Any) -> Any:
        raise ValueError("no luck today")

    monkeypatch.setattr(LoRA, "apply", broken)
    results = compared("lora", "head-only")
    errors = {c.name: c.error for c in results.candidates if c.error}
    assert list(errors) == ["lora"]
    assert "no luck today" in errors["lora"]
    assert results.recommended == "head-only"
    assert any("lora failed" in sentence for sentence in results.answer)


def test_what_raises_runs_out_of_memory_or_of_time_is_a_row_that_says_so(
    compared: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of memory is the system's; the time passes by a clock that the slow strategy turns."""
    clock, turned = time.monotonic, [0.0]
    monkeypatch.setattr("adapterkit.comparison.trials.time.monotonic", lambda: clock() + turned[0])

    def broken(self: Any, model: Any) -> Any:
        raise ValueError("no luck today")

    def greedy(self: Any, model: Any) -> Any:
        torch.ones(1 << 36)

    def slow(self: Any, model: Any) -> Any:
        turned[0] = 1e9
        return apply(self, model)

    apply = IA3.apply
    monkeypatch.setattr(LoRA, "apply", broken)
    monkeypatch.setattr(BitFit, "apply", greedy)
    monkeypatch.setattr(IA3, "apply", slow)
    with memory_limited(to=psutil.Process().memory_info().vms + (8 << 30)):
        results = compared("head-only", "lora", "bitfit", "ia3", "layerwise", seconds=1e6)
    errors = {c.name: c.error for c in results.candidates if c.error}
    assert "no luck today" in errors["lora"]
    assert errors["bitfit"].startswith("out of memory: ")
    assert (errors["ia3"], errors["layerwise"]) == ("stopped: the time is over", "not started: the time is over")
    assert results.best == "head-only"
    cells = {row[0]: row[1] for row in result_table(results)[1]}
    assert cells["ia3"] == "failed: stopped: the time is over"
    assert cells["bitfit"].startswith("failed: out of memory")


@contextlib.contextmanager
def memory_limited(*, to: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (to, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_what_the_time_does_not_allow_is_a_row(compared: Callable[..., Results]) -> None:
    results = compared("head-only", "lora", seconds=0.0)
    assert {c.error for c in results.candidates if c.kind == "strategy"} == {"not started: the time is over"}
    assert results.answer[0] == "No strategy could be trained."


def test_a_training_under_way_ends_with_the_time(
    compared: Callable[..., Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.monotonic
    calls = iter(range(10_000))
    monkeypatch.setattr("adapterkit.comparison.trials.time.monotonic", lambda: clock() + 10 * next(calls))
    results = compared("lora", seconds=200.0, values={"num_train_epochs": 50})
    assert next(c.error for c in results.candidates if c.name == "lora") == "stopped: the time is over"


@pytest.mark.slow
@pytest.mark.parametrize("dies_at", [1, 2])
def test_a_killed_study_ends_with_the_same_table(
    compared: Callable[..., Results], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dies_at: int
) -> None:
    strategies = ("head-only", "layerwise")
    through = compared(*strategies, values={"name": "through"}, keep="none")
    original, calls = training.train, iter(range(1, 100))

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == dies_at:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(training, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        compared(*strategies, values={"name": "killed"}, keep="none")
    monkeypatch.setattr(training, "train", original)
    trained: list[Any] = []
    monkeypatch.setattr(training, "train", lambda *a, **k: trained.append(a[2]) or original(*a, **k))
    resumed = compared(*strategies, values={"name": "killed"}, keep="none")
    assert len(trained) == len(strategies) - dies_at + 1
    assert table(resumed) == table(through)
    assert resumed.answer[0] == through.answer[0]


def test_a_damaged_trial_is_trained_again(compared: Callable[..., Results], tmp_path: Path) -> None:
    before = compared("bitfit", keep="none")
    (trial,) = (tmp_path / "studies").glob("*/bitfit-42-*/trial.json")
    trial.write_bytes(trial.read_bytes()[:100])
    assert table(compared("bitfit", keep="none")) == table(before)


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "count"), [("best", 1), ("all", 2), ("none", 0)])
def test_adapters_are_registered_with_what_trains_them_again(
    compared: Callable[..., Results], registry: Registry, keep: str, count: int
) -> None:
    results = compared("head-only", "bitfit", keep=keep)
    registered = [c.registered for c in results.candidates if c.registered]
    assert len(registered) == len(registry.adapters()) == count
    for name in registered:
        folder = registry.folder(*registry.resolve(name))
        assert {"run.yaml", "adapter.json"} <= {path.name for path in folder.iterdir()}
        assert "test" in json.loads((folder / "adapter.json").read_bytes())["metrics"]


def test_options_that_a_comparison_does_not_take_are_refused(compared: Callable[..., Results]) -> None:
    with pytest.raises(OptionError, match="--strategies lora, not --strategy"):
        compared(values={"strategy": "lora"})
    with pytest.raises(OptionError, match="--trials searches it"):
        compared(values={"learning_rate": 1e-3})
    with pytest.raises(OptionError, match="decided on validation rows"):
        compared(values={"validation_split_percentage": 0, "validation_file": None})
    with pytest.raises(OptionError, match="--seeds must be >= 1, got 0"):
        compared(seeds=0)
    with pytest.raises(StrategyError, match="lorra"):
        compared("lorra")


def test_a_pool_measures_an_adapter_alone_and_beside_others(
    compared: Callable[..., Results], tiny_base: Base, tmp_path: Path, small_csv: Path
) -> None:
    from adapterkit.adapter.adapter import Adapter
    from adapterkit.data.splits import read

    compared("bitfit", keep="none")
    (folder,) = (tmp_path / "studies").glob("*/bitfit-42-*")
    alone, beside = costs.pool_rates(tiny_base, Adapter.load(folder), read(str(small_csv)))
    assert alone > 0
    assert beside > 0
