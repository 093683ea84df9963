"""What a base said of some texts, kept on disk for later runs, and found again by what it was computed from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

_VERSION = 2
_READ = ("input_ids", "attention_mask", "token_type_ids")


def digest(features: Dataset, *, labels: bool = False) -> str:
    """Return the SHA-256 of what a base reads of features, and of their labels where it reads those too."""
    import pyarrow as pa  # type: ignore[import-untyped]

    found = hashlib.sha256()
    columns = [name for name in (*_READ, *(["labels"] if labels else [])) if name in features.column_names]
    arrow = features.with_format("arrow")
    for start in range(0, len(features), 10_000):
        table = arrow[start : start + 10_000]
        for name in columns:
            values = table[name].combine_chunks()
            while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
                found.update(values.value_lengths().to_numpy(zero_copy_only=False).tobytes())
                values = values.flatten()
            found.update(name.encode() + values.to_numpy(zero_copy_only=False).astype("int64").tobytes())
    return found.hexdigest()


def place(*parts: Any) -> Path:
    """Return the file of what was computed from `parts`, JSON values."""
    import datasets

    key = hashlib.sha256(json.dumps([_VERSION, *parts]).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE, "adapterkit", "features", f"{key}.safetensors")


def recall(file: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a file, mapped, or None where it isn't there, isn't whole, or was changed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, it is no dict
            stated = (stored.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return found if stated == _sum(found) else None


def _sum(tensors: dict[str, Tensor]) -> str:
    import torch

    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def remember(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a file; raises `OSError` where the disk is full, and then leaves nothing."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=file.parent, prefix=".")
    os.close(handle)
    try:
        save_file(tensors, beside, {"sha256": _sum(tensors)})
        os.replace(beside, file)
    except SafetensorError as error:
        raise OSError(f"can't write '{file}': {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
