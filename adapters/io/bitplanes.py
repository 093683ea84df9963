"""Numbers told as a difference to numbers alike, exact to the bit, in few bytes."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLE = 1 << 16  # bytes of a plane that are tried before all of it is compressed
_HUFFMAN, _WHOLE = zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY


def pack(values: np.ndarray, like: np.ndarray, *, level: int = 1) -> np.ndarray:
    """Return bytes from which `unpack` makes `values` again, given `like` of the same type and shape.

    Bits are subtracted as whole numbers, which for floats near one another gives small ones, and the bytes of like
    significance stand together. A plane is deflated at zlib's `level` or by Huffman's code alone, whichever is smaller
    of its beginning; one that neither shrinks is kept as it is.
    """
    parts = []
    for plane in _bytes(_folded(values, like)).T:
        plain = np.ascontiguousarray(plane).tobytes()
        sample = plain[:_SAMPLE]
        strategy = min(_HUFFMAN, _WHOLE, key=lambda s: len(_deflated(sample, level, s)))
        shrinks = len(_deflated(sample, level, strategy)) < 0.95 * len(sample)
        data = _deflated(plain, level, strategy) if shrinks else plain
        parts += [bytes([shrinks]), len(data).to_bytes(8, "little"), data]
    return np.frombuffer(b"".join(parts), np.uint8)


def unpack(packed: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return what `pack` was given, or raise `ValueError` where `packed` doesn't fit `like`."""
    data, at, planes = packed.tobytes(), 0, []
    for _ in range(like.dtype.itemsize):
        size = int.from_bytes(data[at + 1 : at + 9], "little")
        if at + 9 + size > len(data) or data[at] > 1:
            raise ValueError("packed numbers are cut short or damaged")
        part = data[at + 9 : at + 9 + size]
        if data[at]:
            part = _inflated(part, like.size)
        if len(part) != like.size:
            raise ValueError(f"a plane of {like.size} bytes was expected, not of {len(part)}")
        planes.append(np.frombuffer(part, np.uint8))
        at += 9 + size
    if at != len(data):
        raise ValueError("packed numbers go on after their end")
    return _unfolded(np.ascontiguousarray(np.stack(planes, axis=-1)), like)


def bits(tensor: Tensor) -> np.ndarray:
    """Return a tensor's bits as numbers that numpy knows."""
    import torch

    flat = tensor.detach().cpu().contiguous().flatten()
    size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    found: np.ndarray = flat.view(size).numpy()
    return found


def from_bits(found: np.ndarray, like: Tensor) -> Tensor:
    """Return the tensor of `like`'s dtype and shape that has these bits."""
    import torch

    return torch.from_numpy(found.copy()).view(like.dtype).view(like.shape)


def _folded(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return the differences of bits, those below zero between the others: 0, -1, 1, -2, ... are 0, 1, 2, 3, ..."""
    kind, signed = np.dtype(f"<u{like.dtype.itemsize}"), np.dtype(f"<i{like.dtype.itemsize}")
    different = _flat(values, kind) - _flat(like, kind)  # wraps, and wraps back
    below = (different.view(signed) >> (8 * kind.itemsize - 1)).view(kind)
    folded: np.ndarray = (different << 1) ^ below
    return folded


def _unfolded(folded: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return what `_folded` was given, from the bytes of its differences, (count, bytes each)."""
    kind = np.dtype(f"<u{like.dtype.itemsize}")
    found = folded.reshape(-1).view(kind)
    different = (found >> 1) ^ (~(found & 1) + 1)
    values: np.ndarray = (different + _flat(like, kind)).view(like.dtype).reshape(like.shape)
    return values


def _flat(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(kind)


def _bytes(values: np.ndarray) -> np.ndarray:
    """Return numbers as (count, bytes each)."""
    return values.view(np.uint8).reshape(values.size, values.dtype.itemsize)


def _deflated(plain: bytes, level: int, strategy: int) -> bytes:
    stream = zlib.compressobj(level, strategy=strategy)
    return stream.compress(plain) + stream.flush()


def _inflated(data: bytes, size: int) -> bytes:
    """Return what was deflated, of `size` bytes, and never more than one more."""
    try:
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"packed numbers are damaged: {error}") from error
