"""Choose the precision of training for the hardware."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """A precision by Accelerate's name, and the reason for it."""

    name: str
    why: str


def precision(wanted: str) -> Precision:
    """Return the precision to train in: `wanted`, or for "auto" the launcher's, or bf16 where it is supported."""
    if wanted != "auto":
        return Precision(wanted, f"{_NAMES[wanted]}, as requested")
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if launched in _NAMES:
        return Precision(launched, f"{_NAMES[launched]}, set by the launcher")
    if torch.backends.mps.is_available():
        return Precision("no", "fp32, on MPS")
    supported, hardware = bf16_support("cuda" if torch.cuda.is_available() else "cpu")
    if supported:
        return Precision("bf16", f"bf16 autocast, supported by {hardware}")
    return Precision("no", f"fp32: {hardware} doesn't support bf16{'' if 'GPU' in hardware else _NO_BF16}")


def bf16_support(device: str) -> tuple[bool, str]:
    """Return whether a kind of device computes in bf16 without emulation, and the hardware in words."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False), "this GPU"
    for name, check in (("avx512_bf16", "_is_avx512_bf16_supported"), ("amx", "_is_amx_tile_supported")):
        if device == "cpu" and getattr(torch.cpu, check, lambda: False)():
            return True, f"this CPU ({name})"
    return False, "this CPU" if device == "cpu" else device


_NO_BF16 = " (neither avx512_bf16 nor amx)"
_NAMES = {"no": "fp32", "bf16": "bf16 autocast", "fp16": "fp16 autocast"}
