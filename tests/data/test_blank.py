"""A text of invisible characters alone is an empty text in every reader, and other texts keep these characters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapterkit.data.blank import is_blank, without_invisible
from adapterkit.data.input_rows import from_texts
from adapterkit.data.readers import rows
from adapterkit.data.splits import read
from adapterkit.data.streams import from_file
from adapterkit.errors import DataError
from adapterkit.settings import DataOptions
from adapterkit.tasks import task_class
from adapterkit.tasks.columns import columns_of
from tests.helpers.files import write

BLANK = [
    "",
    " \t\r\n",
    "\u00a0\u3000",
    "\u200b",
    "\u200c\u200d",
    "\ufeff",
    "\u2060",
    "\u00ad",
    "\ufe0f",
    "\u3164",
    "\x00",
]
SEEN = ["a", "\u200ba", "👩\u200d👩", "❤\ufe0f", "1", "…", "\u0301", "क्", "ﷺ", "\u2800", "\u0600"]


@pytest.mark.parametrize("text", BLANK)
def test_what_shows_nothing_is_blank(text: str) -> None:
    assert is_blank(text)
    assert is_blank(text + " \u200b")


@pytest.mark.parametrize("text", SEEN)
def test_what_shows_something_is_not(text: str) -> None:
    assert not is_blank(text)
    assert not is_blank(f"\u200b {text}")


def test_invisible_characters_are_removed_from_a_key() -> None:
    assert without_invisible("po\u200bs\ufe0f") == "pos"


def test_a_line_of_a_text_file_is_skipped_in_training_and_refused_in_prediction(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\n\u200b\ufe0f\n \ntw\u200bo\n")
    assert [row["text"] for _, row in rows(path)] == ["one", "tw\u200bo"]
    with pytest.raises(DataError, match=r"a\.txt:2: the line is empty"):
        list(from_file(path))


TASKS = {
    "text-classification": {"text": "?", "label": "x"},
    "token-classification": {"tokens": ["?"], "ner_tags": ["O"]},
    "question-answering": {"question": "?", "context": "c", "answers": {"text": ["c"], "answer_start": [0]}},
    "multiple-choice": {"context": "?", "endings": ["a", "b"], "label": 0},
    "text2text-generation": {"source": "?", "target": "x"},
    "text-generation": {"prompt": "?", "completion": "x"},
    "fill-mask": {"text": "?"},
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_refuses_it_with_its_line_as_it_refuses_spaces(name: str, tmp_path: Path) -> None:
    errors = []
    for shown in (" ", "\u200b", "\ufeff\ufe0f"):
        content = [json.dumps(TASKS[name]).replace("?", text) for text in ("x", shown)]
        data = read(write(tmp_path / "a.jsonl", "\n".join(content)), DataOptions())
        task = task_class(name)().with_columns(data.column_names)
        with pytest.raises(DataError, match=r"a\.jsonl:2: .* is empty") as caught:
            task.check(data, "a.jsonl")
        errors.append(str(caught.value))
        row = {column: data[column][1] for column in task.input_columns if column in data.column_names}
        with pytest.raises(DataError, match=r"row 1: .* is empty"):
            columns_of(task, [row])
    assert len(set(errors)) == 1


def test_a_word_of_a_sentence_may_be_invisible(tmp_path: Path) -> None:  # as in WNUT 17
    path = write(tmp_path / "a.conll", "Ann B-PER\n\ufe0f O\n\n")
    assert [row["tokens"] for _, row in rows(path)] == [["Ann", "\ufe0f"]]
    data = read(path)
    task_class("token-classification")().with_columns(data.column_names).check(data, path)
    assert len(list(from_texts(["a"]))) == 1
