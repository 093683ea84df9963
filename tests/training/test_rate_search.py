"""The search for a learning rate."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterkit import Base, Plan, Registry, Watch, run
from adapterkit.errors import OptionError
from adapterkit.training import lr_finder
from adapterkit.training import steps as stepping
from adapterkit.workflows.tune import tune
from tests.helpers.cli import Adapt
from tests.helpers.snapshots import assert_same, state
from tests.helpers.watches import Heard


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


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "accumulate"), [("layerwise", 1), ("lora", 2)])
def test_a_run_with_the_found_rate_is_the_run_that_found_it(
    strategy: str,
    accumulate: int,
    planned: Callable[..., Plan],
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


def test_auto_is_a_word_for_the_rate_alone(planned: Callable[..., Plan], adapt: Adapt) -> None:
    plan = planned("lora", lr="auto")
    assert (plan.auto_rate, plan.strategy.learning_rate) == (True, planned("lora").strategy.learning_rate)
    assert Plan.resolve({}, config=plan.values()) == replace(plan, by_rows=frozenset())  # a file repeats a run
    assert not Plan.resolve({"lr": "1e-3"}, config=plan.values()).auto_rate
    assert "must be a number or auto, got 'often'" in adapt("run", "--lr", "often").stderr
    assert adapt("run", "--epochs", "auto").exit_code == 2


def test_a_probe_has_no_rate_to_search(planned: Callable[..., Plan], tiny_base: Base, registry: Registry) -> None:
    plan = planned("head-only", learning_rate="auto")
    assert run(plan, registry, base=tiny_base).learning_rate == plan.strategy.learning_rate
    with pytest.raises(OptionError, match="head-only solves a linear probe, which has no learning rate"):
        tune(planned("head-only"), registry.path.parent, base=tiny_base)
