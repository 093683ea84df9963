"""Read and write safetensors files: eight bytes of the header's length, a JSON header, then the numbers.

Dtypes, shapes and places are checked here, so that a file that is wrong in any of them is one line and not a crash.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import AdapterError
from .untrusted import MOST_JSON, is_name, parse_json

if TYPE_CHECKING:
    from torch import Tensor

_SIZES = {"I64": 8, "F64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1}
"""Bytes a number by the format's dtypes, in the order in which its own library writes tensors."""
_TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_TORCH |= {"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8"}
_OURS = {name: dtype for dtype, name in _TORCH.items()}
_LARGEST = 1 << 48  # values of a tensor, a dimension of 0 counted as 1: beyond it, strides can overflow
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class Place:
    """The bytes, dtype and shape of a tensor in a file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def places(data: bytes | bytearray) -> dict[str, Place]:
    """Return the places of a file's tensors; raises `ValueError` where they are invalid, overlap or leave a gap."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MOST_JSON):
        raise ValueError(f"its header must have at most {MOST_JSON} bytes of the file's {len(data)}, got {length}")
    header = parse_json(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    about = header.pop(_METADATA, {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise ValueError(f"its {_METADATA} is not texts by name")
    by_name = {name: _place(name, stated, 8 + length) for name, stated in header.items()}
    end = 8 + length
    for name, place in sorted(by_name.items(), key=lambda item: (item[1].start, item[1].end)):
        if place.start != end:
            raise ValueError(f"'{name}' begins at byte {place.start}, expected {end}")
        end = place.end
    if end != len(data):
        raise ValueError(f"its tensors end at byte {end} of {len(data)}")
    return by_name


def _place(name: str, stated: Any, start: int) -> Place:
    if not is_name(name):
        raise ValueError(f"{name[:60]!r} is no tensor's name")
    if not isinstance(stated, dict) or set(stated) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"'{name}' has not just a dtype, a shape and offsets")
    dtype, shape, offsets = stated["dtype"], stated["shape"], stated["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise ValueError(f"'{name}' is of dtype {str(dtype)[:20]!r}; known: {', '.join(_SIZES)}")
    if not is_counts(shape) or len(shape) > 8 or math.prod(max(n, 1) for n in shape) > _LARGEST:
        raise ValueError(f"'{name}' has the shape {str(shape)[:60]}")
    if not is_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"'{name}' has the offsets {str(offsets)[:60]}")
    if offsets[1] - offsets[0] != math.prod(shape) * _SIZES[dtype]:
        raise ValueError(f"'{name}' is {dtype} {shape}, but has {offsets[1] - offsets[0]} bytes")
    return Place(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def is_counts(value: Any) -> bool:
    """Return whether a JSON value is a list of integers >= 0."""
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def tensors(data: bytearray) -> dict[str, Tensor]:
    """Return the tensors of a file, each in separate memory; raises `ValueError` as `places` does."""
    import torch

    loaded = {}
    for name, place in places(data).items():
        dtype = getattr(torch, _TORCH[place.dtype])
        if place.start == place.end:
            loaded[name] = torch.empty(place.shape, dtype=dtype)
        else:
            count = math.prod(place.shape)
            flat = torch.frombuffer(data, dtype=dtype, count=count, offset=place.start)
            loaded[name] = flat.clone().view(place.shape)  # where torch allocates, so that kernels round as they did
    return loaded


def is_finite(tensor: Tensor) -> bool:
    """Return whether a floating-point tensor has no infinity and no NaN; makes no copy."""
    import torch

    return not tensor.numel() or all(math.isfinite(edge) for edge in torch.aminmax(tensor))


def chunks(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """Yield a file in parts, so that no tensor is copied: the bytes that the safetensors library writes.

    Raises `AdapterError` for a name, a dtype or a number of tensors that couldn't be read again.
    """
    import torch

    kinds = {}
    for name, tensor in tensors.items():
        kinds[name] = _OURS.get(str(tensor.dtype).removeprefix("torch."), "")
        if not kinds[name]:
            raise AdapterError(
                f"'{name}' is of dtype {tensor.dtype}, which can't be stored; supported: {', '.join(_OURS)}"
            )
        if not is_name(name):
            raise AdapterError(f"{name!r} can't be stored: a name has letters, digits, _ and - between dots")
    order = sorted(tensors, key=lambda name: (list(_SIZES).index(kinds[name]), name))
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {"dtype": kinds[name], "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST_JSON:
        raise AdapterError(f"{len(tensors)} tensors need a header of {len(text)} bytes; the limit is {MOST_JSON}")
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        flat = tensors[name].detach().cpu().contiguous().flatten()
        if flat.numel():
            yield flat.view(torch.uint8).numpy().data


def tensor_digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's dtype, shape and values as hex."""
    import torch

    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
