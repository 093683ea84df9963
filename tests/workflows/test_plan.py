"""What a plan says is what the run does, and nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit import Base, Plan, Registry, run
from adapterkit.discovery import installed
from adapterkit.errors import StrategyError, TrainingError
from adapterkit.workflows.estimate import measure
from adapterkit.workflows.meters import Memory
from adapterkit.workflows.outlook import Outlook, spanning
from tests.helpers.cli import Adapt
from tests.helpers.families import slow
from tests.helpers.snapshots import assert_same, state
from tests.helpers.watches import Heard

NAMED = ("head-only", "full", "lora", "layerwise")
OTHERS = [found.name for found in installed() if found.distribution == "adapterkit" and found.name not in NAMED]


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        *((name, {}) for name in NAMED),
        *slow(*((name, {}) for name in OTHERS)),
        ("head-only", {"head": "model"}),
        ("lora", {"head_init": "probe"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
def test_what_is_planned_is_what_the_run_does(
    strategy: str, options: dict[str, Any], planned: Callable[..., Plan], tiny_base: Base, registry: Registry
) -> None:
    plan = planned(strategy, **options)
    before = state(tiny_base)
    found = measure(plan, base=tiny_base)
    assert_same(tiny_base, before)
    assert list(registry.path.parent.iterdir()) == [Path(plan.data.train_file or "")]
    heard = Heard()
    report = run(plan, registry, base=tiny_base, watch=heard)
    assert found.adapter_bytes == report.adapter_bytes
    assert found.trained_parameters == report.trained_parameters == sum(part.parameters for part in found.parts)
    assert found.precision == heard.notes["precision"]
    assert found.seconds.total > found.seconds.epoch > 0
    if found.batches is None:
        assert (strategy, options) == ("head-only", {})
        return
    if strategy == "few-shot":
        assert heard.bars["pairs"] == found.seconds.epochs * found.batches.steps == 8
        return
    assert found.batches.steps == heard.bars["epoch 1/2"] == 2
    assert found.batches.rows == 24
    said = heard.notes["trunk"]
    if found.trunk.cached:
        size = f"{found.trunk.bytes / 1e6:,.1f} MB in memory"
        assert said == f"{found.trunk.what} run once over 48 texts; hidden states cached: {size}"
        assert report.adapter.manifest["training"]["cache_trunk"] == "auto"
    else:
        assert said == f"not cached: {found.trunk.what}"


def test_the_bytes_of_the_trunk_are_those_of_all_rows(planned: Callable[..., Plan], tiny_base: Base) -> None:
    found = measure(planned("layerwise", top=1, mixed_precision="no"), base=tiny_base)
    assert found.batches is not None
    width, number = tiny_base.model.config.hidden_size, 4
    assert found.trunk.bytes == 2 * found.batches.tokens * width * number  # validation has the same rows
    whole = measure(planned("head-only", head="model", mixed_precision="no"), base=tiny_base)
    assert whole.trunk.bytes == 2 * 24 * width * number  # the pooled output is all that the head reads


def test_one_epoch_keeps_the_trunk_where_features_are_kept_for_later(
    planned: Callable[..., Plan], tiny_base: Base
) -> None:
    once = measure(planned("layerwise", num_train_epochs=1), base=tiny_base)
    assert once.trunk == once.trunk.__class__(False, "in one epoch no hidden states are used twice")
    assert measure(planned("layerwise", num_train_epochs=1, keep_features=True), base=tiny_base).trunk.cached


def test_tensors_of_several_blocks_are_one_line(planned: Callable[..., Plan], tiny_base: Base) -> None:
    parts = {part.name: part for part in measure(planned("lora"), base=tiny_base).parts}
    query = parts["bert.encoder.layer.0-2.attention.self.query.lora_A.default.weight"]
    assert (query.shape, query.tensors, query.parameters) == ((8, 32), 3, 3 * 8 * 32)
    assert parts["classifier.weight"].shape == (2, 32)


@pytest.mark.parametrize(
    ("names", "one"),
    [
        (["a.0.w", "a.1.w", "a.2.w"], "a.0-2.w"),
        (["a.0.w", "a.2.w", "a.3.w", "a.10.w"], "a.0,2-3,10.w"),
        (["a.0.b.1.w", "a.1.b.1.w"], "a.0-1.b.1.w"),
        (["pooler.w"], "pooler.w"),
    ],
)
def test_names_span_numbers(names: list[str], one: str) -> None:
    assert spanning(names) == one


def test_a_plan_fails_as_the_run_would(planned: Callable[..., Plan], tiny_base: Base) -> None:
    before = state(tiny_base)
    with pytest.raises(StrategyError, match="top=9, but the base has 3 blocks"):
        measure(planned("layerwise", top=9), base=tiny_base)
    with pytest.raises(TrainingError, match="--cache-trunk on: the lowest block"):
        measure(planned("lora", cache_trunk="on"), base=tiny_base)
    assert_same(tiny_base, before)


def test_a_run_after_a_plan_is_the_run_without_one(
    planned: Callable[..., Plan], tiny_base: Base, tmp_path: Path
) -> None:
    def version(folder: str) -> str:
        return run(planned("full"), Registry(tmp_path / folder / "registry.json"), base=tiny_base).version

    alone = version("alone")
    measure(planned("full"), base=tiny_base)
    assert version("after") == alone


def test_memory_is_that_of_the_worst_moment(tiny_base: Base) -> None:
    memory = Memory(tiny_base.nbytes)
    torch.ones(160_000_000).sum()  # 640 MB, freed again; other threads and the system change some MB meanwhile
    assert 600e6 < memory.growth() < 700e6


@pytest.mark.slow
def test_more_rows_take_more_time(planned: Callable[..., Plan], tiny_base: Base, tmp_path: Path) -> None:
    def of(rows: int) -> Outlook:
        file = tmp_path / f"{rows}.csv"
        texts = [f"{'so good' if i % 2 else 'so bad'} {'x ' * (i % 7)},{('neg', 'pos')[i % 2]}" for i in range(rows)]
        file.write_text("\n".join(["text,label", *texts]))
        return measure(planned("full", train_file=str(file)), base=tiny_base)

    few, many = of(64), of(3200)
    assert few.batches is not None
    assert many.batches is not None
    assert (few.batches.steps, many.batches.steps) == (4, 200)
    assert 10 < many.seconds.training / few.seconds.training < 250  # 50, if nothing else ran on this machine


def test_adapt_plan_prints_and_writes_nothing(adapt: Adapt, small_csv: Path, tiny_folder: Any, tmp_path: Path) -> None:
    flags = ["--base", tiny_folder(), "--train-file", small_csv, "--epochs", "2", "--top", "1"]
    done = adapt("plan", "--strategy", "layerwise", *flags)
    assert done.exit_code == 0, done.output
    for line in (
        "bert.encoder.layer.2.output.dense.weight",
        "adapter ",
        "2 of 3 blocks run once and cached",
        "s in all",
    ):
        assert line in done.stdout
    found = json.loads(adapt("plan", "--strategy", "layerwise", *flags, "--json").stdout)
    assert found["trunk"]["kept"] is True
    assert found["seconds"]["total"] > 0
    assert sum(part["parameters"] for part in found["parts"]) == found["trained_parameters"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.csv"]


def test_adapt_plan_says_what_is_wrong_in_one_line(adapt: Adapt, small_csv: Path, tiny_folder: Any) -> None:
    done = adapt("plan", "--strategy", "layerwise", "--base", tiny_folder(), "--train-file", small_csv, "--top", "9")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "Error: top=9, but the base has 3 blocks"
