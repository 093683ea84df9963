"""Lossless delta coding of tensors by byte plane."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLE = 1 << 16  # bytes of a plane that are tried before all of it is compressed
_HUFFMAN, _DEFLATE = zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY


def pack(values: np.ndarray, like: np.ndarray, *, level: int = 1) -> np.ndarray:
    """Return bytes from which `unpack` restores `values` with the help of `like`, of the same type and shape.

    The bits are subtracted as integers, which are small for floats near one another, and the bytes of equal
    significance form a plane. Each plane is deflated at zlib's `level` or by Huffman coding alone, whichever makes its
    first bytes smaller; a plane that neither shrinks is stored uncompressed.
    """
    parts = []
    for plane in _bytes(_folded(values, like)).T:
        plain = np.ascontiguousarray(plane).tobytes()
        sample = plain[:_SAMPLE]
        strategy = min(_HUFFMAN, _DEFLATE, key=lambda s: len(_deflated(sample, level, s)))
        shrinks = len(_deflated(sample, level, strategy)) < 0.95 * len(sample)
        data = _deflated(plain, level, strategy) if shrinks else plain
        parts += [bytes([shrinks]), len(data).to_bytes(8, "little"), data]
    return np.frombuffer(b"".join(parts), np.uint8)


def unpack(packed: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return the values that `pack` compressed; raises `ValueError` where `packed` doesn't fit `like`."""
    data, at, planes = packed.tobytes(), 0, []
    for _ in range(like.dtype.itemsize):
        size = int.from_bytes(data[at + 1 : at + 9], "little")
        if at + 9 + size > len(data) or data[at] > 1:
            raise ValueError("the compressed values are truncated or damaged")
        part = data[at + 9 : at + 9 + size]
        if data[at]:
            part = _inflated(part, like.size)
        if len(part) != like.size:
            raise ValueError(f"a plane must have {like.size} bytes, got {len(part)}")
        planes.append(np.frombuffer(part, np.uint8))
        at += 9 + size
    if at != len(data):
        raise ValueError("there are bytes after the compressed values")
    return _unfolded(np.ascontiguousarray(np.stack(planes, axis=-1)), like)


def bits(tensor: Tensor) -> np.ndarray:
    """Return the bits of a tensor as a flat array of integers, as numpy has no bfloat16."""
    import torch

    flat = tensor.detach().cpu().contiguous().flatten()
    size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    integers: np.ndarray = flat.view(size).numpy()
    return integers


def from_bits(integers: np.ndarray, like: Tensor) -> Tensor:
    """Return the tensor of `like`'s dtype and shape that has these bits."""
    import torch

    return torch.from_numpy(integers.copy()).view(like.dtype).view(like.shape)


def _folded(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return the differences of the bits in zigzag order: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    kind, signed = np.dtype(f"<u{like.dtype.itemsize}"), np.dtype(f"<i{like.dtype.itemsize}")
    delta = _flat(values, kind) - _flat(like, kind)  # wraps, and wraps back
    negative = (delta.view(signed) >> (8 * kind.itemsize - 1)).view(kind)
    folded: np.ndarray = (delta << 1) ^ negative
    return folded


def _unfolded(folded: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return the values that `_folded` got, from the bytes of the differences, (count, bytes per value)."""
    kind = np.dtype(f"<u{like.dtype.itemsize}")
    zigzag = folded.reshape(-1).view(kind)
    delta = (zigzag >> 1) ^ (~(zigzag & 1) + 1)
    values: np.ndarray = (delta + _flat(like, kind)).view(like.dtype).reshape(like.shape)
    return values


def _flat(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(kind)


def _bytes(values: np.ndarray) -> np.ndarray:
    """Return values as (count, bytes per value)."""
    return values.view(np.uint8).reshape(values.size, values.dtype.itemsize)


def _deflated(plain: bytes, level: int, strategy: int) -> bytes:
    stream = zlib.compressobj(level, strategy=strategy)
    return stream.compress(plain) + stream.flush()


def _inflated(data: bytes, size: int) -> bytes:
    """Return deflated bytes inflated; at most one byte more than `size`, so that a bomb can't fill the memory."""
    try:
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"the compressed values are damaged: {error}") from error
