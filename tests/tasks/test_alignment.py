"""What a task aligns with words and characters, where a text was cut into windows or cut off."""

from __future__ import annotations

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


def tokenized(answer: str, begin: int) -> dict[str, Any]:
    rows = {"question": ["who ?"], "context": [CONTEXT], "answers": [{"text": [answer], "answer_start": [begin]}]}
    features: dict[str, Any] = questions().tokenize(rows, tiny.tokenizer(), labelled=True)
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


@pytest.mark.parametrize("labels", [("B-X", "I-X", "O"), ("I-X", "O", "B-X"), ("O", "B-X", "I-X")])
def test_a_word_that_was_cut_off_is_outside_wherever_that_label_is(labels: tuple[str, ...]) -> None:
    task = task_class("token-classification")(
        text_column_name=("tokens",), label_column_name="tags", labels=labels, max_seq_length=8
    )
    features = task.tokenize({"tokens": [WORDS]}, tiny.tokenizer(), labelled=False)
    cut = [position < 0 for position in features["first"][0]]
    assert True in cut
    assert False in cut
    logits = np.zeros((len(features["input_ids"][0]), len(labels)))
    logits[:, labels.index("B-X")] = 5.0  # each word that was read is one
    (predictions,) = task.predictions([logits], Columns({"first": features["first"]}), None)
    tags = [labels[i] for i in predictions.argmax(-1)]
    assert tags == ["O" if gone else "B-X" for gone in cut]
