"""Read a list that was written into a cell as a text: by Python, JSON or numpy."""

from __future__ import annotations

import re

_BRACKETS = ("[]", "()", "{}")
_CALL = re.compile(r"\w+\((?P<list>[\[({].*[\])}])(?:, dtype=\S+)?\)", re.DOTALL)
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_EMPTY_SET = re.compile(r"(frozen)?set\(\)")


def listed(cell: str) -> list[str] | None:
    """Return the items of a list that was written as a text; None for any other text.

    >>> listed("['joy', 'anger']"), listed("['joy' 'anger']"), listed("[joy, anger]"), listed("joy")
    (['joy', 'anger'], ['joy', 'anger'], ['joy', 'anger'], None)
    """
    text = cell.strip()
    if _EMPTY_SET.fullmatch(text):
        return []
    if match := _CALL.fullmatch(text):  # numpy's array(['joy'], dtype=object), frozenset({'joy'})
        text = match["list"]
    if text[:1] + text[-1:] not in _BRACKETS or len(text) < 2:
        return None
    inner = text[1:-1]
    quoted = [re.sub(r"\\(.)", r"\1", a or b) for a, b in _QUOTED.findall(inner)]
    if not _QUOTED.sub("", inner).strip(" ,;\n\t"):
        return quoted
    if re.fullmatch(r"[\s\d.-]+", inner) and len(inner.split()) > 1:  # numpy's [0 1]
        return inner.split()
    parts = [part.strip() for part in inner.split(",") if part.strip()]
    numbers = "," in inner and all(part.lstrip("-").isdecimal() for part in parts)
    bare = text[0] == "[" and not set(inner) & set("[]{}'\"")
    return parts if bare or (text[0] == "(" and numbers) else None
