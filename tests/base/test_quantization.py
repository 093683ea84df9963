"""Bases whose linear maps are held in four or eight bits: LoRA and head-only learn on them, others say why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapterkit import Base, Plan, Registry, run
from adapterkit.errors import StrategyError
from adapterkit.evaluation.evaluate import predict
from adapterkit.testing import tiny

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny base whose rows are as wide as the blocks that are quantised together."""
    folder = tmp_path_factory.mktemp("quantised") / "base"
    return tiny.make("llama", folder, hidden_size=512, intermediate_size=512, num_key_value_heads=4)


FOUR = pytest.param(
    "4bit",
    marks=pytest.mark.xfail(
        not torch.cuda.is_available(), reason="bitsandbytes 0.50 fails to repack 4 bits for CPUs with avx512_bf16"
    ),
)


@pytest.mark.parametrize("bits", [FOUR, "8bit"])
@pytest.mark.parametrize("strategy", ["lora", "head-only"])
def test_an_adapter_is_learned_on_a_quantised_base(
    strategy: str, bits: str, wide: Path, small_csv: Path, registry: Registry
) -> None:
    values = {"train_file": str(small_csv), "strategy": strategy, "num_train_epochs": 2, "name": "small"}
    values |= {"base": str(wide), "quantization": bits, "mixed_precision": "no"}
    report = run(Plan.resolve(values), registry)
    assert report.adapter.manifest["base"]["quantization"] == bits
    adapter = registry.load("small")
    base = Base.from_manifest(adapter.manifest["base"], str(wide))
    assert base.quantization == bits
    assert any(not p.is_floating_point() for p in base.model.parameters())
    assert {answer["label"] for answer in predict(base, adapter, ["lovely food", "awful food"])} <= {"pos", "neg"}


@pytest.mark.parametrize("strategy", ["full", "layerwise"])
def test_a_strategy_that_trains_the_bases_own_weights_is_refused(
    strategy: str, wide: Path, small_csv: Path, registry: Registry
) -> None:
    values = {"train_file": str(small_csv), "strategy": strategy, "base": str(wide)}
    with pytest.raises(StrategyError, match="which is quantized to 4bit and can't be trained; use lora or head-only"):
        run(Plan.resolve({**values, "quantization": "4bit"}), registry)
    assert not registry.path.exists()
