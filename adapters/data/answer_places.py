"""Find the place of an answer in its context, whether or not it is written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import regex

from ..metrics.scripts import splits_between

NEAR = 5
"""The most characters by which a written place may be off."""


@dataclass(frozen=True)
class Place:
    """An answer's text and first character in a context, and how the place was determined."""

    text: str
    start: int
    how: Literal["written", "only", "first", "corrected", "spaced"]


def locate(text: str, start: int | None, context: str) -> Place | None:
    """Return the place of an answer in its context, or None where there is none.

    A written `start` that is wrong is corrected where one occurrence is meant: the only one within `NEAR` characters,
    or the one at that offset in bytes of UTF-8 or units of UTF-16. Without a `start`, an occurrence as whole words goes
    before one inside a word, and the first before the others.

    >>> locate("5", None, "In 105 there were 5 boats.")
    Place(text='5', start=18, how='first')
    """
    if start is not None and start >= 0 and context.startswith(text, start):
        return Place(text, start, "written")
    places = list(occurrences(text, context))
    if not places:
        stripped = text.strip()
        place = locate(stripped, start, context) if stripped not in ("", text) else None
        return (place and Place(stripped, place.start, "corrected")) or _with_other_spaces(stripped, start, context)
    if start is not None:
        meant = _meant(text, start, context, places)
        return Place(text, meant.pop(), "corrected") if len(meant) == 1 else None
    if len(places) == 1:
        return Place(text, places[0], "only")
    separate = (place for place in places if _is_separate(context, place, place + len(text)))
    return Place(text, next(separate, places[0]), "first")


def _with_other_spaces(text: str, start: int | None, context: str) -> Place | None:
    """Return the place of an answer that differs from the context in spaces, such as line ends, or in how letters with
    marks are composed, where one is meant.
    """
    words = text.split()
    if not words or (len(words) < 2 and text.isascii()):
        return None
    matches = list(re.finditer(r"\s+".join(map(_pattern, words)), context))
    near = [match for match in matches if start is not None and abs(match.start() - start) <= NEAR]
    meant = matches if len(matches) == 1 else near
    return Place(meant[0][0], meant[0].start(), "spaced") if len(meant) == 1 else None


def _pattern(word: str) -> str:
    """Return a pattern of a word, each of its letters composed with its marks or decomposed."""
    if word.isascii():
        return re.escape(word)
    clusters = regex.findall(r"\X", word)
    forms = ({cluster, *(unicodedata.normalize(form, cluster) for form in ("NFC", "NFD"))} for cluster in clusters)
    return "".join(f"(?:{'|'.join(map(re.escape, sorted(of_one)))})" for of_one in forms)


def occurrences(text: str, context: str) -> Iterator[int]:
    """Yield the first character of each occurrence of a text; they may overlap."""
    place = context.find(text) if text else -1
    while place >= 0:
        yield place
        place = context.find(text, place + 1)


def _meant(text: str, start: int, context: str, places: list[int]) -> set[int]:
    """Return the occurrences that a wrong `start` may mean."""
    near = [place for place in places if abs(place - start) <= NEAR]
    meant = set(near) if len(near) == 1 else set()
    for encoding, size in (("utf-8", 1), ("utf-16-le", 2)):
        data = context.encode(encoding, "surrogatepass")
        if start >= 0 and data.startswith(text.encode(encoding, "surrogatepass"), start * size):
            meant.add(len(data[: start * size].decode(encoding, "replace")))
    return meant & {*places}


def _is_separate(context: str, start: int, end: int) -> bool:
    """Return whether no word reaches over either end of a span."""
    begins = start == 0 or splits_between(context[start - 1], context[start])
    return begins and (end == len(context) or splits_between(context[end - 1], context[end]))
