"""Read spans by the numbers of words: SciERC and DyGIE++, SpERT, GLiNER, W2NER."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from .source import BadRow, Row

OVERLAPPING = (
    "overlapping or nested span left out (the first and outermost one counts)",
    "overlapping or nested spans left out (the first and outermost one counts)",
)
OUTSIDE = (
    "span without a word of its sentence, or without a label, left out",
    "spans without a word of their sentence, or without a label, left out",
)
RELATION = ("relation, event or cluster not read", "relations, events and clusters not read")
TAGS = ("ner_tags", "tags", "ner", "slots", "bio_tags", "labels")
"""Columns whose values are tags themselves."""
Counts = Counter[tuple[str, str]]


class WordSpan(NamedTuple):
    """The label of words `start` to before `end` of a sentence."""

    start: int
    end: int
    label: str


def is_dygie(row: Row) -> bool:
    """Return whether an object is a document of DyGIE++: sentences of words, and the spans of each."""
    sentences, spans = row.get("sentences"), row.get("ner")
    if not (isinstance(sentences, list) and isinstance(spans, list) and len(sentences) == len(spans) > 0):
        return False
    return all(map(_are_words, sentences)) and all(isinstance(of_one, list) for of_one in spans)


def dygie_sentences(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each sentence; its spans are [first word, last word, label], numbered through the document."""
    starts = accumulate(map(len, row["sentences"]), initial=0)
    for words, start, spans in zip(row["sentences"], starts, row["ner"], strict=False):
        yield _row(words, [_listed(span, start) for span in spans], left_out)
    for key in ("relations", "events"):
        left_out[RELATION] += sum(map(_count, row[key])) if isinstance(row.get(key), list) else 0
    left_out[RELATION] += _count(row.get("clusters"))


def is_spert(row: Row) -> bool:
    """Return whether an object is a sentence of SpERT: tokens without tags, and entities from a word to another."""
    entities = row.get("entities")
    bounds = isinstance(entities, list) and all(map(_has_bounds, entities))
    return bounds and _are_words(row.get("tokens")) and not any(name in row for name in TAGS)


def spert_sentence(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the sentence; `end` is the word behind the last one."""
    spans = [_span(e["start"], e["end"], e.get("type") or e.get("label")) for e in row["entities"]]
    left_out[RELATION] += _count(row.get("relations"))
    yield _row(row["tokens"], spans, left_out)


def is_gliner(row: Row) -> bool:
    """Return whether an object is a sentence of GLiNER: tokenized_text, and [first word, last word, label]."""
    return _are_words(row.get("tokenized_text")) and isinstance(row.get("ner"), list)


def gliner_sentence(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the sentence."""
    yield _row(row["tokenized_text"], [_listed(span, 0) for span in row["ner"]], left_out)


def is_w2ner(row: Row) -> bool:
    """Return whether an object is a sentence of W2NER: a list of words, and {"index": [words], "type": label}."""
    spans = row.get("ner")
    indexed = isinstance(spans, list) and all(
        isinstance(s, Mapping) and isinstance(s.get("index"), list) for s in spans
    )
    return indexed and _are_words(row.get("sentence"))


def w2ner_sentence(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield the sentence; an entity of words that aren't neighbours is left out."""
    spans = []
    for span in row["ner"]:
        index = span["index"]
        neighbours = bool(index) and _is_number(index[0]) and index == list(range(index[0], index[0] + len(index)))
        spans.append(_span(index[0], index[-1] + 1, span.get("type")) if neighbours else None)
    yield _row(row["sentence"], spans, left_out)


def _row(words: Sequence[str], spans: Sequence[WordSpan | None], left_out: Counts) -> Row | BadRow:
    """Return words and their tags in IOB2; a span that is None or outside of the sentence is left out."""
    if not words:
        return BadRow("a sentence without words")
    inside = {span for span in spans if span is not None and 0 <= span.start < span.end <= len(words)}
    left_out[OUTSIDE] += sum(span not in inside for span in spans)
    tags, reached = ["O"] * len(words), 0
    for span in sorted(inside, key=lambda s: (s.start, -s.end, s.label)):
        if span.start < reached:
            left_out[OVERLAPPING] += 1
            continue
        reached = span.end
        tags[span.start : span.end] = [f"B-{span.label}", *[f"I-{span.label}"] * (span.end - span.start - 1)]
    return {"tokens": list(words), "ner_tags": tags}


def _listed(span: Any, offset: int) -> WordSpan | None:
    """Return [first word, last word, label], and further values, as a span of words from `offset` on."""
    if not isinstance(span, list) or len(span) < 3 or not (_is_number(span[0]) and _is_number(span[1])):
        return None
    return _span(span[0] - offset, span[1] - offset + 1, span[2])


def _span(start: int, end: int, label: Any) -> WordSpan | None:
    return WordSpan(start, end, label) if isinstance(label, str) and label.strip() else None


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _has_bounds(entity: Any) -> bool:
    return isinstance(entity, Mapping) and _is_number(entity.get("start")) and _is_number(entity.get("end"))


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
