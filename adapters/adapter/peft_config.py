"""Write the adapter_config.json of PEFT, so that PEFT and its clients load the folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import AdapterError

KEY_PREFIX = "base_model.model."
"""What PEFT puts before every tensor's name in its files, and so do we."""

PEFT_TYPES = {"low-rank": "LORA", "dora": "LORA", "scale": "IA3"}
"""PEFT's name for an adapter that is made of patches of one kind."""


FEATURES = "FEATURE_EXTRACTION"
"""PEFT's task type of an adapter whose head is a probe: it loads the patches, and leaves the head's tensors unread."""


def peft_config(
    manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], task_type: str | None
) -> dict[str, Any] | None:
    """Return `adapter_config.json` for an adapter that PEFT has a method for, or None for any other.

    Raises `AdapterError` where a patch has not what one of its kind has, as in anyone's manifest.
    """
    if why_not(manifest) is not None:
        return None
    patches, prefix = manifest["patches"], manifest["base"]["prefix"]
    replaced = [f"{prefix}{m}" for m, patch in patches.items() if patch["kind"] == "replace"]
    patches = {m: patch for m, patch in patches.items() if patch["kind"] != "replace"}
    kind = next(iter(patches.values()))["kind"]
    try:
        options = _ia3(patches, prefix) if kind == "scale" else _lora(patches, prefix, tensors, kind)
    except (LookupError, TypeError, ValueError) as error:
        raise AdapterError(f"the adapter's patches of kind '{kind}' are not whole: {error!r}") from error
    return {
        "peft_type": PEFT_TYPES[kind],
        "task_type": task_type,
        "base_model_name_or_path": manifest["base"].get("hub_id") or manifest["base"]["name"],
        "revision": manifest["base"]["revision"],
        "inference_mode": True,
        "fan_in_fan_out": False,
        "target_modules": [f"{prefix}{m}" for m in patches],
        "modules_to_save": sorted({*_head_modules(manifest), *replaced}) or None,
        **options,
    }


def why_not(manifest: Mapping[str, Any]) -> str | None:
    """Return why PEFT can't represent the adapter of a manifest, or None where it can."""
    kinds = sorted({patch["kind"] for patch in manifest["patches"].values()})
    if "probe" in manifest and (not kinds or manifest["base"]["prefix"]):
        # tensors with a prefix are those of an earlier version, and no model of transformers has such names
        return "its head is a probe, which transformers has no class for; train with --head model"
    if "added_tokens" in manifest:
        return "it adds tokens to the tokenizer"
    if not kinds:
        return "it changes nothing but the head, and PEFT has no such adapter"
    beside = {"replace"} if "" not in manifest["patches"] else set()  # modules that PEFT saves whole, such as norms
    if len(others := [kind for kind in kinds if kind not in beside]) != 1 or others[0] not in PEFT_TYPES:
        supported = ", ".join(PEFT_TYPES)
        return f"it is made of patches of kind {', '.join(kinds)}, and only those of one kind of {supported} are PEFT's"
    heads = _head_modules(manifest)
    tied = next((name for name in manifest.get("tied", ()) if name.startswith(tuple(f"{m}." for m in heads))), None)
    return tied and f"its head is new and tied to the base at '{tied}', and PEFT saves heads whole"


def _head_modules(manifest: Mapping[str, Any]) -> list[str]:
    """Return the outermost modules of the head, PEFT's `modules_to_save`; some may be children of the base."""
    if "probe" in manifest:
        return []
    prefix = manifest["base"]["prefix"]
    pairs = [(prefix if name.startswith(prefix) else "", name) for name in manifest["head"]]
    return sorted({before + name.removeprefix(before).partition(".")[0] for before, name in pairs})


def _lora(patches: Mapping[str, Any], prefix: str, tensors: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    ranks = {m: tensors[f"{KEY_PREFIX}{prefix}{m}.lora_A.weight"].shape[0] for m in patches}
    alphas = {m: patch["options"]["scale"] * ranks[m] for m, patch in patches.items()}
    if not all(map(math.isfinite, alphas.values())):
        raise ValueError("a scale is no finite number")
    r, alpha = max(ranks.values()), max(alphas.values())
    return {
        "r": r,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "lora_bias": any("lora_B.bias" in patch["tensors"] for patch in patches.values()),
        "use_dora": kind == "dora",
        "rank_pattern": {f"{prefix}{m}": rank for m, rank in ranks.items() if rank != r},
        "alpha_pattern": {f"{prefix}{m}": a for m, a in alphas.items() if a != alpha},
    }


def _ia3(patches: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    inward = [f"{prefix}{m}" for m, patch in patches.items() if patch["options"]["of"] == "inputs"]
    return {"feedforward_modules": inward}
