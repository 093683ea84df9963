"""Metrics of entities equal seqeval's."""

from __future__ import annotations

import random
import warnings

import pytest
import seqeval.metrics.sequence_labeling

from adapterkit import metrics
from adapterkit.errors import DataError
from tests.helpers.metric_rows import LETTERS, close, tag_soup


@pytest.mark.parametrize("letters", LETTERS.values(), ids=LETTERS)
@pytest.mark.parametrize("seed", range(30))
def test_entities_are_measured_as_by_seqeval(letters: str, seed: int) -> None:
    rng = random.Random(seed)
    truth = tag_soup(rng, letters, rng.randint(1, 25))
    guess = [[tag if rng.random() < 0.7 else other for tag in row] for row in truth for other in (rng.choice(row),)]
    for row in truth:
        wanted = seqeval.metrics.sequence_labeling.get_entities(row)
        assert metrics.entity_spans(row) == [(type_, start, last + 1) for type_, start, last in wanted]
    found = metrics.entities(truth, guess).values
    table = metrics.entity_table(truth, guess)
    with warnings.catch_warnings(action="ignore"):
        for name in ("precision", "recall", "f1", "accuracy"):
            reference = getattr(seqeval.metrics, f"{name}_score")
            assert close(found[name], reference(truth, guess)), name
        columns = seqeval.metrics.sequence_labeling.precision_recall_fscore_support(truth, guess, average=None)
    assert [list(row.values())[1:] for row in table] == [pytest.approx(list(row)) for row in zip(*columns, strict=True)]
    assert [row["type"] for row in table] == sorted(
        {type_ for row in (*truth, *guess) for type_, _, _ in metrics.entity_spans(row)}
    )


def test_bilou_is_read_as_bioes() -> None:
    assert metrics.entity_spans(["U-PER", "B-LOC", "L-LOC", "L-LOC"]) == [("PER", 0, 1), ("LOC", 1, 3), ("LOC", 3, 4)]


@pytest.mark.parametrize("tag", ["NOUN", "ORG", "PER-B", "B_PER", "", "b-PER"])
def test_what_is_no_tag_of_an_entity_is_an_error(tag: str) -> None:
    with pytest.raises(DataError, match="is no tag of an entity; expected O, or B, I"):
        metrics.entity_spans(["O", tag])
