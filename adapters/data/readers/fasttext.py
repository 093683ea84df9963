"""Read fastText's lines: labels as __label__NAME, and a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .source import BadRow, NumberedRows, Source

LABEL = re.compile(r"(?:(?<!\S)|,)__label__(\S+?),?(?=,__label__|\s|$)")


def looks_like_fasttext(lines: Sequence[str]) -> bool:
    """Return whether nearly all of the first lines of a text file have a label, which may be behind the text."""
    filled = [line for line in lines if line.strip()]
    return bool(filled) and sum(LABEL.search(line) is not None for line in filled) >= 0.9 * len(filled)


def read_fasttext(source: Source) -> NumberedRows:
    """Read each line that isn't blank as a text with its label, or with a list where any line has several labels."""
    several = _has_several(source.scan())
    source.notes.append("read as fastText: __label__ words are " + ("lists of labels" if several else "labels"))
    for number, line in enumerate(source.lines(), start=1):
        if not line.strip():
            continue
        labels, text = LABEL.findall(line), " ".join(LABEL.sub(" ", line).split())
        if error := source.undecoded(line):
            yield number, BadRow(error)
        elif not labels and not source.options.every_row:
            yield number, BadRow("no __label__, as the other lines have")
        else:
            yield number, {"text": text, "label": labels if several else "".join(labels)}


def _has_several(lines: Iterable[str]) -> bool:
    return any(len(LABEL.findall(line)) > 1 for line in lines)
