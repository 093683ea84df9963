"""Detect texts that show nothing: spaces, control characters and the characters that Unicode ignores by default."""

from __future__ import annotations

import regex

_INVISIBLE = r"\p{Default_Ignorable_Code_Point}"
_VISIBLE = r"[^\s\p{Cc}\p{Default_Ignorable_Code_Point}]"


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character: empty, spaces, zero-width spaces, variation selectors, ...

    >>> is_blank(" \\u200b\\ufeff"), is_blank("a\\u200b")
    (True, False)
    """
    return not (text[:1].isascii() and text[:1].isalnum()) and regex.search(_VISIBLE, text) is None


def without_invisible(text: str) -> str:
    """Return a text without the characters that Unicode ignores by default, such as zero-width spaces."""
    return text if text.isascii() else regex.sub(_INVISIBLE, "", text)
