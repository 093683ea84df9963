"""Learn from the words of training rows by which rule a text is cut into such words."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from .word_split import APOSTROPHE, LETTER, UNSPACED, Rule, split

Sentence = tuple[Sequence[str], str | None]
"""The words of a row, and its text; None where the row has no text, for the words joined by spaces."""

NEARLY_ALL = 0.98
"""The share of sentences from which a rule counts as the one by which the words were cut."""
MOST_SENTENCES, MOST_WORDS = 2_000, 50
"""The most sentences that are compared, and the most words of one kind that a rule names."""
RARELY_JOINED = 0.2
"""The share of its occurrences up to which a character inside words, as in e-mail, is no part of other words."""

_SUFFIX = rf"(?i:{APOSTROPHE}\p{{L}}{{1,3}}|n{APOSTROPHE}t)"
_PREFIX = rf"\p{{L}}{{1,6}}{APOSTROPHE}"
_INITIALS, _INITIAL = r"(?:\p{L}\.){2,}", r"\p{Lu}\."
_URL = r"(?:https?://|www\.).+"
_RUN = rf"((?!{LETTER})\X)\1+"
_SENTENCE_SIGNS = ".,!?;:"
_USUALLY_JOINED = {"inside": "-'\u2019", "digits": ",.", "leading": "", "trailing": ""}
"""The signs that are part of a word unless the training rows have them as words."""
_SIGN = rf"(?!{LETTER})[^\s]"
_INSIDE = rf"(?<={LETTER}){_SIGN}(?={LETTER})"
_LEADING, _TRAILING = rf"{_SIGN}(?={LETTER})", rf"(?<={LETTER}){_SIGN}$"


@dataclass(frozen=True)
class Learned:
    """A rule, and the number of sentences that it cuts into exactly their words."""

    rule: Rule
    reproduced: int
    sentences: int

    @property
    def share(self) -> float:
        """The share of sentences that the rule reproduces."""
        return self.reproduced / max(self.sentences, 1)


def learn(sentences: Iterable[Sentence]) -> Learned:
    """Return the rule that reproduces the words of nearly all sentences: of several, the one that cuts most.

    Words joined by spaces can always be cut at spaces. Without texts, `whitespace` is therefore chosen only where
    commas and the like are parts of words, or where nothing else reproduces half of the sentences.
    """
    sample = _sample(sentences)
    counts = _Counts.of([words for words, _ in sample])
    unspaced = counts.unspaced()
    plain = ("punctuation", *unspaced, *counts.settings())
    by_signs = (*plain, *(f"word={word}" for word in counts.odd_words(plain)))
    whitespace = ("whitespace", *unspaced)
    if counts.is_attached() and (at_spaces := reproduced(whitespace, sample)).share >= NEARLY_ALL:
        return at_spaces
    results = [reproduced(rule, sample) for rule in (by_signs, whitespace)]
    if counts.are_characters():
        results = [reproduced(("characters",), sample), *results]
    if results[0].share >= NEARLY_ALL or any(text is not None for _, text in sample):
        return max(results, key=lambda result: result.share)
    return results[0] if results[0].share >= 0.5 else results[-1]


def reproduced(rule: Rule, sentences: Iterable[Sentence]) -> Learned:
    """Return how many sentences, of a sample where there are many, a rule cuts into their words."""
    sample, right = _sample(sentences), 0
    for words, text in sample:
        text = " ".join(words) if text is None else text
        right += [text[start:end] for start, end in split(text, rule)] == words
    return Learned(rule, right, len(sample))


def _sample(sentences: Iterable[Sentence]) -> list[tuple[list[str], str | None]]:
    filled = [(list(map(str, words)), text) for words, text in sentences if words]
    return filled[:: max(1, -(-len(filled) // MOST_SENTENCES))]


@dataclass
class _Counts:
    """Occurrences of signs, which are no letters, digits or marks: in words, and as words between others."""

    words: Counter[str]
    pairs: Counter[tuple[str, str]]
    joined: dict[str, Counter[str]]
    """By setting, such as `inside`: how often a sign is part of a word there."""
    alone: dict[str, Counter[str]]
    """By setting: how often it is a word of its own there."""

    @classmethod
    def of(cls, sentences: Sequence[list[str]]) -> _Counts:
        """Count the words of sentences."""
        joined: dict[str, Counter[str]] = {name: Counter() for name in _USUALLY_JOINED}
        alone: dict[str, Counter[str]] = {name: Counter() for name in _USUALLY_JOINED}
        counts = cls(Counter(), Counter(), joined, alone)
        for words in sentences:
            counts.words.update(words)
            counts.pairs.update(itertools.pairwise(words))
            for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
                if regex.fullmatch(_SIGN, word):
                    counts._count_alone(before[-1:], word, after[:1])
        for word, count in counts.words.items():
            if not any(regex.fullmatch(kind, word) for kind in (_INITIALS, _INITIAL, _URL, _SUFFIX, _PREFIX)):
                counts._count_joined(word, count)
        return counts

    def _count_alone(self, before: str, sign: str, after: str) -> None:
        left, right = (bool(regex.match(LETTER, character)) for character in (before, after))
        if left and right:
            self.alone["digits" if before.isdigit() and after.isdigit() else "inside"][sign] += 1
        if right:
            self.alone["leading"][sign] += 1
        if left:
            self.alone["trailing"][sign] += 1

    def _count_joined(self, word: str, count: int) -> None:
        for match in regex.finditer(_INSIDE, word):
            digits = word[match.start() - 1].isdigit() and word[match.end()].isdigit()
            self.joined["digits" if digits else "inside"][match[0]] += count
        for name, pattern in (("leading", regex.match(_LEADING, word)), ("trailing", regex.search(_TRAILING, word))):
            if pattern:
                self.joined[name][pattern[0]] += count

    def settings(self) -> list[str]:
        """Return the settings of `punctuation`."""
        settings = []
        for name, joined in self.joined.items():
            least = RARELY_JOINED if name in ("inside", "digits") else 0.5
            signs = [sign for sign, n in joined.items() if n > least * (n + self.alone[name][sign])]
            if name == "trailing":  # a period is part of some words, which odd_words returns
                signs = [sign for sign in signs if sign not in _SENTENCE_SIGNS]
            signs += [sign for sign in _USUALLY_JOINED[name] if not joined[sign] + self.alone[name][sign]]
            settings += [f"{name}={sign}" for sign in sorted(signs)[:MOST_WORDS]]
        return [*settings, *self._parts_of_words(), *self._flags()]

    def _parts_of_words(self) -> Iterable[str]:
        """Yield the begins and ends of words that are words of their own, such as d' and 's, in lower case."""
        ends, begins = Counter[str](), Counter[str]()
        for (first, second), count in self.pairs.items():
            if regex.fullmatch(_SUFFIX, second) and regex.search(f"{LETTER}$", first):
                ends[second.lower().replace("\u2019", "'")] += count
            if regex.fullmatch(_PREFIX, first) and regex.match(LETTER, second):
                begins[first.lower().replace("\u2019", "'")] += count
        for name, counter in (("suffix", ends), ("prefix", begins)):
            yield from (f"{name}={text}" for text, _ in counter.most_common(MOST_WORDS))

    def _flags(self) -> Iterable[str]:
        """Yield the flags of `punctuation`."""
        if any(regex.fullmatch(_INITIALS, word) for word in self.words):
            yield "initials"
        if self._counted(_INITIAL) > sum(
            n for (a, b), n in self.pairs.items() if b == "." and len(a) == 1 and a.isupper()
        ):
            yield "initial"
        if self._counted(_RUN) > sum(n for (a, b), n in self.pairs.items() if a == b and regex.fullmatch(_RUN, a + b)):
            yield "runs"
        if self._counted(_URL):
            yield "urls"

    def _counted(self, kind: str) -> int:
        return sum(count for word, count in self.words.items() if regex.fullmatch(kind, word))

    def unspaced(self) -> list[str]:
        """Return how scripts without spaces between words are cut: each character, or as words of a mean length."""
        words = [(word, count) for word, count in self.words.items() if regex.search(UNSPACED, word)]
        total = sum(count for _, count in words)
        characters = sum(len(regex.findall(rf"(?={UNSPACED})\X", word)) * count for word, count in words)
        return ["each"] if characters <= (2 - NEARLY_ALL) * total else [f"segmented={characters / total:.2f}"]

    def are_characters(self) -> bool:
        """Return whether letters and digits of every script are words of their own."""
        single = rf"(?={LETTER})(?!{UNSPACED})\X"
        longer = sum(count for word, count in self.words.items() if regex.match(rf"{LETTER}\X", word))
        neighbours = any(regex.fullmatch(single, a) and regex.fullmatch(single, b) for a, b in self.pairs)
        return neighbours and longer <= (1 - NEARLY_ALL) * self.words.total()

    def is_attached(self) -> bool:
        """Return whether commas and the like are parts of the words before them: words were cut at spaces alone."""
        joined, alone = self.joined["trailing"], self.alone["trailing"]
        commas = [sum(counter[sign] for sign in _SENTENCE_SIGNS[1:]) for counter in (joined, alone)]
        if any(commas):
            return commas[0] > commas[1]
        ended = [word for word in self.words if regex.fullmatch(rf".*{LETTER}\.", word) and len(word) > 4]
        return len(ended) > 4 and joined["."] > alone["."]

    def odd_words(self, rule: Rule) -> list[str]:
        """Return the words with signs that a rule cuts, but that are more often one word than several: Mr. or :-)."""
        odd: list[str] = []
        for word, count in self.words.most_common():
            if count < 2 or len(odd) == MOST_WORDS:
                break
            if len(word) > 50 or regex.search(r"\s", word) or not regex.search(_SIGN, word):
                continue
            parts = [word[start:end] for start, end in split(word, rule)]
            if (
                len(parts) > 1
                and "".join(parts) == word
                and count > min(map(self.pairs.__getitem__, itertools.pairwise(parts)))
            ):
                odd.append(word)
        return odd
