"""Our adapters are loaded by PEFT, with equal outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adapterkit import Base, LowRank, Patch, Scale
from adapterkit.convert.export import write_peft
from adapterkit.errors import AdapterError
from tests.helpers import random_adapters as made
from tests.helpers.adapters import task_of as named_task
from tests.helpers.adapters import without_training
from tests.helpers.peft import CLASSIFY, PAIRS, check_equal, through_peft, written


@pytest.mark.product
@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_a_lora_adapter_of_ours_is_a_peft_folder(
    family: str, name: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base, task = loaded(family, name), named_task(name)
    adapter = made.adapter(base, task, "lora", std=0.2)
    folder = written(adapter, tmp_path / "a")
    check_equal(base, adapter, through_peft(base.path, task, folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    stored = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    modules = {key.removesuffix(".lora_A.weight") for key in stored if key.endswith(".lora_A.weight")}
    assert modules == {f"base_model.model.{module}" for module in config["target_modules"]}
    assert (config["peft_type"], config["task_type"]) == ("LORA", task.peft_task_type)
    assert (config["r"], config["lora_alpha"]) == (8, 16)


def test_a_pooler_that_the_checkpoint_lacks_is_saved_as_a_part_of_the_head(
    loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base = loaded("bert", "fill-mask")
    adapter = made.adapter(base, CLASSIFY, "lora", std=0.2)
    folder = written(adapter, tmp_path / "a")
    assert json.loads((folder / "adapter_config.json").read_text())["modules_to_save"] == ["bert.pooler", "classifier"]
    check_equal(base, adapter, through_peft(base.path, CLASSIFY, folder))


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(("strategy", "options"), [("ia3", {}), ("lora", {"use_dora": True})])
def test_ia3_and_dora_adapters_of_ours_are_pefts(
    strategy: str, options: dict[str, Any], family: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base = loaded(family)
    adapter = made.adapter(base, CLASSIFY, strategy, std=0.2, **options)
    folder = written(adapter, tmp_path / "a")
    check_equal(base, adapter, through_peft(base.path, CLASSIFY, folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"] == {"ia3": "IA3", "lora": "LORA"}[strategy]
    assert config.get("use_dora", False) is bool(options)


def scales(base: Base) -> dict[str, Patch]:
    key, out = ("encoder.layer.0.attention.self.key", "encoder.layer.1.output.dense")
    return {key: Scale(torch.rand(32), "outputs"), out: Scale(torch.rand(48), "inputs")}


def test_what_peft_has_no_adapter_for_is_refused_with_the_reason(loaded: Callable[..., Base], tmp_path: Path) -> None:
    base, query = loaded("bert"), "encoder.layer.0.attention.self.query"
    mask = named_task("fill-mask")
    both = {query: LowRank(torch.rand(2, 32), torch.rand(32, 2), 1.0), **scales(base)}
    refused = {
        "nothing but the head": made.adapter(base, CLASSIFY, "head-only"),
        "of patches of kind replace, and only those": made.adapter(base, CLASSIFY, "layerwise"),
        "of patches of kind low-rank, scale": without_training(base, CLASSIFY, both),
        "tied to the base at 'cls.predictions.decoder.weight'": made.adapter(base, mask, "lora"),
    }
    for reason, adapter in refused.items():
        with pytest.raises(AdapterError, match=reason):
            write_peft(adapter, tmp_path / "out")
        assert "adapter_config.json" not in adapter.files()
    assert not (tmp_path / "out").exists()
