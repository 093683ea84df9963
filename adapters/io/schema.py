"""Check JSON values by msgspec types, with errors of one line that name the path in the document."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_ONE_AT_A_TIME = threading.Lock()
"""msgspec 0.22 describes a type at its first use, and the process crashes where two threads do so at once."""
_TYPES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "object": "an object",
    "array": "a list",
    "bool": "true or false",
    "null": "null",
}
_EXPECTED = re.compile(r"Expected `([^`]+)`(.*?)(?:, got `?\w+`?)?")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_PATTERN = re.compile(r"^Expected `str` matching regex '(.*)'$", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")


def check(value: Any, kind: Any, patterns: Mapping[str, str] | None = None) -> None:
    """Raise `ValueError` where a JSON value isn't of a msgspec type, with path, expected type and value.

    `patterns` describes regular expressions in words. A refused `value` is changed, to search it for the fault.
    """
    message = _error(value, kind)
    if message:
        words = {repr(pattern)[1:-1]: text for pattern, text in (patterns or {}).items()}  # as msgspec quotes them
        raise ValueError(_describe(value, message, lambda: _error(value, kind) == message, words))


def converted(value: Any, kind: Any) -> Any:
    """Return JSON values as a msgspec type, in any thread; raises `msgspec.ValidationError` where they aren't."""
    with _ONE_AT_A_TIME:
        return msgspec.convert(value, kind)


def decoded(data: bytes | bytearray | memoryview, kind: Any) -> Any:
    """Return JSON as a msgspec type, in any thread; raises `msgspec.MsgspecError` where it isn't one."""
    with _ONE_AT_A_TIME:
        return msgspec.json.decode(data, type=kind)


def _error(value: Any, kind: Any) -> str:
    try:
        converted(value, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _describe(value: Any, message: str, fails: Callable[[], bool], words: Mapping[str, str]) -> str:
    """Return msgspec's message with the document's path, its keys and the value there."""
    text, _, place = message.rpartition(" - at ") if " - at " in message else (message, "", "$")
    is_key = place.startswith("`key` in ")
    path, at, last = "", value, ""
    for name, index in _STEP.findall(place.removeprefix("`key` in ").strip("`") + ("[...]" if is_key else "")):
        if index == "...":
            last = _first_failing(at, fails)
            path, at = f"{path}[{short(last)}]", at[last]
        else:
            path = f"{path}.{name}" if path and name else f"{path}{name or f'[{index}]'}"
            at = at[name] if name else at[int(index)]
    if match := _MISSING.fullmatch(text):
        return f"{path}.{match[1]} is missing".lstrip(".")
    if match := _PATTERN.fullmatch(text):
        expected = words.get(match[1], f"a string that matches {match[1]}")
        if is_key:
            return f"{short(last)} is no {expected.removeprefix('a ').removeprefix('an ')}"
        return f"{path} must be {expected}, got {short(at)}"
    if match := _EXPECTED.fullmatch(text):
        expected = " or ".join(_TYPES.get(kind, kind) for kind in match[1].split(" | "))
        return f"{path} must be {expected}{match[2]}, got {short(at)}"
    return f"{path}: {text}" if path else text


def _first_failing(container: dict[str, Any], fails: Callable[[], bool]) -> str:
    """Leave one key in `container` for which the check still fails, and return it."""
    items = list(container.items())
    while len(items) > 1:
        half = items[: len(items) // 2]
        container.clear()
        container.update(half)
        items = half if fails() else items[len(half) :]
    container.clear()
    container.update(items)
    return items[0][0]


def short(value: Any) -> str:
    """Return a value as an error quotes it: at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
