"""Fingerprint a base: SHA-256 over its config and its tensors' values, independent of their dtype and files.

Digests are cached on disk, so that a base with unchanged files loads without hashing. A file counts as unchanged if its
path, device, inode, size and times of change are the same. The inode's time of change (ctime) is among them; no program
sets it, so a file that was rewritten or replaced and backdated is hashed again. A random sample of the cached digests
is recomputed on each use; one difference invalidates them all, as does a damaged cache file. This trusts the file
system's clock and everyone who can write to the user's cache folder, who could change the user's programs as well. To
trust neither, delete the folder that `cache_folder` returns.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import transformers
import xxhash
from torch import Tensor, nn

from ..io.atomic import sha256
from .digest_cache import SCHEME, FileStates, cached_digests, file_states

SAMPLE = 8 << 20  # bytes of tensors that are hashed again although their digests are cached
_CHUNK = 1 << 22  # numbers converted to fp32 at once
_MOST_LISTED = 6  # names and keys in a message

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
    """Return the scheme's name and the SHA-256 of a base's settings and tensor digests."""
    return f"{SCHEME}:{sha256(json.dumps([settings, sorted(digests.items())], sort_keys=True).encode())}"


def settings_of(config: Any) -> dict[str, Any]:
    """Return the config's values that differ from its class's defaults and affect the base's outputs, as JSON values.

    Defaults are left out so that the fingerprint stays the same when a later transformers adds keys.
    """
    try:
        defaults = type(config)().to_dict()
    except Exception:  # a config class from the checkpoint's code may raise anything
        defaults = {}
    values = config.to_dict()
    changed = {k: v for k, v in values.items() if k == "model_type" or k not in defaults or defaults[k] != v}
    settings: dict[str, Any] = json.loads(json.dumps(_identity(changed), default=str))
    return settings


def _identity(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {str(key): _identity(v) for key, v in value.items() if key not in _NOT_IDENTITY}


def tensor_digests(
    model: nn.Module, *, without: Collection[str] = (), only: Collection[str] | None = None
) -> dict[str, str]:
    """Return the SHA-256 of each parameter's shape and values, by name.

    `without` names children to skip, `only` the parameters to hash. Floats of at most 32 bits are hashed as fp32, which
    is exact, so a bf16 checkpoint and its fp32 copy have the same digests.
    """
    return _of_parameters(model, _digest, without=without, only=only)


def tensor_hashes(model: nn.Module, *, without: Collection[str] = ()) -> dict[str, str]:
    """Return an XXH3 hash of each parameter's bytes, by name: enough to notice a change, at the speed of memory."""
    return _of_parameters(model, _hash, without=without)


def _of_parameters(
    model: nn.Module,
    function: Callable[[Tensor], str],
    *,
    without: Collection[str],
    only: Collection[str] | None = None,
) -> dict[str, str]:
    tensors = {
        name: tensor
        for name, tensor in model.named_parameters()
        if name.partition(".")[0] not in without and (only is None or name in only)
    }
    if sum(tensor.nbytes for tensor in tensors.values()) < _CHUNK:  # starting threads would take longer
        return {name: function(tensor) for name, tensor in tensors.items()}
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # both kinds of hash release the GIL
        return dict(zip(tensors, threads.map(function, tensors.values()), strict=True))


def _hash(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().flatten()
    digest = xxhash.xxh3_128(f"{flat.dtype} {tuple(tensor.shape)}".encode())
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().flatten()
    short = flat.is_floating_point() and flat.element_size() <= 4
    digest = hashlib.sha256(f"{'float' if short else flat.dtype} {tuple(tensor.shape)}".encode())
    for part in torch.split(flat, _CHUNK):
        digest.update((part.float() if short else part).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ---- differences


def tensors_of_modules(digests: Mapping[str, str], modules: Iterable[str]) -> dict[str, str]:
    """Return the digests of the tensors in some modules of a base."""
    starts = tuple(f"{module}." if module else "" for module in modules)
    return {name: digest for name, digest in digests.items() if name.startswith(starts)} if starts else {}


def differences(entry: Mapping[str, Any], settings: Mapping[str, Any], digests: Mapping[str, str]) -> list[str]:
    """Return in words how a base with these settings and digests differs from the one in a manifest's entry."""
    scheme = entry["fingerprint"].partition(":")[0] if ":" in entry["fingerprint"] else "v1"
    if scheme != SCHEME:
        return [f"the adapter has a base fingerprint of scheme {scheme}, but this adapterkit computes {SCHEME}"]
    theirs: Mapping[str, Any] = entry.get("config", settings)
    keys = [key for key in sorted({*theirs, *settings}) if theirs.get(key) != settings.get(key)]
    words = [f"{key} {_value(theirs, key)} there and {_value(settings, key)} here" for key in keys[:_MOST_LISTED]]
    if len(keys) > _MOST_LISTED:
        words.append(f"{len(keys) - _MOST_LISTED} more settings")
    tensors = entry.get("tensors", {})
    changed = [name for name, digest in tensors.items() if digests.get(name) != digest]
    if changed:
        names = ", ".join(changed[:_MOST_LISTED]) + (", ..." if len(changed) > _MOST_LISTED else "")
        words.append(f"{len(changed)} of the {len(tensors)} tensors that the adapter touches ({names})")
    return words or ["tensors that the adapter doesn't touch"]


def _value(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "the default"


# ---- cached digests


def model_digests(model: nn.Module, states: FileStates, without: Collection[str]) -> dict[str, str]:
    """Return `tensor_digests` of a model that was loaded from files in these `states`, cached."""
    parameters = {n: p for n, p in model.named_parameters() if n.partition(".")[0] not in without}
    kinds = [[name, str(p.dtype), list(p.shape)] for name, p in parameters.items()]

    def is_valid(cached: dict[str, str]) -> bool:
        if cached.keys() != parameters.keys():
            return False
        sample, size = [], 0
        for name in random.SystemRandom().sample(list(parameters), len(parameters)):
            sample.append(name)
            size += parameters[name].numel() * parameters[name].element_size()
            if size >= SAMPLE:
                break
        return all(cached[n] == digest for n, digest in tensor_digests(model, only=sample).items())

    what = [transformers.__version__, type(model).__name__, kinds]
    return cached_digests(states, what, lambda: tensor_digests(model, without=without), is_valid)


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, cached."""

    def compute() -> dict[str, str]:
        with file.open("rb") as data:
            return {"sha256": hashlib.file_digest(data, "sha256").hexdigest()}

    return cached_digests(file_states([file]), "file", compute, lambda d: isinstance(d.get("sha256"), str))["sha256"]
