"""Read and write protobuf messages (https://protobuf.dev/programming-guides/encoding)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Field(NamedTuple):
    """One field of a message."""

    number: int
    value: int | memoryview
    start: int  # in the message
    stop: int

    @property
    def content(self) -> memoryview:
        """The value of a text, of bytes or of a message. Raises `ValueError` for a number."""
        if isinstance(self.value, int):
            raise ValueError("a number where a message was expected")
        return self.value

    @property
    def text(self) -> str:
        """The value of a text."""
        return bytes(self.content).decode()


def fields(data: memoryview) -> Iterator[Field]:
    """Yield each field of a message. Raises `ValueError` or `IndexError` where it is damaged."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield Field(key >> 3, value, start, at)
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"wire type {kind} at byte {at}")
        size, at = _varint(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
        if at + size > len(data):
            raise ValueError(f"{size} bytes expected at byte {at} of {len(data)}")
        yield Field(key >> 3, data[at : at + size], start, at + size)
        at += size


def number_field(number: int, value: int) -> bytes:
    """Return a field that is a number."""
    return _encoded(number << 3) + _encoded(value)


def content_field(number: int, content: bytes) -> bytes:
    """Return a field that is a text, bytes or a message."""
    return _encoded(number << 3 | 2) + _encoded(len(content)) + content


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {at}")


def _encoded(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)
