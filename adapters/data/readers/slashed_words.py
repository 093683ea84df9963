"""Read sentences with a tag behind each word, as taggers print them: The/DT cat/NN sat/VBD or The_DT cat_NN."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .source import BadRow, NumberedRows, Source

_PAIR = {mark: re.compile(rf"(\S+){mark}([A-Z][A-Z0-9]*(?:[$:+=-][A-Z0-9]+)*\$?|[,.:;()#'`$\"?!-]+)") for mark in "/_"}
_LEAST_WORDS = 2


def _mark_of(lines: Sequence[str]) -> str | None:
    """Return the mark between words and tags, where all words of all lines have a tag."""
    filled = [line.split() for line in lines if line.strip()]
    words = [word for line in filled for word in line]
    if len(words) < _LEAST_WORDS * len(filled) or len(filled) < 2:
        return None
    for mark, pair in _PAIR.items():
        if all(map(pair.fullmatch, words)) and any(word.rpartition(mark)[2].isalpha() for word in words):
            return mark
    return None


def looks_like_slashed(lines: Sequence[str]) -> bool:
    """Return whether each word of the first lines of a text file has a tag behind it."""
    return _mark_of(lines) is not None


def read_slashed(source: Source) -> NumberedRows:
    """Read each line as a row of words and tags."""
    mark = _mark_of(source.sample(1 << 16)) or "/"
    for number, line in enumerate(source.lines(), start=1):
        pairs = [_PAIR[mark].fullmatch(word) for word in line.split()]
        if error := source.undecoded(line):
            yield number, BadRow(error)
        elif not all(pairs):
            word = next(word for word, pair in zip(line.split(), pairs, strict=True) if pair is None)
            yield number, BadRow(f"a word and its tag were expected as word{mark}TAG, not {word[:40]!r}")
        elif pairs:
            yield number, {"tokens": [pair[1] for pair in pairs if pair], "tags": [pair[2] for pair in pairs if pair]}
    source.notes.append(f"read as words with tags: word{mark}TAG")
