"""Turn spans of characters, as annotation tools write them, into words and their tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import regex

from .source import BadRow, Row, Source

_SPACE = r"[\s\x1c-\x1f\u200b\u00ad\u2060\ufeff]"
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_WORD = rf"(?={_UNSPACED})\X|(?:(?!{_UNSPACED})[\p{{L}}\p{{N}}\p{{Pc}}][\p{{M}}\u200c\u200d]*)+|(?!{_SPACE})\X"
"""A run of letters and digits with their marks, a letter of a script without spaces, or any other character."""

PROBLEMS = {
    "overlapping": "overlapping or nested spans left out (the first and outermost one counts)",
    "outside": "spans outside of their text, or without a word, left out",
    "elsewhere": "spans left out because their text isn't at their offsets",
    "moved": "spans with offsets in units of UTF-16, corrected by their text",
    "inclusive": "spans whose end is their last character, corrected by their text",
    "cut": "words cut where a span begins or ends inside of them",
    "parts": "spans in several parts, read as a span for each part",
    "labels": "further labels of a span left out",
    "unreadable": "annotations left out because they have no offsets or no label",
}
"""What differs from the file, with how it is counted."""


@dataclass(frozen=True)
class Span:
    """The label of a part of a text, from `start` to before `end`; `text` is that part, where the tool writes it."""

    start: int
    end: int
    label: str
    text: str | None = None
    hint: bool = False  # whether `text` may be another, as a normalised value is


class Tagger:
    """Make rows of words and tags from texts with spans, and count what can't be read as it is written."""

    def __init__(self) -> None:
        self.spans = self.texts = 0
        self.counts: Counter[str] = Counter()

    def row(self, text: str, spans: Iterable[Span], words: Sequence[tuple[int, int]] | None = None) -> Row | BadRow:
        """Return the words of a text, its tags in IOB2, and the text; `words` are their places, else `cut_words`."""
        chosen = self._chosen(text, spans)
        places = self._cut(cut_words(text) if words is None else words, chosen)
        if not places:
            return BadRow("text is empty")
        tags = ["O"] * len(places)
        for span in chosen:
            inside = [i for i, (start, end) in enumerate(places) if span.start <= start and end <= span.end]
            for i in inside:
                tags[i] = f"{'B' if i == inside[0] else 'I'}-{span.label}"
            self.counts["outside"] += not inside
        self.texts += 1
        self.spans += len(chosen)
        return {"tokens": [text[start:end] for start, end in places], "ner_tags": tags, "text": text}

    def _chosen(self, text: str, spans: Iterable[Span]) -> list[Span]:
        """Return the spans that are part of a text and don't overlap, in order."""
        inside = [placed for span in spans if (placed := self._placed(text, span))]
        chosen: list[Span] = []
        for span in sorted(set(inside), key=lambda s: (s.start, -s.end, s.label)):
            if chosen and span.start < chosen[-1].end:
                self.counts["overlapping"] += 1
            else:
                chosen.append(span)
        return chosen

    def _placed(self, text: str, span: Span) -> Span | None:
        """Return a span without spaces at its ends, or None where it isn't part of the text."""
        if span.text is not None and text[max(span.start, 0) : max(span.end, 0)].split() != span.text.split():
            if text[max(span.start, 0) : max(span.end + 1, 0)] == span.text:
                self.counts["inclusive"] += 1
                return self._placed(text, replace(span, end=span.end + 1))
            if span.hint:
                return self._placed(text, replace(span, text=None))
            start, end = (character_at(text, unit) for unit in (span.start, span.end))
            if text[start:end].split() != span.text.split():
                self.counts["elsewhere"] += 1
                return None
            self.counts["moved"] += 1
            span = replace(span, start=start, end=end)
        part = text[max(span.start, 0) : max(span.end, 0)]
        if span.start < 0 or span.end > len(text) or not part.strip() or not span.label:
            self.counts["outside"] += 1
            return None
        start = span.start + len(part) - len(part.lstrip())
        return Span(start, start + len(part.strip()), span.label)

    def _cut(self, words: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[tuple[int, int]]:
        """Return words, each cut where a span begins or ends inside of it."""
        bounds = sorted({bound for span in spans for bound in (span.start, span.end)})
        places: list[tuple[int, int]] = []
        for start, end in words:
            inner = [bound for bound in bounds if start < bound < end]
            self.counts["cut"] += bool(inner)
            places += zip([start, *inner], [*inner, end], strict=True)
        return places

    def finish(self, source: Source, what: str) -> None:
        """Append the notes to those of the source: how many spans of `what` were read, and what is different."""
        spans = "1 span" if self.spans == 1 else f"{self.spans:,} spans"
        texts = "1 text" if self.texts == 1 else f"{self.texts:,} texts"
        source.notes.append(f"{what}: {spans} of characters in {texts} read as words (tokens) and tags (ner_tags)")
        source.notes += [f"{words}: {self.counts[kind]:,}" for kind, words in PROBLEMS.items() if self.counts[kind]]


def cut_words(text: str) -> list[tuple[int, int]]:
    """Return start and end of each word: cut at spaces and punctuation, and between letters of unspaced scripts.

    >>> [("a-b, c"[start:end]) for start, end in cut_words("a-b, c")]
    ['a', '-', 'b', ',', 'c']
    """
    return [match.span() for match in regex.finditer(_WORD, text)]


def character_at(text: str, unit: int) -> int:
    """Return the character at an offset in units of UTF-16, in which JavaScript and Java count."""
    return len(text.encode("utf-16-le", "surrogatepass")[: 2 * max(unit, 0)].decode("utf-16-le", "ignore"))
