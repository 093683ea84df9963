"""What a task aligns with words and characters, where a text was cut into windows or cut off."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from adapterkit.tasks import task_class
from adapterkit.tasks.columns import Columns
from adapterkit.testing import tiny

CONTEXT = "the old mill was built by the monks and it burnt down in the dry summer of that year"
WORDS = CONTEXT.split()


def questions() -> Any:
    return task_class("question-answering")(
        question_column_name="question",
        context_column_name="context",
        answer_column_name="answers",
        max_seq_length=24,
        doc_stride=6,
    )


@functools.cache
def tiny_tokenizer() -> Any:
    return tiny.tokenizer()


def tokenized(answer: str, begin: int) -> dict[str, Any]:
    rows = {"question": ["who ?"], "context": [CONTEXT], "answers": [{"text": [answer], "answer_start": [begin]}]}
    features: dict[str, Any] = questions().tokenize(rows, tiny_tokenizer(), labelled=True)
    return features


def test_an_answer_is_the_label_of_the_windows_that_hold_all_of_it_and_of_no_other() -> None:
    counts = set()
    for first in range(len(WORDS)):
        for last in range(first, min(first + 6, len(WORDS))):
            begin, answer = len(" ".join([*WORDS[:first], ""])), " ".join(WORDS[first : last + 1])
            held = 0
            features = tokenized(answer, begin)
            labels = zip(features["start_positions"], features["end_positions"], strict=True)
            for offsets, (a, b) in zip(features["offsets"], labels, strict=True):
                window = [place for place in offsets if place[0] >= 0]
                if window[0][0] <= begin and begin + len(answer) <= window[-1][1]:
                    held += 1
                    assert CONTEXT[offsets[a][0] : offsets[b][1]].strip() == answer
                else:
                    assert (a, b) == (0, 0)
            counts.add(held)
    assert counts == {0, 1, 2}


def test_an_answer_that_begins_in_a_window_and_ends_beyond_it_is_not_in_it() -> None:
    window = [place for place in tokenized("the", 0)["offsets"][0] if place[0] >= 0]
    begin, end = window[-1][0], window[-1][1] + 12
    features = tokenized(CONTEXT[begin:end], begin)
    assert (features["start_positions"][0], features["end_positions"][0]) == (0, 0)
    assert any(features["start_positions"])  # a later window holds it


def tagger(labels: tuple[str, ...] = ("O", "B-X", "I-X"), max_seq_length: int = 8) -> Any:
    return task_class("token-classification")(
        text_column_name=("tokens",), label_column_name="tags", labels=labels, max_seq_length=max_seq_length
    )


def windows(rows: dict[str, Any], length: int, *, labelled: bool = False) -> dict[str, Any]:
    features: dict[str, Any] = tagger(max_seq_length=length).tokenize(rows, tiny_tokenizer(), labelled=labelled)
    return features


@pytest.mark.parametrize("length", [8, 9, 12, 16, 30])
def test_each_word_has_one_window_which_holds_its_first_token(length: int) -> None:
    rows = {"tokens": [WORDS, WORDS[:3], []]}
    features, unlimited = windows(rows, length), windows(rows, 200)
    assert features["row"].count(0) > 1
    ids: list[list[int]] = [[], [], []]
    for tokens, row, word, first in zip(*(features[n] for n in ("input_ids", "row", "word", "first")), strict=True):
        assert len(tokens) <= length
        assert word == len(ids[row])
        ids[row] += [tokens[position] for position in first]
    for row, expected in enumerate(unlimited["first"]):
        assert ids[row] == [unlimited["input_ids"][row][position] for position in expected]


def test_a_word_belongs_to_the_window_in_which_it_has_most_context() -> None:
    features = windows({"tokens": [WORDS]}, 16)
    middles = [
        min(position, len(ids) - 1 - position)
        for ids, first in zip(features["input_ids"][1:-1], features["first"][1:-1], strict=True)
        for position in first
    ]
    assert min(middles) > 1  # neither next to the first nor to the last token of a window inside the text


def test_a_word_s_label_is_counted_once_however_many_windows_hold_it() -> None:
    tags = ["B-X" if i % 3 == 0 else "O" for i in range(len(WORDS))]
    features = windows({"tokens": [WORDS], "tags": [tags]}, 12, labelled=True)
    labels = [label for row in features["labels"] for label in row if label >= 0]
    assert labels == [1 if tag == "B-X" else 0 for tag in tags]


def test_a_word_longer_than_a_window_has_its_first_token_s_window_alone() -> None:
    features = windows({"tokens": [["of", "unbelievably" * 6, "mill"]]}, 12)
    assert [len(first) for first in features["first"]] == [2, 1]
    assert features["word"] == [0, 2]


@pytest.mark.parametrize("labels", [("B-X", "I-X", "O"), ("I-X", "O", "B-X"), ("O", "B-X", "I-X")])
def test_a_word_without_a_token_is_outside_wherever_that_label_is(labels: tuple[str, ...]) -> None:
    task = tagger(labels)
    features = Columns({"row": [0, 0], "word": [2, 0], "first": [[1, -1], [2, 3]]})
    logits = np.zeros((5, len(labels)))
    logits[:, labels.index("B-X")] = 5.0  # each word that was read is one
    (predictions,) = task.predictions([logits, logits], features, None)
    assert [labels[i] for i in predictions.argmax(-1)] == ["B-X", "B-X", "B-X", "O"]
