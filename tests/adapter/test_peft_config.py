"""The adapter_config.json that PEFT reads, value by value, and which adapters have none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adapterkit.adapter.peft_config import KEY_PREFIX, peft_config, why_not
from adapterkit.errors import AdapterError


def manifest(patches: dict[str, dict[str, Any]], head: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    base = {"prefix": "bert.", "name": "owner/base", "revision": "main"}
    return {"patches": patches, "head": list(head), "base": base, **more}


def low_rank(scale: float, kind: str = "low-rank", tensors: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"kind": kind, "options": {"scale": scale}, "tensors": ["lora_A.weight", "lora_B.weight", *tensors]}


def factors(**ranks: int) -> dict[str, Tensor]:
    return {f"{KEY_PREFIX}bert.{module}.lora_A.weight": torch.zeros(rank, 6) for module, rank in ranks.items()}


def test_ranks_and_scales_are_pefts_r_alpha_and_patterns() -> None:
    patches = {"q": low_rank(2.0), "k": low_rank(2.0), "v": low_rank(0.75), "pooler": {"kind": "replace"}}
    head = ("classifier.weight", "classifier.bias", "bert.pooler.dense.weight")
    config = peft_config(manifest(patches, head), factors(q=8, k=4, v=8), "SEQ_CLS")
    assert config == {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": "owner/base",
        "revision": "main",
        "inference_mode": True,
        "fan_in_fan_out": False,
        "target_modules": ["bert.q", "bert.k", "bert.v"],
        "modules_to_save": ["bert.pooler", "classifier"],
        "r": 8,
        "lora_alpha": 16,  # 2.0 times a rank of 8
        "lora_dropout": 0.0,
        "bias": "none",
        "lora_bias": False,
        "use_dora": False,
        "rank_pattern": {"bert.k": 4},
        "alpha_pattern": {"bert.k": 8.0, "bert.v": 6.0},
    }
    assert type(config["lora_alpha"]) is int


def test_an_alpha_that_is_no_whole_number_dora_and_a_bias_are_stated() -> None:
    config = peft_config(manifest({"q": low_rank(0.3, "dora", ("lora_B.bias",))}), factors(q=4), None)
    assert config is not None
    assert (config["lora_alpha"], config["use_dora"], config["lora_bias"]) == (pytest.approx(1.2), True, True)
    assert (config["peft_type"], config["task_type"], config["modules_to_save"]) == ("LORA", None, None)


def test_ia3_states_which_modules_it_scales_at_their_inputs() -> None:
    patches = {name: {"kind": "scale", "options": {"of": of}} for name, of in (("k", "outputs"), ("down", "inputs"))}
    config = peft_config(manifest(patches), {}, "CAUSAL_LM")
    assert config is not None
    assert (config["peft_type"], config["target_modules"]) == ("IA3", ["bert.k", "bert.down"])
    assert config["feedforward_modules"] == ["bert.down"]
    assert "r" not in config


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), "x", None])
def test_a_scale_that_is_no_finite_number_is_an_error(scale: Any) -> None:
    with pytest.raises(AdapterError, match="kind 'low-rank'"):
        peft_config(manifest({"q": low_rank(scale)}), factors(q=4), None)


LORA = {"q": low_rank(2.0)}
NONE: dict[str, tuple[dict[str, Any], str]] = {
    "probe": (manifest({}, probe={"layers": [1]}), "probe"),
    "tokens": (manifest(LORA, added_tokens={"<a>": 9}), "tokens"),
    "head": (manifest({}, ("classifier.weight",)), "nothing but the head"),
    "kind": (manifest({"q": {"kind": "bias"}}), "kind bias"),
    "two kinds": (manifest({**LORA, "k": {"kind": "scale"}}), "kind low-rank, scale"),
    "replaced": (manifest({"q": {"kind": "replace"}}), "kind replace"),
    "root": (manifest({**LORA, "": {"kind": "replace"}}), "kind low-rank, replace"),
    "tied": (manifest(LORA, ("cls.decoder.weight",), tied=["other.weight", "cls.decoder.weight"]), "'cls.decoder"),
}


@pytest.mark.parametrize(("stored", "reason"), NONE.values(), ids=NONE)
def test_an_adapter_that_peft_has_no_method_for_has_a_reason_and_no_config(stored: dict[str, Any], reason: str) -> None:
    assert reason in str(why_not(stored))
    assert peft_config(stored, factors(q=4), None) is None


def test_one_kind_beside_replaced_modules_is_pefts() -> None:
    assert why_not(manifest(LORA)) is None
    assert why_not(manifest({**LORA, "norm": {"kind": "replace"}}, ("cls.bias",), tied=["other.weight"])) is None
