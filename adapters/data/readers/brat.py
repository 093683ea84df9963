"""Read BRAT's standoff files: spans in NAME.ann, the text in NAME.txt beside it; a file or a folder of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError
from .source import BadRow, NumberedRows, Source
from .spans import Span, Tagger

_ENTITY = re.compile(r"T\S*\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")


def read_brat(source: Source) -> NumberedRows:
    """Read the lines of the text as rows of words and tags; lines are joined where a span goes from one to the next.

    Raises `DataError` where the text isn't there.
    """
    tagger, other = Tagger(), Counter[str]()
    yield from _document(source, tagger, other)
    _finish(source, tagger, other)


def read_brat_folder(source: Source) -> NumberedRows:
    """Read all pairs of files of a folder, in the order of their names; rows are numbered from 1."""
    source.unit = "row"
    tagger, other, number = Tagger(), Counter[str](), 0
    for path in sorted(Path(source.name).glob("*.ann")):
        with path.open("rb") as file:
            one = Source(str(path), path.stat().st_size, file, source.options)
            for line, row in _document(one, tagger, other):
                number += 1
                yield number, BadRow(f"{path.name}:{line}: {row.reason}") if isinstance(row, BadRow) else row
        source.reached += one.size
        source.notes += [note for note in one.notes if note not in source.notes]
    _finish(source, tagger, other)


def _finish(source: Source, tagger: Tagger, other: Counter[str]) -> None:
    tagger.finish(source, "BRAT")
    source.count(sum(other.values()), "relation, event or note not read", "relations, events and notes not read")


def _document(source: Source, tagger: Tagger, other: Counter[str]) -> NumberedRows:
    text_file = Path(source.name).with_suffix(".txt")
    if not text_file.is_file():
        raise DataError(f"{source.name}: the text is expected beside it, as {text_file.name}")
    text = "".join(Source(str(text_file), 0, options=source.options).scan())
    spans: list[Span] = []
    for number, line in enumerate(source.lines(), start=1):
        if not line.strip():
            continue
        read = _spans(line, text, tagger)
        if read is None and line.startswith("T"):
            yield number, BadRow(f"'T1<tab>LABEL 0 9<tab>text' was expected, not {line.strip()[:60]!r}")
        elif read is None:
            other[line[0]] += 1
        spans += read or []
    for start, end in _rows(text, spans):
        number, part = text.count("\n", 0, start) + 1, text[start:end].rstrip("\r\n")
        if error := source.undecoded(part):
            yield number, BadRow(error)
        elif part.strip():
            inside = [s for s in spans if start <= s.start < end or (not start and s.start > len(text))]
            yield number, tagger.row(part, [Span(s.start - start, s.end - start, s.label, s.text) for s in inside])


def _spans(line: str, text: str, tagger: Tagger) -> list[Span] | None:
    """Return the spans of an entity's line, a span for each of its parts, or None for a line of another kind."""
    match = _ENTITY.fullmatch(line.rstrip("\r\n"))
    if match is None:
        return None
    places = [tuple(map(int, part.split())) for part in match[2].split(";")]
    tagger.counts["parts"] += len(places) > 1
    surface = match[3] if len(places) == 1 else None
    return [Span(start, end, match[1], surface) for start, end in places]


def _rows(text: str, spans: list[Span]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each line of a text, lines in one where a span goes over their end."""
    start = at = 0
    for line in text.splitlines(keepends=True):
        at += len(line)
        if not any(span.start < at < span.end for span in spans):
            yield start, at
            start = at
    if start < at:
        yield start, at
