"""How tags mark spans of words: a letter for the position before or after a type, a letter alone, or a type alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

TagScheme = Literal["prefixed", "suffixed", "untyped", "types", "words"]
"""B-PER, PER-B, B, PER, or tags of words that mark no spans, such as parts of speech."""
SCHEMES: tuple[TagScheme, ...] = get_args(TagScheme)
UNANNOTATED = "-"
"""spaCy's tag of a word whose annotation is missing."""
LETTERS = "BIMELSUWO"
"""Begin, inside (I, M), end (E, L), single (S, U, W) and outside."""
NAMES = ("IO", "BIO", "BIOES", "BILOU", "BMES", "BMESO", "BMEWO")
_BEFORE, _AFTER = rf"(?is)([{LETTERS}])[-_](.+)", rf"(?is)(.+)[-_]([{LETTERS}])"


def detect(tags: Iterable[str]) -> TagScheme:
    """Return the scheme of the tags of training rows.

    Types alone mark spans where most words are outside: parts of speech have no tag of most words.
    """
    counts = Counter(tags)
    outside = sum(counts[tag] for tag in counts if tag.upper() == "O")
    others = [tag for tag in counts if tag.upper() != "O" and tag != UNANNOTATED]
    letters = {tag.upper() for tag in others if len(tag) == 1 and tag.upper() in LETTERS}
    if others and len(letters) == len(others):
        begun = "B" in letters and (outside or len(letters) > 1)
        return "untyped" if begun or (letters == {"I"} and outside) else "words"
    for scheme, pattern, group in (("prefixed", _BEFORE, 1), ("suffixed", _AFTER, 2)):
        matches = [match for tag in others if (match := re.fullmatch(pattern, tag))]
        positions = {match[group].upper() for match in matches}
        mostly = outside > counts.total() / 2 and len(matches) >= len(others) / 2
        if positions & {*"BISUW"} and (len(matches) == len(others) or mostly):
            return "prefixed" if scheme == "prefixed" else "suffixed"
    return "types" if others and outside > counts.total() / 2 else "words"


def canonical(labels: Sequence[str], scheme: TagScheme) -> dict[str, str]:
    """Return each tag as one with its position before its type: O, B-PER, or B for a span without a type."""
    return {label: _canonical(label, scheme) for label in labels}


def _canonical(label: str, scheme: TagScheme) -> str:
    if label.upper() == "O":
        return "O"
    if scheme != "types" and len(label) == 1 and label.upper() in LETTERS:
        return label.upper()
    if scheme == "prefixed" and (match := re.fullmatch(_BEFORE, label)):
        return f"{match[1].upper()}-{match[2]}"
    if scheme == "suffixed" and (match := re.fullmatch(_AFTER, label)):
        return f"{match[2].upper()}-{match[1]}"
    return f"I-{label}"  # neighbours with the same type are one span


def scheme_remarks(tags: Mapping[str, str], scheme: TagScheme, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return how tags are read where they aren't plain BIO, BIOES or the like; `tags` are canonical, by tag."""
    if scheme == "words":
        return []
    letters = {tag.partition("-")[0] for tag in tags.values()}
    name = next(
        (name for name in NAMES if letters <= {*name}), "a mixture of " + " ".join(x for x in LETTERS if x in letters)
    )
    remarks = []
    if scheme == "types":
        remarks.append("tags are types without a position, so neighbours of one type are one entity")
    elif scheme == "untyped":
        remarks.append(f"tags are {name} without types: entities have the type '_'")
    elif scheme == "suffixed" or letters & {*"MW"} or " " in name:
        remarks.append(f"tags are {name}, {'before' if scheme == 'prefixed' else 'after'} the type of an entity")
    if scheme != "types" and (odd := [tag for tag, read in tags.items() if read == f"I-{tag}"]):
        remarks.append(f"tags without a position are read as inside an entity: {', '.join(odd[:6])}")
    types = sorted({tag.partition("-")[2] for tag in tags.values() if "-" in tag})
    if joined := [name for name in types if re.search(r"[|,;/+][BIESLU]-", name)]:
        remarks.append(f"types that are several tags in one are read as one type: {', '.join(joined[:6])}")
    if alike := [name for name in types if [other.casefold() for other in types].count(name.casefold()) > 1]:
        remarks.append(f"types that differ in case alone: {', '.join(alike[:6])}")
    read = ([tags.get(str(tag), "O") for tag in row] for row in rows)
    begun = Counter(position for row in read for position in _first_positions(row))
    if begun["B"] and begun["inside"] and scheme != "types":
        remarks.append(f"{begun['inside']:,} of {begun.total():,} entities begin with a tag for the inside of one")
    return remarks


def _first_positions(tags: Sequence[str]) -> Iterable[str]:
    """Yield how each entity begins that doesn't follow another: B, inside, or single."""
    before = "O"
    for tag in tags:
        if tag != "O" and before == "O":
            yield "inside" if tag[0] in "IMEL" else "B" if tag[0] == "B" else "single"
        before = tag
