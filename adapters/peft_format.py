"""Write a LoRA adapter as PEFT's own, so that PEFT and its clients load the folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

KEY_PREFIX = "base_model.model."
"""What PEFT puts before every tensor's name in its files, and so do we."""

TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
}
"""PEFT's name for each kind of task model."""


def peft_config(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], auto_class: str) -> dict[str, Any] | None:
    """Return `adapter_config.json` for an adapter of low-rank patches alone, or None for any other."""
    patches = manifest["patches"]
    if not patches or any(patch["kind"] != "low-rank" for patch in patches.values()):
        return None
    prefix = manifest["base"]["prefix"]
    ranks = {m: tensors[f"{KEY_PREFIX}{prefix}{m}.lora_A.weight"].shape[0] for m in patches}
    alphas = {m: patch["options"]["scale"] * ranks[m] for m, patch in patches.items()}
    r, alpha = max(ranks.values()), max(alphas.values())
    return {
        "peft_type": "LORA",
        "task_type": TASK_TYPES.get(auto_class),
        "base_model_name_or_path": manifest["base"]["name"],
        "revision": manifest["base"]["revision"],
        "inference_mode": True,
        "r": r,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": [f"{prefix}{m}" for m in patches],
        "modules_to_save": sorted({name.partition(".")[0] for name in manifest["head"]}) or None,
        "rank_pattern": {f"{prefix}{m}": rank for m, rank in ranks.items() if rank != r},
        "alpha_pattern": {f"{prefix}{m}": a for m, a in alphas.items() if a != alpha},
    }
