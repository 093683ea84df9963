"""What a base is known by: its config and its tensors' values, in whatever dtype and files these are kept.

Digests are remembered, so that a base of which no file changed is known at once. A file is taken for unchanged where
its path, device, inode, size and times of change are as they were; the time of the last change of the inode (ctime) is
among them, which no program sets, so a file that was written to, or replaced, and dated back is read again. Of what is
remembered, some tensors, other ones each time, are digested anew, and one that differs makes all of it void. What is
damaged is void, too. So what is trusted is the file system's clock, and whoever may write in the user's cache folder:
they could as well change the programs that the user runs. To trust nothing, delete the folder that `place` returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ..errors import RegistryError
from ..io.atomic import json_bytes, sha256, write_file

SCHEME = "v2"
"""What a fingerprint begins with: another way of making it gets another name, so that the two are told apart."""
SETTLED = 2_000_000_000  # ns: a file that changed later may change again within one tick of the clock
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

Seen = Sequence[Sequence[str | int]]
"""What files looked like: path, device, inode, size, and when the content and the inode changed, in ns."""


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


def seen(files: Iterable[str | Path]) -> Seen:
    """Return what files look like now, or nothing where one of them isn't there."""
    try:
        found = [(path, os.stat(path)) for path in sorted(map(os.path.realpath, files))]
    except OSError:
        return []
    return [[path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for path, s in found]


def place() -> Path:
    """Return the folder of what is remembered; it is made where it isn't there. Raises `OSError`."""
    from huggingface_hub import cached_assets_path

    return Path(cached_assets_path("adapterkit", "digests"))


def remembered(
    before: Seen, what: Any, make: Callable[[], dict[str, str]], check: Callable[[dict[str, str]], bool]
) -> dict[str, str]:
    """Return what `make` says of files, from the cache where it has that for files that look as `before` and now.

    `what` says in JSON values what is made of them. `check` is asked whether what was found can be right.
    """
    key = sha256(json_bytes([SCHEME, [file[0] for file in before], what]))
    unchanged = bool(before) and seen([str(file[0]) for file in before]) == before
    found = _recall(f"{key}.json", before) if unchanged else None
    if found is not None and check(found):
        return found
    made = make()
    changed = max((int(at) for file in before for at in file[-2:]), default=0)
    if unchanged and changed + SETTLED < time.time_ns() and seen([str(file[0]) for file in before]) == before:
        content = [before, made]
        with contextlib.suppress(RegistryError, OSError):  # without a cache, it is made again next time
            write_file(place() / f"{key}.json", json_bytes([*content, sha256(json_bytes(content))]))
    return made


def _recall(name: str, now: Seen) -> dict[str, str] | None:
    try:
        before, digests, stated = json.loads((place() / name).read_bytes())
        whole = stated == sha256(json_bytes([before, digests]))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return digests if whole and before == now and isinstance(digests, dict) else None


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
