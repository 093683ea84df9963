"""Numbers told as a difference to numbers alike, exact to the bit, in few bytes."""

from __future__ import annotations

import zlib

import numpy as np

_SAMPLE = 1 << 16  # bytes of a plane that are tried before all of it is compressed


def pack(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return bytes from which `unpack` makes `values` again, given `like` of the same type and shape.

    Bits are XORed, and the bytes of like significance stand together: of nearby floats, signs and exponents agree. A
    plane that doesn't compress is kept as it is.
    """
    different = _bytes(values) ^ _bytes(like)
    parts = []
    for plane in different.T:
        plain = np.ascontiguousarray(plane).tobytes()
        shrinks = len(zlib.compress(plain[:_SAMPLE], 1)) < 0.95 * len(plain[:_SAMPLE])
        data = zlib.compress(plain, 1) if shrinks else plain
        parts += [bytes([shrinks]), len(data).to_bytes(8, "little"), data]
    return np.frombuffer(b"".join(parts), np.uint8)


def unpack(packed: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return what `pack` was given, or raise `ValueError` where `packed` doesn't fit `like`."""
    data, at, planes = packed.tobytes(), 0, []
    for _ in range(like.dtype.itemsize):
        size = int.from_bytes(data[at + 1 : at + 9], "little")
        if not at + 9 + size <= len(data):
            raise ValueError("packed numbers are cut short")
        part = data[at + 9 : at + 9 + size]
        if data[at]:
            try:
                part = zlib.decompressobj().decompress(part, like.size + 1)  # never more than there may be
            except zlib.error as error:
                raise ValueError(f"a plane can't be inflated: {error}") from error
        if len(part) != like.size:
            raise ValueError(f"a plane of {like.size} bytes was expected, not of {len(part)}")
        planes.append(np.frombuffer(part, np.uint8))
        at += 9 + size
    if at != len(data):
        raise ValueError("packed numbers go on after their end")
    different = np.stack(planes, axis=-1)
    return np.ascontiguousarray(different ^ _bytes(like)).view(like.dtype).reshape(like.shape)


def _bytes(values: np.ndarray) -> np.ndarray:
    """Return numbers as (count, bytes each)."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).reshape(values.size, values.dtype.itemsize)
