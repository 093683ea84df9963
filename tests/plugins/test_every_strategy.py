"""Every installed strategy keeps the contract, and what the core does about one that doesn't."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch

from adapterkit import AdapterkitError, Base, Registry, Strategy, run
from adapterkit.discovery import Plugin, installed, strategy_class
from adapterkit.testing import RULES, Bench, cases, tried
from adapterkit.testing.bench import FAMILIES
from adapterkit.testing.runs import launch
from tests.helpers.bases import same, state
from tests.helpers.families import slow
from tests.helpers.plans import plan

STRATEGIES = [found.name for found in installed()]
CASES = [
    (strategy, family)
    for s, strategy in enumerate(STRATEGIES)
    for f, family in enumerate(FAMILIES)
    if f == 0 or (f + s) % 2 == 0
]
"""All strategies on BERT, and on the other families every second: each strategy has two more, and each family five."""
QUICK = [(strategy, "bert") for strategy in ("head-only", "full", "lora", "layerwise")]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    return functools.cache(lambda name: Bench(name, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize(("strategy", "family"), [*QUICK, *slow(*(case for case in CASES if case not in QUICK))])
def test_every_installed_strategy_keeps_the_contract(strategy: str, family: str, bench: Callable[[str], Bench]) -> None:
    tries = [rule for rule, on in cases() if on == family and rule.name != "processes"]
    found = [tried(rule, bench(strategy), family) for rule in tries]
    assert [str(outcome) for outcome in found if outcome.state != "kept"] == []


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_with_every_strategy(bench: Callable[[str], Bench]) -> None:
    benches = [bench(name) for name in STRATEGIES]
    launch(benches, "bert")  # one start for all of them
    (rule,) = (rule for rule in RULES if rule.name == "processes")
    found = [tried(rule, each, "bert") for each in benches]
    assert [str(outcome) for outcome in found if outcome.state != "kept"] == []


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_exception_in_the_middle_leaves_the_base_as_it_was(
    strategy: str, small_csv: Path, tiny_base: Base, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(tiny_base)
    clip = accelerate.Accelerator.clip_grad_norm_
    steps = iter(range(3))

    def fails_at_the_third_step(*args: Any, **kwargs: Any) -> Any:
        if next(steps) == 2:
            raise KeyboardInterrupt
        return clip(*args, **kwargs)

    monkeypatch.setattr(accelerate.Accelerator, "clip_grad_norm_", fails_at_the_third_step)
    with pytest.raises(KeyboardInterrupt):
        run(plan(small_csv, tiny_base.path, strategy, batch_size=4), registry, base=tiny_base)
    assert same(state(tiny_base), before)
    assert not any(p.requires_grad for p in tiny_base.model.parameters())
    assert registry.adapters() == {}
    assert not registry.store.exists()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_what_the_strategy_returned_is_saved(
    strategy: str, small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    run(plan(small_csv, tiny_base.path, strategy), registry, base=tiny_base)
    tensors = set(registry.load("tiny").tensors)
    head = {"base_model.model.classifier.weight", "base_model.model.classifier.bias"}
    names = {n.removeprefix("base_model.model.bert.") for n in tensors - head}
    assert head <= tensors
    match strategy:
        case "head-only":
            assert not names
        case "layerwise":
            assert {n.partition("layer.")[2][0] for n in names} == {"1", "2"}
            assert all(n.startswith("encoder.layer.") for n in names)
        case "lora":
            assert {n.split(".")[-3] for n in names} == {"query", "key", "value", "dense"}
            assert {n.rpartition("lora_")[2] for n in names} == {"A.weight", "B.weight"}
        case "full":
            unused = {"embeddings.token_type_embeddings.weight"}
            assert set(dict(tiny_base.model.named_parameters())) - names <= unused


def test_the_same_run_gives_the_same_adapter_byte_for_byte(
    small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    versions = {run(plan(small_csv, tiny_base.path, "lora"), registry, base=tiny_base).version for _ in range(2)}
    other = run(plan(small_csv, tiny_base.path, "lora", seed=7), registry, base=tiny_base).version
    assert len(versions) == 1
    assert other not in versions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "layerwise", "top": 9}, "top=9, but the base has 3 blocks"),
        ({"strategy": "layerwise", "layers": "2-5"}, "layers='2-5', but the base has blocks 0 to 2"),
        ({"strategy": "layerwise", "layers": "x"}, "layers='x' is not a list of blocks"),
        ({"strategy": "layerwise", "top": 1, "layers": "1"}, "layers='1' excludes top=1"),
        ({"strategy": "lora", "r": 0}, "r must be >= 1, got 0"),
        (
            {"strategy": "lora", "target_modules": "queri"},
            "queri; the base has these linear modules: dense, key, query",
        ),
        ({"strategy": "lora", "learning_rate": 1e30}, "the loss is nan"),
        ({"strategy": "lora", "learning_rate": 0.0}, "no weight changed"),
    ],
)
def test_options_that_do_not_fit_are_said_in_a_line(
    options: dict[str, Any], message: str, small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    before = state(tiny_base)
    with pytest.raises(AdapterkitError, match=r"^[^\n]*$") as caught:
        run(plan(small_csv, tiny_base.path, **options), registry, base=tiny_base)
    assert message in str(caught.value)
    assert same(state(tiny_base), before)
    assert registry.adapters() == {}


def test_a_strategy_that_is_not_one_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(value: str) -> list[Plugin]:
        return [Plugin("odd", "odd-package", "1.0", value, EntryPoint("odd", value, "adapterkit.strategies"))]

    for value, message in (
        ("no_such_module:X", "'odd' of odd-package 1.0 can't be imported: ModuleNotFoundError"),
        ("collections:OrderedDict", "'odd' of odd-package 1.0 is not a subclass of adapterkit.Strategy"),
        ("adapterkit.strategy:Strategy", "'odd' of odd-package 1.0 lacks apply"),
    ):
        monkeypatch.setattr("adapterkit.discovery.installed", lambda group, value=value: found(value))
        with pytest.raises(AdapterkitError, match=message):
            strategy_class("odd")


@dataclass(frozen=True, kw_only=True)
class Odd(Strategy):
    """A strategy that breaks a rule: the fields say which."""

    learning_rate: float = 1e-2
    rule: str = ""

    def apply(self, base: Any) -> Any:
        query = base.encoder.layer[0].attention.self.query
        if self.rule == "changes a value":
            query.weight.data.mul_(-3)
        if self.rule == "starts elsewhere":
            torch.nn.init.normal_(query.weight)
        if self.rule == "exchanges a tensor":
            query.weight.data = query.weight.data * 2
        if self.rule == "raises half-way":
            base.encoder.layer[1] = torch.nn.Identity()
            query.weight.data.zero_()
            raise ValueError("boom")
        if self.rule == "asks to exit":
            raise SystemExit(0)
        if self.rule == "returns a stranger":
            return [torch.nn.Parameter(torch.zeros(3))]
        if self.rule == "returns nothing":
            return None
        if self.rule == "leaves a hook":
            query.register_forward_hook(lambda *_: None)
            base.config.hidden_act = "relu"
        return [query.weight]

    def patches(self, base: Any) -> Any:
        if self.rule == "forgets":
            return {}
        if self.rule == "returns numbers":
            return {"encoder": 3}
        if self.rule == "names nothing":
            return {"no.such.module": next(iter(super().patches(base).values()))}
        return super().patches(base)

    def remove(self, base: Any) -> None:
        if self.rule == "removes too much":
            base.encoder.layer[2] = torch.nn.Identity()
        if self.rule == "fails to remove":
            raise RuntimeError("stuck")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("changes a value", "Odd.apply changed the values of 'encoder.layer.0.attention.self.query.weight'"),
        ("starts elsewhere", "Odd.apply changed the values of 'encoder.layer.0.attention.self.query.weight'"),
        ("exchanges a tensor", "Odd.apply changed the values of 'encoder.layer.0.attention.self.query.weight'"),
        ("raises half-way", "Odd.apply failed: ValueError: boom (test_every_strategy.py:"),
        ("asks to exit", "Odd.apply failed: SystemExit: 0 (test_every_strategy.py:"),
        ("returns a stranger", "Odd.apply must return parameters of the base, got an unrelated Parameter"),
        ("returns nothing", "Odd.apply failed: TypeError: 'NoneType' object is not iterable"),
        ("returns numbers", "Odd.patches must map module names to patches, got 'encoder': int"),
        ("forgets", "Odd.patches doesn't return what was trained: outputs differ by"),
        ("names nothing", "the adapter changes a module 'no.such.module', which base"),
        ("removes too much", "Odd.remove left the base changed, first at encoder.layer.2"),
        ("fails to remove", "Odd.remove failed: RuntimeError: stuck"),
        ("leaves a hook", None),
    ],
)
def test_a_strategy_that_breaks_a_rule_is_told_which_and_the_base_is_whole(
    rule: str,
    message: str | None,
    small_csv: Path,
    tiny_base: Base,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, modules = state(tiny_base), [(n, id(m)) for n, m in tiny_base.model.named_modules()]
    config = tiny_base.model.config.to_dict()
    good = plan(small_csv, tiny_base.path, "full", learning_rate=0.5)
    odd = replace(good, strategy=Odd(rule=rule, learning_rate=0.5))
    if message is None:
        run(odd, registry, base=tiny_base)
    else:
        with pytest.raises(AdapterkitError) as caught:
            run(odd, registry, base=tiny_base)
        assert message in str(caught.value)
        assert registry.adapters() == {}
    assert same(state(tiny_base), before)
    assert [(n, id(m)) for n, m in tiny_base.model.named_modules()] == modules
    assert tiny_base.model.config.to_dict() == config
    assert not tiny_base.changed_tensors()
    assert not any(m._forward_hooks for m in tiny_base.model.modules())


@pytest.mark.parametrize("name", ["applying", "learning"])
def test_a_strategy_that_asks_to_exit_breaks_the_rule_that_is_tried(name: str, tmp_path: Path) -> None:
    (rule,) = (rule for rule in RULES if rule.name == name)
    outcome = tried(rule, Bench(Odd(rule="asks to exit"), tmp_path), "bert")
    assert outcome.state == "broken"
    assert "SystemExit: 0" in outcome.text
