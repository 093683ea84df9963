"""A linear probe as the head of a strategy that trains the base: trained with it, and run beside others in a pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base, Plan, Pool, Registry, Report, predict, run
from tests.helpers.adapters import TEXTS
from tests.helpers.pooled import same
from tests.helpers.watches import Notes

RUNS: dict[str, dict[str, Any]] = {
    "lora": {"strategy": "lora", "head": "probe"},
    "layerwise": {"strategy": "layerwise", "top": 1, "head": "probe"},
    "full": {"strategy": "full", "head": "probe"},
    "plain": {"strategy": "lora"},
    "frozen": {"strategy": "head-only"},
}


def trained(file: Path, registry: Registry, base: Base, name: str, **options: Any) -> Report:
    values = {"train_file": str(file), "name": name, "num_train_epochs": 2, "head_init": "random", "lr": 0.003}
    values |= {"validation_split_percentage": 0} | RUNS[name] | options
    return run(Plan.resolve(values), registry, base=base)


def test_a_pool_answers_as_each_adapter_does_alone(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    reports = {name: trained(small_csv, registry, tiny_base, name) for name in RUNS}
    for name, report in reports.items():
        patched, probed = bool(report.adapter.manifest["patches"]), "probe" in report.adapter.manifest
        assert (patched, probed) == (name != "frozen", name != "plain")
    texts = [(text, name) for text in TEXTS for name in RUNS]
    alone = {
        name: dict(zip(TEXTS, predict(tiny_base, registry.load(name), [{"text": text} for text in TEXTS]), strict=True))
        for name in RUNS
    }
    with Pool(tiny_base, {name: registry.load(name) for name in RUNS}) as pool:
        answers = pool.predict([text for text, _ in texts], adapter_of_each=[name for _, name in texts])
    for (text, name), answer in zip(texts, answers, strict=True):
        same(answer, alone[name][text])
    assert len({str(alone[name][TEXTS[0]]) for name in RUNS}) == len(RUNS)  # no two of the heads are the same


def test_it_starts_solved_and_trains(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    notes = Notes()
    values = {"train_file": str(small_csv), "name": "a", "strategy": "lora", "head": "probe", "lr": 0.003}
    report = run(Plan.resolve({**values, "validation_split_percentage": 0}), registry, base=tiny_base, watch=notes)
    assert notes.heard["head"] == "initialised by a linear probe of all training rows"
    assert notes.heard["probe"] == "mean of layers 2, 3, 130 parameters"
    assert report.history[-1]["train_loss"] < report.history[0]["train_loss"]


@pytest.mark.slow
def test_of_sixteen_rows_a_label_the_mean_of_tokens_is_better_than_chance(
    minilm: Base, registry: Registry, tmp_path: Path
) -> None:
    options = {"strategy": "lora", "head": "probe", "validation_split_percentage": 0, "num_train_epochs": 3}
    values = {"dataset": "demo:sentiment", "max_train_samples": 32, "name": "few", **options}
    report = run(Plan.resolve(values), registry, base=minilm)
    assert report.metrics["test"]["accuracy"] > 0.7
