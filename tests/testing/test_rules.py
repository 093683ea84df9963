"""Every rule of the contract catches the strategy that breaks it, and says by how much."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

import pytest

from adapterkit import Patch
from adapterkit.adapter import adapter
from adapterkit.discovery import patch_class
from adapterkit.testing import RULES, Bench, tried
from tests.helpers.breaking import BREAKING, Biases, Greedy, Half

OWN: Mapping[str, type[Patch]] = {"half": Half, "greedy": Greedy}
SAYS = {
    "applying": "outputs differ by 0.0",
    "learning": "1 tensors moved that apply didn't return, first embeddings.position_embeddings.weight",
    "patches": "outputs differ by",
    "disk": "outputs differ by",
    "removing": "1 modules or parameters aren't those of before, first encoder.extra",
    "pool": "logits differ by",
    "options": "(0, 1)) was written as",
    "copies": "TypeError: cannot pickle '_thread.lock' object",
    "resuming": "losses differ by",
    "processes": "losses differ by",
}
ALONE = {"learning", "disk", "pool", "options", "copies", "resuming"}
"""The faults that leave all other rules of one process whole."""


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "patch_class", lambda kind: OWN.get(kind) or patch_class(kind))


@pytest.mark.slow
@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_a_strategy_that_breaks_a_rule_is_caught_by_it(name: str, tmp_path: Path) -> None:
    bench = Bench(BREAKING[name], tmp_path)
    asked = [r for r in RULES if r.name == name or (name in ALONE and r.name != "processes")]
    found = {r.name: tried(r, bench, "bert") for r in asked}
    assert found[name].state == "broken", found[name]
    assert str(found[name]).startswith(f"{BREAKING[name].__name__} on bert: {name}: ")
    assert SAYS[name] in found[name].text
    others = {r for r, outcome in found.items() if outcome.state != "kept"} - {name}
    assert not others, {r: found[r].text for r in others}


def test_the_strategy_that_they_are_made_of_keeps_every_rule(tmp_path: Path) -> None:
    bench = Bench(Biases, tmp_path)
    assert [o for r in RULES if r.name != "processes" and (o := tried(r, bench, "bert")).state != "kept"] == []


def test_every_rule_says_what_it_is() -> None:
    for rule in RULES:
        assert inspect.getdoc(rule.test)
        assert rule.summary.endswith(".")
