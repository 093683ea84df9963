"""Entities in tagged sentences: their spans, and metrics of predicted ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .bootstrap import Metrics, check_pairs, measure, ratio
from .labels import rates

if TYPE_CHECKING:
    import numpy as np

Span = tuple[str, int, int]
POSITIONS = {"O": "O", "B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I", "W": "S"}
"""The letters of BIOES, and those that BILOU, BMES and BMEWO have for them."""


def entity_spans(tags: Sequence[str]) -> list[Span]:
    """Return type, start and exclusive end of each entity in tags of IOB1, IOB2, BIOES, BILOU or BMES.

    Tags that contradict each other are read as conlleval and seqeval's default mode read them: where the type changes
    or the last entity has ended, a new one starts. A tag without a type has the type `_`.

    >>> entity_spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    spans: list[Span] = []
    before, type_before = "O", ""
    for i, tag in enumerate(tags):
        position, type_ = _parts(tag)
        if position in "BS" or (position != "O" and (before in "OES" or type_ != type_before)):
            spans.append((type_, i, i + 1))
        elif position != "O":
            spans[-1] = (type_, spans[-1][1], i + 1)
        before, type_before = position, type_
    return spans


def entities(truth: Sequence[Sequence[str]], guess: Sequence[Sequence[str]]) -> Metrics:
    """Measure tagged sentences: precision, recall and f1 of whole entities, and accuracy of tags.

    An entity is right if type, start and end are. A row, and what the bootstrap draws, is a sentence.
    """
    import numpy as np

    counts = np.array([_counts(*pair) for pair in _sentences(truth, guess)], dtype=float).reshape(-1, 5)

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        right, guessed, true, right_tags, tags = (weights @ counts).T
        return {
            "precision": ratio(right, guessed),
            "recall": ratio(right, true),
            "f1": ratio(2 * right, guessed + true),
            "accuracy": ratio(right_tags, tags),
        }

    return measure(len(counts), scores)


def entity_table(truth: Sequence[Sequence[str]], guess: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return type, precision, recall, f1 and support, the number of true entities, for each type, sorted."""
    right: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for true_tags, guessed_tags in _sentences(truth, guess):
        expected, predicted = set(entity_spans(true_tags)), set(entity_spans(guessed_tags))
        for counter, spans in ((right, expected & predicted), (guessed, predicted), (true, expected)):
            counter.update(type_ for type_, _, _ in spans)
    types = sorted({*true, *guessed})
    return [{"type": type_, **rates(right[type_], guessed[type_], true[type_])} for type_ in types]


def _counts(true: Sequence[str], guess: Sequence[str]) -> tuple[int, int, int, int, int]:
    """Return the entities right, guessed and true, and the tags right and in all, of a sentence."""
    expected, predicted = set(entity_spans(true)), set(entity_spans(guess))
    same = sum(a == b for a, b in zip(true, guess, strict=True))
    return len(expected & predicted), len(predicted), len(expected), same, len(true)


def _sentences(
    truth: Sequence[Sequence[str]], guess: Sequence[Sequence[str]]
) -> list[tuple[Sequence[str], Sequence[str]]]:
    check_pairs(truth, guess)
    for number, (true_tags, guessed_tags) in enumerate(zip(truth, guess, strict=True), start=1):
        if len(true_tags) != len(guessed_tags):
            raise DataError(f"row {number}: {len(guessed_tags)} predicted tags for {len(true_tags)}")
    return list(zip(truth, guess, strict=True))


def _parts(tag: str) -> tuple[str, str]:
    """Return O, B, I, E or S, and the type, of a tag such as B-PER."""
    letter, _, type_ = tag.partition("-")
    if letter not in POSITIONS:
        raise DataError(f"'{tag}' is no tag of an entity; expected O, or B, I, E, S, L or U before a type, as in B-PER")
    return POSITIONS[letter], type_ or "_"
