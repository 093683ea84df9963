"""Read WebAnno TSV 3, as WebAnno and INCEpTION export it: a token per line, with the spans of a layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ...errors import DataError
from .source import BadRow, NumberedRows, Source
from .spans import Span, Tagger

HEAD = "#FORMAT=WebAnno TSV 3"
OLDER = ("# webanno.", " # webanno.", "# de.tudarmstadt", " # de.tudarmstadt", "#FORMAT=WebAnno TSV")
"""How files of earlier versions begin."""
_FIELD = re.compile(r"(?:\\.|[^|\\])+")
_VALUE = re.compile(r"((?:\\.|[^\[\\])*)(?:\[(\d+)\])?")


@dataclass
class _Sentence:
    """The tokens of a sentence with their offsets, and the cells of its spans."""

    line: int
    tokens: list[tuple[int, int, str]] = field(default_factory=list)
    cells: list[tuple[int, int, str]] = field(default_factory=list)  # of tokens and of parts of tokens


def is_webanno(lines: Sequence[str]) -> bool:
    """Return whether a file begins as WebAnno's exports do."""
    return bool(lines) and lines[0].startswith((HEAD, *OLDER))


def read_webanno(source: Source) -> NumberedRows:
    """Read the sentences of a file as rows of words and tags.

    The layer of named entities is read, or else the first layer of spans; `tag_column` chooses another column. Raises
    `DataError` for earlier versions of the format and for a file without a layer of spans.
    """
    lines = source.sample(1 << 16)
    if not lines[0].startswith(HEAD):
        raise DataError(f"{source.name}: WebAnno TSV before version 3 isn't read; export as WebAnno TSV 3 or as CoNLL")
    column, name = _column(source, lines)
    tagger = Tagger()
    for sentence in _sentences(source.lines(), column):
        if isinstance(sentence, tuple):
            yield sentence
        elif sentence.tokens:
            yield sentence.line, _row(source, sentence, tagger)
    tagger.finish(source, f"layer '{name}'")


def _column(source: Source, lines: Sequence[str]) -> tuple[int, str]:
    """Return the column of the tags and its name, from the lines that describe the layers."""
    columns: list[tuple[int, str]] = []
    at = 3
    for line in lines:
        kind, _, rest = line.strip().partition("=")
        if kind in ("#T_SP", "#T_CH", "#T_RL"):
            layer, *features = rest.split("|")
            for name in features or [""]:
                columns += [(at, f"{layer}|{name}")] if kind == "#T_SP" else []
                at += 2 if name.startswith("ROLE_") else 1  # a role and its target
    if (chosen := source.options.tag_column) is not None:
        index = chosen + at if chosen < 0 else chosen
        if not 3 <= index < at:
            raise DataError(f"{source.name}: tag_column={chosen}, but the columns of layers are 3 to {at - 1}")
        return index, dict(columns).get(index, f"column {index}")
    if not columns:
        raise DataError(f"{source.name}: no layer of spans (#T_SP=...) in the header")
    entities = [column for column in columns if "entit" in column[1].lower()]
    values = [column for column in entities or columns if column[1].lower().endswith(("|value", "|label", "|tag"))]
    return (values or entities or columns)[0]


def _sentences(lines: Iterable[str], column: int) -> Iterator[_Sentence | tuple[int, BadRow]]:
    sentence = _Sentence(0)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            yield sentence
            sentence = _Sentence(0)
        elif not line.startswith("#"):
            cells = line.rstrip("\r\n").split("\t")
            place = re.fullmatch(r"(\d+)-(\d+)", cells[1]) if len(cells) > column else None
            if place is None:
                yield number, BadRow(f"a number, 0-4, a token and {column - 2} or more cells were expected, by tabs")
                continue
            sentence.line = sentence.line or number
            start, end = int(place[1]), int(place[2])
            if "." not in cells[0]:
                sentence.tokens.append((start, end, cells[2]))
            sentence.cells.append((start, end, cells[column]))
    yield sentence


def _row(source: Source, sentence: _Sentence, tagger: Tagger) -> dict[str, object] | BadRow:
    """Return a sentence as a row; its text has each token at its offset, with spaces between them."""
    text, words = "", list[tuple[int, int]]()
    begin = previous = sentence.tokens[0][0]
    starts: dict[int, int] = {}  # from offsets in the document, in units of UTF-16, to characters of the text
    for start, end, token in sentence.tokens:
        text += " " * min(max(start - previous, 0), 1000)
        starts |= {start + i: len(text) + min(i, len(token)) for i in range(max(min(end - start, 10_000), 0))}
        words.append((len(text), len(text) + len(token)))
        text += token
        starts.setdefault(end, len(text))
        previous = end
    if error := source.undecoded(text):
        return BadRow(error)
    spans = [
        Span(starts.get(start, start - begin), starts.get(end, end - begin), label)
        for start, end, label in _spans(sentence.cells)
    ]
    return tagger.row(text, spans, words)


def _spans(cells: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Return the spans of a sentence's cells: PER[1] in several cells is one span, PER without a number another."""
    spans: list[tuple[int, int, str]] = []
    numbered: dict[str, int] = {}
    for start, end, cell in cells:
        for value in _FIELD.findall(cell) if cell != "_" else []:
            match = _VALUE.fullmatch(value)
            label = re.sub(r"\\(.)", r"\1", match[1]) if match else value
            if label == "_":
                continue
            if match and match[2] and match[2] in numbered:
                first = numbered[match[2]]
                spans[first] = (spans[first][0], max(end, spans[first][1]), spans[first][2])
                continue
            if match and match[2]:
                numbered[match[2]] = len(spans)
            spans.append((start, end, "span" if label == "*" else label))
    return spans
