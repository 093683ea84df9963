"""The adapters that registry.json lists at the root: whole, small, and as good as it says."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from adapterkit import Base, Registry, predict
from adapterkit.store.maintenance import verify
from tests.helpers.files import ROOT

NAMES = ["demo-names", "demo-requests", "demo-sentiment", "demo-topics"]


def test_every_file_of_theirs_is_as_it_was_written() -> None:
    registry = Registry(ROOT / "registry.json")
    assert sorted(registry.adapters()) == NAMES
    assert verify(registry, NAMES) == []
    size = sum(path.stat().st_size for path in registry.store.rglob("*") if path.is_file())
    assert size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_their_metrics_are_those_that_were_reported(name: str, adapt: Callable[..., Result]) -> None:
    done = adapt("eval", name, "--registry", ROOT / "registry.json", "--json")
    assert done.exit_code == 0, done.output
    stated = Registry(ROOT / "registry.json").load(name).manifest["metrics"]["test"]
    found = json.loads(done.stdout)
    assert {key: found[key] for key in stated if key != "intervals"} == pytest.approx(
        {key: value for key, value in stated.items() if key != "intervals"}, abs=1e-6
    )


def test_one_answers_right_after_the_installation(minilm: Base) -> None:
    adapter = Registry(ROOT / "registry.json").load("demo-sentiment")
    good, bad = predict(minilm, adapter, ["I'd stay here again tomorrow.", "The soup was cold and the waiter rude."])
    assert (good["label"], bad["label"]) == ("positive", "negative")
