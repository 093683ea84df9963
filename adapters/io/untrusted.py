"""Read files that may be anyone's: regular ones, of a size known before, and JSON that can't surprise."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MOST_JSON = 4 << 20  # bytes; what 25,000 tensors need
_DEEPEST = 64
_FEW_VALUES, _BYTES_A_VALUE = 250_000, 16  # ours take 20 bytes and more each; `{},` would take 40 times its own

_PART = "[A-Za-z0-9_][A-Za-z0-9_-]*"
NAME_PATTERN = rf"{_PART}(?:[./]{_PART})*"
"""Parts between dots or slashes, none of them empty: no path from the root, and none that leads out of a folder."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)  # possessive: no input makes it go back
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


def is_name(value: Any) -> bool:
    """Tell whether a value is the name of a tensor, a module or a file: parts between dots, none of them empty.

    So none is a path from the root, or leads out of a folder.
    """
    return isinstance(value, str) and len(value) <= 512 and re.fullmatch(NAME_PATTERN, value) is not None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; raises `OSError` for a link, a folder, a pipe or a device, without waiting for one."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, and a file was expected") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file")
    with open(handle, "rb", buffering=0) as file:
        yield file


def read_file(path: Path, *, size: int | None = None, most: int = MOST_JSON) -> bytearray:
    """Return a file's bytes, its size looked at before any is read: `size` where that is given, else `most` at most.

    Raises `OSError` where it can't be read or is no regular file, `ValueError` where it is of another size.
    """
    with opened(path) as file:
        there = os.fstat(file.fileno()).st_size
        if size is not None and there != size:
            raise ValueError(f"{there} bytes, expected {size}")
        if there > (most if size is None else _memory()):
            raise ValueError(f"{there} bytes, expected {most if size is None else _memory()} at most")
        data = bytearray(there)
        view, at = memoryview(data), 0
        while at < there and (count := file.readinto(view[at:])):  # type: ignore[attr-defined]
            at += count
        if at < there or file.read(1):
            raise ValueError(f"{there} bytes, and its size changed while it was read")
    return data


def parse_json(data: bytes | bytearray) -> Any:
    """Return the value of a JSON text.

    Raises `ValueError` where it isn't UTF-8 or JSON, a key is there twice, a number is none that is finite or a whole
    one of more than 64 bits, or it is nested more deeply, or holds more values, than anything that adapterkit writes.
    """
    most = max(_FEW_VALUES, len(data) // _BYTES_A_VALUE)
    if data.count(b",") + data.count(b"[") + data.count(b"{") > most or data.count(b'"') > 2 * most:
        raise ValueError("it holds more values than its size allows")
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKET)
    for _ in range(_DEEPEST):
        if not brackets:
            break
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise ValueError(f"its brackets don't match, or are nested more than {_DEEPEST} deep")
    text = data.decode()
    found = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite, parse_int=_whole)
    if "\\u" in text:
        json.dumps(found, ensure_ascii=False).encode()  # half a character, as only an escape can make
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)[:60]}' is there twice")
    return found


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > 20:  # a long one may not even become a float
        raise ValueError(f"{text[:40]} has more than 64 bits")
    return int(text)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
