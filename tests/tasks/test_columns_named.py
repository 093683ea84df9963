"""Columns that mark rows, and preferences, are named with what to do about them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import read
from adapterkit.errors import DataError, TaskError
from adapterkit.tasks import TextClassification, infer_task, task_class
from adapterkit.tasks.inference import flag_columns, suggested
from adapterkit.tasks.unread_columns import unread_remark

ROW = {"text": "a soup", "label": "good"}
CHAT = [{"role": "user", "content": "Cook"}, {"role": "assistant", "content": "soup"}]


def remark_on(path: Path, name: str, values: list[Any]) -> list[str]:
    path.write_text("".join(json.dumps({**ROW, name: value}) + "\n" for value in values))
    data = read(str(path))
    return unread_remark(TextClassification().with_columns(data.column_names), data, "a")


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (
            "split",
            ["train", "test", "train"],
            "a: column 'split' holds test, train, and all rows are read as one split",
        ),
        ("set", ["train", "dev", None], "a: column 'set' holds dev, train, and all rows are read as one split"),
        ("status", ["approved", "rejected"], "a: column 'status' holds approved, rejected, and all rows are read"),
        ("review", ["accept", "ignore", "x"], "a: column 'review' holds accept, ignore, x, and all rows are read"),
        ("status", ["new", "rejected"], "a: column 'status' holds new, rejected, and all rows are read"),
    ],
)
def test_columns_that_mark_rows_are_named(name: str, values: list[Any], expected: str, tmp_path: Path) -> None:
    assert any(text.startswith(expected) for text in remark_on(tmp_path / "a.jsonl", name, values))


@pytest.mark.parametrize(
    ("name", "values"), [("split", ["train", "train"]), ("status", ["new", "old"]), ("town", ["test", "oslo"])]
)
def test_other_columns_mark_no_rows(name: str, values: list[Any], tmp_path: Path) -> None:
    assert remark_on(tmp_path / "a.jsonl", name, values) == []


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (
            {"prompt": "Cook", "chosen": "soup", "rejected": "stone"},
            ["--prompt-column", "prompt", "--completion-column"],
        ),
        ({"chosen": CHAT, "rejected": CHAT}, ["--text-column"]),
    ],
)
def test_of_preferences_the_chosen_answers_are_suggested(row: dict[str, Any], columns: list[str]) -> None:
    with pytest.raises(TaskError) as caught:
        infer_task(row)
    assert list(caught.value.suggestion) == ["--task", "text-generation", *columns, "chosen"]


def test_a_prompt_about_a_context_with_a_response_is_generated() -> None:
    assert infer_task({"prompt": "Who?", "context": "Ann sings.", "response": "Ann"}) == "text-generation"
    assert infer_task({"question": "Who?", "context": "Ann sings.", "answer": "Ann"}) == "question-answering"


def test_ids_of_pairs_are_no_flags() -> None:
    assert flag_columns({"qid1": "0", "qid2": "1", "id1": 0, "toxic": 0, "said": 1}) == ["toxic", "said"]


@pytest.mark.parametrize(("header", "mark"), [("text^label", "^"), ("text::label", ":"), ("text~label", "~")])
def test_a_header_of_one_cell_with_a_separator_is_named(header: str, mark: str) -> None:
    with pytest.raises(DataError, match=f"separated by '{re.escape(mark)}'") as caught:
        TextClassification().with_columns([header])
    assert caught.value.suggestion == ("--separator", mark)


@pytest.mark.parametrize("header", ["text", "What did you like?", "story (short)", "a-b"])
def test_a_header_of_one_name_has_no_separator(header: str) -> None:
    with pytest.raises(DataError) as caught:
        TextClassification().with_columns([header])
    assert "--separator" not in str(caught.value)


def test_names_of_columns_have_no_invisible_characters(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"\ufefftext",\u200blabel\na,b\n')
    assert list(read(str(tmp_path / "a.csv")).column_names)[:2] == ["text", "label"]


@pytest.mark.parametrize(
    "last",
    [
        {"created": "2024-01-03"},
        {"day": "3.1.2024 10:00"},
        {"ticket id": "77"},
        {"url": "https://a.b/c"},
        {"split": "dev"},
    ],
)
def test_dates_ids_addresses_and_splits_are_not_suggested_as_labels(last: dict[str, str]) -> None:
    row = {"body": "a soup that was cold", "queue": "kitchen", **last}
    assert suggested(row) == ("--text-column", "body", "--label-column", "queue")


def test_of_many_rows_a_column_that_repeats_is_suggested_as_the_label() -> None:
    teams = ["Bug", "Log-in", "Shipping", "Billing / Refunds"]
    rows = [
        {
            "Reference": f"T-{i}",
            "Source": "the form on the web site, in English",
            "Msg": "",
            "prio": "",
            "Team": teams[i % 4],
        }
        for i in range(40)
    ]
    for i, row in enumerate(rows[1:]):
        row["Msg"], row["prio"] = f"the parcel {i} was wet", ["low", "high", ""][i % 3]
    rows[7]["Team"] = ""  # filled in fewer rows than the reference
    assert suggested(rows[0], rows) == ("--text-column", "Msg", "--label-column", "Team")
    named = [{"Ticket #": "T-1", "Msg": "the parcel was wet", "Stars": i % 2} for i in range(3)]
    assert suggested(named[0], named) == ("--text-column", "Msg", "--label-column", "Stars")


def test_a_column_with_the_usual_name_of_a_label_is_suggested_first() -> None:
    row = {"body": "a soup that was cold", "category": "kitchen", "place": "Oslo"}
    assert suggested(row) == ("--text-column", "body", "--label-column", "category")


def test_a_data_set_is_no_task() -> None:
    with pytest.raises(TaskError, match=r"a data set is chosen with --dataset demo:ner$"):
        task_class("demo:ner")


def test_regression_is_an_option_of_text_classification() -> None:
    with pytest.raises(TaskError, match="regression is --task text-classification --problem-type regression"):
        task_class("regression")


@pytest.mark.parametrize(
    ("columns", "read_columns"),
    [
        (["uid", "context", "hypothesis", "label"], "context + hypothesis -> label"),  # ANLI
        (["claim", "evidence", "label"], "claim + evidence -> label"),  # FEVER
        (
            ["pair_ID", "sentence_A", "sentence_B", "entailment_judgment"],
            "sentence_A + sentence_B -> entailment_judgment",
        ),
        (["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], "#1 String + #2 String -> Quality"),  # MRPC
        (["query", "document", "label"], "query + document -> label"),
        (["text", "target", "sentiment"], "text -> sentiment"),  # the target is what the sentiment is about
    ],
)
def test_both_texts_of_a_pair_are_read(columns: list[str], read_columns: str) -> None:
    assert TextClassification().with_columns(columns).describe_columns() == read_columns


def test_an_aspect_that_is_not_read_is_named(tmp_path: Path) -> None:
    [remark] = remark_on(tmp_path / "a.jsonl", "aspect", ["food", "staff"])
    assert remark == "a: not read: column 'aspect' (2 different values)"


def test_an_id_is_no_text_to_learn() -> None:
    assert suggested({"id": "a-long-id-of-a-row", "items": [{"from": "human"}]}) == ()


@pytest.mark.parametrize(
    ("label", "task"),
    [(None, "token-classification"), ("slots", "token-classification"), ("intent", "text-classification")],
)
def test_of_words_with_tags_and_a_label_the_chosen_column_decides(label: str | None, task: str) -> None:
    row = {"intent": "PlayMusic", "text": "play a song", "tokens": ["play", "a", "song"], "slots": ["O", "O", "O"]}
    assert infer_task(row, {"label_column_name": label}) == task
