"""What a base is known by: its config and its tensors' values, in whatever dtype and files these are kept.

Digests are remembered, so that a base of which no file changed is known at once. A file is taken for unchanged where
its path, device, inode, size and times of change are as they were; the time of the last change of the inode (ctime) is
among them, which no program sets, so a file that was written to, or replaced, and dated back is read again. Of what is
remembered, some tensors, other ones each time, are digested anew, and one that differs makes all of it void. What is
damaged is void, too. So what is trusted is the file system's clock, and whoever may write in the user's cache folder:
they could as well change the programs that the user runs. To trust nothing, delete the folder that `place` returns.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ..io.atomic import sha256
from .digest_cache import SCHEME, Seen, remembered, seen

SAMPLE = 8 << 20  # bytes of tensors that are digested although they are remembered
_CHUNK = 1 << 22  # numbers that are converted at once
_FEW = 6  # names and keys that a message lists

_NOT_IDENTITY = {
    "_name_or_path",
    "architectures",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
    "classifier_dropout",
    "gradient_checkpointing",
}


# ---- the fingerprint


def fingerprint(settings: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """Return the scheme and a SHA-256 over a base's settings and its tensors' digests."""
    return f"{SCHEME}:{sha256(json.dumps([settings, sorted(digests.items())], sort_keys=True).encode())}"


def settings_of(config: Any) -> dict[str, Any]:
    """Return what a config says of the base itself, as JSON values, where that isn't its class's default.

    So a later transformers, whose configs have more keys, knows the base by the same fingerprint.
    """
    try:
        defaults = type(config)().to_dict()
    except Exception:  # a config of the checkpoint's own code, which may need anything
        defaults = {}
    stated = config.to_dict()
    own = {k: v for k, v in stated.items() if k == "model_type" or k not in defaults or defaults[k] != v}
    settings: dict[str, Any] = json.loads(json.dumps(_identity(own), default=str))
    return settings


def _identity(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {str(key): _identity(v) for key, v in value.items() if key not in _NOT_IDENTITY}


def tensor_digests(
    model: nn.Module, *, without: Collection[str] = (), only: Collection[str] | None = None
) -> dict[str, str]:
    """Return the SHA-256 of each parameter's shape and values; `without` names children that don't count.

    Numbers of at most 32 bits are digested as the fp32 that they exactly are, so bf16 and fp16 copies have one digest.
    """
    tensors = {
        name: tensor
        for name, tensor in model.named_parameters()
        if name.partition(".")[0] not in without and (only is None or name in only)
    }
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # hashlib lets go of the interpreter
        return dict(zip(tensors, threads.map(_digest, tensors.values()), strict=True))


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().flatten()
    short = flat.is_floating_point() and flat.element_size() <= 4
    found = hashlib.sha256(f"{'float' if short else flat.dtype} {tuple(tensor.shape)}".encode())
    for part in torch.split(flat, _CHUNK):
        found.update((part.float() if short else part).view(torch.uint8).numpy().data)
    return found.hexdigest()


# ---- what differs


def touched(digests: Mapping[str, str], modules: Iterable[str]) -> dict[str, str]:
    """Return the digests of the tensors in some modules of a base."""
    starts = tuple(f"{module}." if module else "" for module in modules)
    return {name: digest for name, digest in digests.items() if name.startswith(starts)} if starts else {}


def differences(stated: Mapping[str, Any], settings: Mapping[str, Any], digests: Mapping[str, str]) -> list[str]:
    """Return in words how a base with these settings and digests differs from the one that a manifest states."""
    scheme = stated["fingerprint"].partition(":")[0] if ":" in stated["fingerprint"] else "v1"
    if scheme != SCHEME:
        return [f"the adapter knows its base by a fingerprint of scheme {scheme}, and this adapterkit makes {SCHEME}"]
    theirs: Mapping[str, Any] = stated.get("config", settings)
    keys = [key for key in sorted({*theirs, *settings}) if theirs.get(key) != settings.get(key)]
    found = [f"{key} {_value(theirs, key)} there and {_value(settings, key)} here" for key in keys[:_FEW]]
    if len(keys) > _FEW:
        found.append(f"{len(keys) - _FEW} more settings")
    tensors = stated.get("tensors", {})
    other = [name for name, digest in tensors.items() if digests.get(name) != digest]
    if other:
        names = ", ".join(other[:_FEW]) + (", ..." if len(other) > _FEW else "")
        found.append(f"{len(other)} of the {len(tensors)} tensors that the adapter touches ({names})")
    return found or ["tensors that the adapter doesn't touch"]


def _value(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "the default"


# ---- what is remembered


def model_digests(model: nn.Module, before: Seen, without: Collection[str]) -> dict[str, str]:
    """Return `tensor_digests` of a model that was loaded from files that looked like `before`."""
    own = {n: p for n, p in model.named_parameters() if n.partition(".")[0] not in without}
    kinds = [[name, str(p.dtype), list(p.shape)] for name, p in own.items()]

    def check(found: dict[str, str]) -> bool:
        if found.keys() != own.keys():
            return False
        sample, size = [], 0
        for name in random.SystemRandom().sample(list(own), len(own)):
            sample.append(name)
            size += own[name].numel() * own[name].element_size()
            if size >= SAMPLE:
                break
        return all(found[n] == digest for n, digest in tensor_digests(model, only=sample).items())

    what = [transformers.__version__, type(model).__name__, kinds]
    return remembered(before, what, lambda: tensor_digests(model, without=without), check)


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, remembered."""

    def make() -> dict[str, str]:
        with file.open("rb") as data:
            return {"sha256": hashlib.file_digest(data, "sha256").hexdigest()}

    return remembered(seen([file]), "file", make, lambda found: isinstance(found.get("sha256"), str))["sha256"]
