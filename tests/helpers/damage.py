"""Damaged adapter folders, and the errors about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adapterkit import Adapter, AdapterkitError, Base
from adapterkit.io.atomic import sha256


def attach(adapter: Adapter, base: Base | None) -> None:
    assert base is not None
    with adapter.attached(base):
        pass


def refused(folder: Path, base: Base | None = None) -> str:
    with pytest.raises(AdapterkitError) as caught:
        attach(Adapter.load(folder), base)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "adapter.json").read_text())
    change(manifest)
    (folder / "adapter.json").write_text(json.dumps(manifest))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors and state the new digest, as one would who means harm."""
    path = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    change(tensors)
    path.write_bytes(safetensors.torch.save(tensors))
    stated = {"sha256": sha256(path.read_bytes()), "bytes": path.stat().st_size}
    edit(folder, lambda m: m["files"].update({path.name: stated}))
