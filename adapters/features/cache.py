"""Cache files of hidden states, named by a digest of what they were computed from, for later runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.atomic import check_writable, write_file
from ..io.tensors import chunks

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

_VERSION = 2


def digest(features: Dataset, inputs: Iterable[str]) -> str:
    """Return the SHA-256 of the columns `inputs` of features, of those that there are."""
    import pyarrow as pa  # type: ignore[import-untyped]

    sha256 = hashlib.sha256()
    columns = [name for name in inputs if name in features.column_names]
    arrow = features.with_format("arrow")
    for start in range(0, len(features), 10_000):
        table = arrow[start : start + 10_000]
        for name in columns:
            values = table[name].combine_chunks()
            while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
                sha256.update(values.value_lengths().to_numpy(zero_copy_only=False).tobytes())
                values = values.flatten()
            sha256.update(name.encode() + _bytes_of(values))
    return sha256.hexdigest()


def _bytes_of(values: Any) -> bytes:
    """Return the content of an Arrow array of numbers, or of byte strings with their lengths."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        lengths = pc.binary_length(values).to_numpy(zero_copy_only=False).astype("int64")
        return bytes(lengths.tobytes()) + b"".join(values.to_pylist())
    numbers = values.to_numpy(zero_copy_only=False)
    return bytes((numbers if numbers.dtype.kind == "f" else numbers.astype("int64")).tobytes())


def path_of(*parts: Any) -> Path:
    """Return the cache file of what was computed from `parts`, JSON values."""
    import datasets

    key = hashlib.sha256(json.dumps([_VERSION, *parts]).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE, "adapterkit", "features", f"{key}.safetensors")


def read(file: Path) -> dict[str, Tensor] | None:
    """Return the memory-mapped tensors of a file, or None where it is missing, truncated or changed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, it is no dict
            expected = (stored.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return tensors if expected == _digest_of(tensors) else None


def _digest_of(tensors: dict[str, Tensor]) -> str:
    import torch

    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        sha256.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        sha256.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def write(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a file, atomically; raises `FileError` where the disk is full, and leaves no file then."""
    check_writable(file.parent)
    write_file(file, chunks(tensors, {"sha256": _digest_of(tensors)}), sync=False)
