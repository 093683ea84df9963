"""Composed characters equal decomposed ones: where an answer is in its context, and in metrics of texts."""

from __future__ import annotations

import unicodedata

import pytest

from adapterkit.data.answer_places import locate
from adapterkit.metrics import squad, text

CONTEXT = "In Oslo, the Caf\u00e9 Noir is near S\u00e3o Jo\u00e3o."
FORMS = ("NFC", "NFD")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("answer", ["Caf\u00e9 Noir", "Caf\u00e9", "Jo\u00e3o"])
def test_an_answer_in_the_other_form_is_located_as_the_context_has_it(form: str, answer: str) -> None:
    context = unicodedata.normalize(form, CONTEXT)
    other = unicodedata.normalize(FORMS[form == "NFC"], answer)
    place = locate(other, None, context)
    assert place is not None
    assert place.how == "spaced"
    assert context.startswith(place.text, place.start)
    assert unicodedata.normalize("NFC", place.text) == unicodedata.normalize("NFC", answer)


def test_an_accent_is_part_of_a_letter() -> None:
    assert locate("Cafe\u0300", None, CONTEXT) is None


def test_metrics_of_identical_texts_in_two_forms_are_100() -> None:
    pairs = [unicodedata.normalize(form, "Caf\u00e9 S\u00e3o Jo\u00e3o da Barra") for form in FORMS]
    assert {*squad([pairs[0]], [[pairs[1]]]).values.values()} == {100.0}
    assert {round(value, 6) for value in text([pairs[0]], [pairs[1]]).values.values()} == {100.0}
