"""Read untrusted files: regular files of bounded size, and strict JSON of bounded depth."""

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
_FEW_VALUES = 250_000
_BYTES_A_VALUE = 16  # ours have 20 and more; one of the 3 bytes `{},` takes 40 times as much memory

_PART = "[A-Za-z0-9_][A-Za-z0-9_-]*"
NAME_PATTERN = rf"{_PART}(?:[./]{_PART})*"
"""Parts between dots or slashes, none of them empty: no path from the root, and none that leads out of a folder."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)  # possessive: no input makes it go back
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


def is_name(value: Any) -> bool:
    """Return whether a value is the name of a tensor, a module or a file: non-empty parts between dots or slashes.

    No such name is an absolute path or leads out of a folder.
    """
    return isinstance(value, str) and len(value) <= 512 and re.fullmatch(NAME_PATTERN, value) is not None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; raises `OSError` for a link, a folder, a pipe or a device, and never blocks on one."""
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
    """Return a file's bytes, after a check of its size: exactly `size` if set, else at most `most`.

    Raises `OSError` where it can't be read or is no regular file, `ValueError` where it is of another size.
    """
    with opened(path) as file:
        nbytes = os.fstat(file.fileno()).st_size
        if size is not None and nbytes != size:
            raise ValueError(f"{nbytes} bytes, expected {size}")
        if nbytes > (most if size is None else _memory()):
            raise ValueError(f"{nbytes} bytes, expected {most if size is None else _memory()} at most")
        data = bytearray(nbytes)
        view, at = memoryview(data), 0
        while at < nbytes and (count := file.readinto(view[at:])):  # type: ignore[attr-defined]
            at += count
        if at < nbytes or file.read(1):
            raise ValueError(f"{nbytes} bytes, and its size changed while it was read")
    return data


def parse_json(data: bytes | bytearray) -> Any:
    """Return the value of a JSON text.

    Raises `ValueError` where it isn't UTF-8 or JSON, a key is repeated, a number isn't finite or is an integer of more
    than 64 bits, or it is nested more deeply or has more values than anything that adapterkit writes.
    """
    most = max(_FEW_VALUES, len(data) // _BYTES_A_VALUE)
    if data.count(b",") + data.count(b"[") + data.count(b"{") > most or data.count(b'"') > 2 * most:
        raise ValueError("it holds more values than its size allows")
    text = data.decode()
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKET)
    for _ in range(_DEEPEST):
        if not brackets:
            break
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise ValueError(f"its brackets don't match, or are nested more than {_DEEPEST} deep")
    value = json.loads(
        text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite, parse_int=_integer
    )
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair, which only an escape can make
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)[:60]}' is there twice")
    return result


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value


def _integer(text: str) -> int:
    if len(text) > 20:  # a long one may not even become a float
        raise ValueError(f"{text[:40]} has more than 64 bits")
    return int(text)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
