"""Remarks on texts that were damaged before they were saved: with lost or misread characters, or a sign of no text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import printable

NO_TEXT = frozenset({"\\N", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A", "#REF!", "#VALUE!", "#NAME?"})
"""What databases, pandas and spreadsheets write where there is no text."""
_RUN = re.compile(r"[^\x00-\x7f]{2,}")
_PLAUSIBLE = re.compile(r"[\xa0-\xff\u0100-\u017f\u0391-\u03ce\u0410-\u044f\u0401\u0451\u2010-\u203a\u20ac\u2122]+")
_CYRILLIC = re.compile(r"[\u0401\u0410-\u044f\u0451]{2,}")
_ACCENTED = re.compile(r"[\xc0-\xff\xb8]{5,}")
"""More accented letters in a row than any language of Windows-1252 has, all of which are Cyrillic in 1251."""
_LEAST = 2
"""The fewest misread texts that are named: «CAFÉ» ends in two characters that are one in UTF-8, by chance."""


def damage_remarks(column: str, values: Iterable[Any], *, is_input: bool) -> Iterator[str]:
    """Yield how many texts, or lists of words, of a column look damaged; nothing of them is changed."""
    lost = misread = absent = 0
    example = ""
    for value in values:
        text = value if isinstance(value, str) else " ".join(value) if _are_words(value) else ""
        absent += is_input and text in NO_TEXT
        if text.isascii():
            continue
        lost += "\ufffd" in text
        if repaired := next(_misread(text), None):
            misread += 1
            example = example or "'{}' for '{}'".format(*map(printable, repaired))
    if absent:
        yield f"{_texts(absent)} in column '{column}' that tools write for none, such as NULL or NaN: read as written"
    if lost:
        yield f"{_texts(lost)} in column '{column}' with U+FFFD, the sign of a lost character: read as written"
    if misread >= _LEAST:
        yield (
            f"{_texts(misread)} in column '{column}' that look decoded in the wrong encoding ({example}): "
            "read as written"
        )


def _texts(count: int) -> str:
    return f"{count:,} text{'s' * (count != 1)}"


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _misread(text: str) -> Iterator[tuple[str, str]]:
    """Yield parts of a text that were decoded as Windows-1252 or 1251, each with what it was in UTF-8 or Cyrillic."""
    for match in _ACCENTED.finditer(text):
        yield match[0], match[0].encode("cp1252").decode("cp1251")
    for match in _RUN.finditer(text):
        for codec, plausible in (("cp1252", _PLAUSIBLE), ("cp1251", _CYRILLIC)):
            try:
                original = b"".join(_byte(char, codec) for char in match[0]).decode("utf-8")
            except UnicodeError:
                continue
            if plausible.fullmatch(original):
                yield match[0], original


def _byte(char: str, codec: str) -> bytes:
    """Return the byte of a character; the five that Windows-1252 has no character for are control characters."""
    return bytes([ord(char)]) if "\x80" <= char <= "\x9f" else char.encode(codec)
