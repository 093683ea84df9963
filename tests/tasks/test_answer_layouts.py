"""Answers of extractive questions in the forms that data sets and annotation tools write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import adapterkit as ak
from adapterkit import Base, Registry
from adapterkit.data import read
from adapterkit.data.answer_places import locate
from adapterkit.data.readers import rows
from adapterkit.errors import DataError
from adapterkit.tasks import QuestionAnswering
from adapterkit.tasks.inputs import inputs_of

Adapt = Callable[..., Result]
CONTEXT = "Ann moved to Oslo."
QUESTION = {"question": "Who?", "context": CONTEXT}


def task_of(path: Path) -> tuple[QuestionAnswering, Any]:
    data = read(str(path))
    return QuestionAnswering().with_columns(data.column_names), data


def learned(path: Path) -> list[tuple[list[str], list[int]]]:
    """Return the texts and places that training on a file learns, after its check."""
    from adapterkit.tasks.question_answering import _spans

    task, data = task_of(path)
    task.check(data, path.name)
    return [_spans(*row) for row in task._answer_rows(data)]


def remarks(path: Path) -> list[str]:
    task, data = task_of(path)
    return task.remarks(data, path.name, None)


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


FORMS: dict[str, dict[str, Any]] = {
    "SQuAD's object of lists": {"answers": {"text": ["Ann", "Ann moved"], "answer_start": [0, 0]}},
    "a list of objects": {"answers": [{"text": "Ann", "answer_start": 0}, {"text": "Ann moved", "answer_start": 0}]},
    "a list of objects without places": {"answers": [{"text": "Ann"}, {"text": "Ann moved"}]},
    "a list of texts": {"answers": ["Ann", "Ann moved"]},
    "a list of texts and one of places": {"answers": ["Ann", "Ann moved"], "answer_start": [0, 0]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_answers_is_read_alike(form: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**QUESTION, **FORMS[form]})
    assert learned(path) == [(["Ann", "Ann moved"], [0, 0])]
    assert remarks(path) == []


@pytest.mark.parametrize(
    "answers",
    [
        {"text": "Oslo", "answer_start": 13},
        {"text": "Oslo", "answer_start": [13]},
        [{"text": "Oslo", "answer_start": 13, "answer_end": 17}],
        "Oslo",
    ],
)
def test_a_single_answer_may_be_an_object_or_a_text(answers: Any, tmp_path: Path) -> None:
    assert learned(jsonl(tmp_path / "a.jsonl", {**QUESTION, "answers": answers})) == [(["Oslo"], [13])]


NONE: list[Any] = [
    {"text": [], "answer_start": []},
    [],
    [{"text": "", "answer_start": -1}],
    {"text": "", "answer_start": 0},
]


@pytest.mark.parametrize("answers", NONE)
def test_an_empty_answer_is_none(answers: Any, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**QUESTION, "answers": answers})
    assert learned(path) == [([], [])]
    task, data = task_of(path)
    assert task.fit(data).version_2_with_negative


@pytest.mark.parametrize(
    "cell",
    [
        "\"{'text': ['Oslo'], 'answer_start': [13]}\"",
        "\"{'text': array(['Oslo'], dtype=object), 'answer_start': array([13], dtype=int32)}\"",
        '"[{""text"": ""Oslo"", ""answer_start"": 13}]"',
    ],
)
def test_a_cell_of_a_table_holds_what_pandas_or_json_wrote(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"question,context,answers\nWhere?,{CONTEXT},{cell}\n")
    assert learned(path) == [(["Oslo"], [13])]


@pytest.mark.parametrize(("cell", "start"), [("3", 3), ("3.0", 3), ("", 0)])
def test_a_table_has_the_place_in_a_column_of_its_own(cell: str, start: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"question,context,answer,answer_start\nWhat?,an ant,an,{cell}\n".replace("an ant", "an an"))
    assert learned(path) == [(["an"], [start])]
    assert bool(remarks(path)) == (cell == "")


def test_an_answer_that_begins_with_a_bracket_is_a_text(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"question": "Which?", "context": "See [1] there.", "answer": "[1]"})
    assert learned(path) == [(["[1]"], [4])]


PLACES = {
    "whole words first": ("5", None, "In 105 there were 5 boats, 5 cars.", (18, "first")),
    "inside words where there are no others": ("art", None, "party, cart", (1, "first")),
    "accents belong to words": ("cafe", None, "cafe\u0301s; cafe", (8, "first")),
    "Chinese has no spaces between words": ("北京", None, "去北京大学和北京。", (1, "first")),
    "Hindi's vowel signs belong to words": ("क", None, "कि क", (3, "first")),
    "the only one": ("Oslo", None, CONTEXT, (13, "only")),
    "as written": ("an", 3, "an an", (3, "written")),
    "one too far": ("Oslo", 14, CONTEXT, (13, "corrected")),
    "some characters too early": ("Oslo", 9, CONTEXT, (13, "corrected")),
    "in bytes": ("Zoë", 23, "Der große Bär heißt Zoë. Zoë?", (20, "corrected")),
    "in bytes, far from its place": ("Зоя", 25, "Её зовут: Зоя. Зоя", (15, "corrected")),
    "in UTF-16 units": ("Ann", 14, "👍👍👍👍👍👍: Ann", (8, "corrected")),
    "two as near": ("5", 4, "1 5 4 5 8", None),
    "too far": ("Ann", 12, CONTEXT, None),
    "nowhere": ("Bob", None, CONTEXT, None),
    "with a space after it": ("Oslo ", 13, CONTEXT, (13, "corrected")),
}


@pytest.mark.parametrize(("text", "start", "context", "expected"), PLACES.values(), ids=PLACES)
def test_the_place_of_an_answer(text: str, start: int | None, context: str, expected: Any) -> None:
    place = locate(text, start, context)
    assert (place and (place.start, place.how)) == expected


@pytest.mark.parametrize(
    "script", ["Ann lives. In Oslo", "Ärger in Köln über Öl. Köln", "Аня живёт в Осло. Осло", "😀😀😀😀 is 😀 Ann"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_places_in_bytes_are_those_of_the_characters(script: str, encoding: str) -> None:
    text = script.split()[-1]
    start = script.rindex(text)
    written = len(script[:start].encode(encoding)) // (2 if encoding == "utf-16-le" else 1)
    place = locate(text, written, script)
    assert place is not None
    assert place.start == start


def test_ambiguous_and_corrected_answers_are_counted(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        {"question": "How many?", "context": "15 men, 5 boats", "answers": [{"text": "5"}]},
        {**QUESTION, "answers": [{"text": "Oslo", "answer_start": 12}]},
        {**QUESTION, "answers": [{"text": "Oslo", "answer_start": 13}]},
        {**QUESTION, "answers": None},
        {"question": "How many?", "context": "5 or 5", "answers": [{"text": "5"}]},
    )
    first, corrected, empty = remarks(path)
    assert first.startswith(
        "a.jsonl: 2 rows (first at line 1): the answer has no answer_start and occurs several times"
    )
    assert corrected.startswith("a.jsonl: 1 row (first at line 2): the answer isn't at its answer_start")
    assert empty.startswith("a.jsonl: 1 row (first at line 4): no answer")


def test_a_run_reports_the_remarks_and_stores_them(tiny_base: Base, registry: Registry, tmp_path: Path) -> None:
    row = {"question": "How many?", "context": "15 men, 5 boats", "answer": "5"}
    path = jsonl(tmp_path / "a.jsonl", *[row] * 8)
    options = {"strategy": "head-only", "epochs": 1, "train_file": str(path), "name": "a"}
    report = ak.run(base=tiny_base, registry=registry, **options)
    assert any("8 rows (first at line 1): the answer has no answer_start" in remark for remark in report.remarks)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an answer that is elsewhere": (
        {"answers": [{"text": "Bob", "answer_start": 3}]},
        "'Bob' is not in the context at 3",
    ),
    "an object without a text": ({"answers": [{"answer": "Ann"}]}, "an answer is an object with 'text'"),
    "a list of lists": ({"answers": [["Ann"]]}, "a text or an object with 'text' was expected"),
    "a place that is no number": ({"answers": [{"text": "Ann", "answer_start": "x"}]}, "a whole number was expected"),
    "more places than answers": ({"answers": ["Ann"], "answer_start": [0, 1]}, "1 answers, but 2 places"),
    "an impossible question": ({"answers": ["Ann"], "is_impossible": True}, "is_impossible, and has the answer 'Ann'"),
    "a question of parts": ({"answers": ["Ann"], "question": [{"text": "Who?"}]}, "but a text was expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_answer_is_refused_with_file_and_line(name: str, tmp_path: Path) -> None:
    row, reason = REFUSED[name]
    path = jsonl(tmp_path / "a.jsonl", {**QUESTION, **row})
    task, data = task_of(path)
    with pytest.raises(DataError) as caught:
        task.check(data, path.name)
    assert str(caught.value).startswith("a.jsonl:1: ")
    assert reason in str(caught.value)


def test_a_context_of_paragraphs_is_their_text_in_training_and_in_prediction(tmp_path: Path) -> None:
    row = {"question": "Where?", "context": ["Ann moved.", "Bob lives in Oslo."], "answers": ["Oslo"]}
    path = jsonl(tmp_path / "a.jsonl", row)
    assert learned(path) == [(["Oslo"], [24])]
    assert inputs_of(task_of(path)[0], row)["context"] == "Ann moved. Bob lives in Oslo."


# ---- SQuAD's nested form


def squad(
    path: Path, *questions: dict[str, Any], wrap: Callable[[Any], Any] = lambda p: {"data": [{"paragraphs": [p]}]}
) -> Path:
    path.write_text(json.dumps(wrap({"context": CONTEXT, "qas": list(questions)})))
    return path


WHO = {"id": 7, "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}


@pytest.mark.parametrize(
    ("stated", "read"), [({"id": 7}, "7"), ({"id": "a7"}, "a7"), ({"id": 0}, "0"), ({"id": None}, None), ({}, None)]
)
def test_nothing_needs_the_id_of_a_question(stated: dict[str, Any], read: str | None, tmp_path: Path) -> None:
    entry = {**{key: value for key, value in WHO.items() if key != "id"}, **stated}
    (_, row), *_ = rows(str(squad(tmp_path / "a.json", entry)))
    assert row.get("id") == read
    assert row["answers"] == {"text": ["Ann"], "answer_start": [0]}


WRAPS: dict[str, Callable[[Any], Any]] = {
    "a list of paragraphs": lambda p: [p],
    "paragraphs under data": lambda p: {"data": [p]},
    "one paragraph": lambda p: p,
    "one article": lambda p: {"title": "T", "paragraphs": [p]},
    "a list of articles": lambda p: [{"title": "T", "paragraphs": [p]}],
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_paragraphs_may_stand_alone(wrap: str, tmp_path: Path) -> None:
    assert learned(squad(tmp_path / "a.json", WHO, wrap=WRAPS[wrap])) == [(["Ann"], [0])]


def test_a_question_may_have_a_single_answer(tmp_path: Path) -> None:
    entry = {"question": "Where?", "answer": {"text": "Oslo", "answer_start": 13, "html_answer_start": 20}}
    assert learned(squad(tmp_path / "a.json", entry, wrap=lambda p: {"data": [p]})) == [(["Oslo"], [13])]


def test_an_impossible_question_has_no_answer_however_that_is_written(tmp_path: Path) -> None:
    none: list[dict[str, Any]] = [
        {},
        {"answers": []},
        {"answers": None},
        {"answers": [{"text": " ", "answer_start": -1}]},
    ]
    stated = [{"question": "Why?", "is_impossible": True, **answers} for answers in none]
    path = squad(tmp_path / "a.json", *stated, WHO)
    assert learned(path) == [([], [])] * 4 + [(["Ann"], [0])]


def test_a_place_that_is_off_by_one_is_corrected_in_the_nested_form_too(tmp_path: Path) -> None:
    path = squad(tmp_path / "a.json", {**WHO, "answers": [{"text": "moved", "answer_start": 5}]})
    assert learned(path) == [(["moved"], [4])]
    assert remarks(path)[0].startswith("a.json: 1 row (first at line 1): the answer isn't at its answer_start")


@pytest.fixture
def trained(tiny_base: Base, registry: Registry, tmp_path: Path) -> str:
    path = squad(tmp_path / "train.json", *[WHO] * 8)
    ak.run(base=tiny_base, registry=registry, strategy="head-only", epochs=1, train_file=str(path), name="qa")
    return "qa"


def test_questions_without_answers_are_predicted_and_not_evaluated(
    trained: str, registry: Registry, adapt: Adapt, tmp_path: Path
) -> None:
    hidden = [{"question": "Who?"}, {"id": 5, "question": "Where?"}]
    path = squad(tmp_path / "test.json", *hidden)
    out = adapt("predict", trained, "--file", path, "--registry", registry.path)
    assert out.exit_code == 0, out.output
    assert [json.loads(line)["question"] for line in out.stdout.splitlines()] == ["Who?", "Where?"]
    assert all("answers" not in json.loads(line) for line in out.stdout.splitlines())
    refused = adapt("eval", trained, "--test-file", path, "--registry", registry.path)
    assert refused.exit_code != 0
    assert "test.json: no column 'answers'" in refused.stderr
    assert "rows can be predicted, but neither trained on nor evaluated" in refused.stderr


def test_rows_whose_answers_are_all_null_are_not_evaluated_as_unanswerable(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**QUESTION, "answers": None}, {**QUESTION, "answers": None})
    task, data = task_of(path)
    with pytest.raises(DataError, match=r"a\.jsonl: no row has answers"):
        task.remarks(data, path.name, None)


@pytest.mark.parametrize(
    ("answer", "start", "context", "expected"),
    [
        ("Big Apple", None, "The Big\u00a0Apple is old.", ("Big\u00a0Apple", 4)),
        ("Big Apple", 4, "The Big\nApple is old.", ("Big\nApple", 4)),
        ("in  the hall", 9, "Ann sang\r\nin the\r\nhall.", ("in the\r\nhall", 10)),
        ("a b", 0, "a  b, then a\tb", ("a  b", 0)),
        ("a b", None, "a  b, then a\tb", None),  # two places
        ("ab", None, "a b", None),
    ],
)
def test_an_answer_may_differ_in_its_spaces(answer: str, start: int | None, context: str, expected: Any) -> None:
    place = locate(answer, start, context)
    assert (place and (place.text, place.start)) == expected
    assert place is None or place.how == "spaced"


def test_answers_with_other_spaces_are_counted_and_learned(tmp_path: Path) -> None:
    row = {"question": "Where?", "context": "Ann sang in the\nhall.", "answer_text": "the hall"}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert learned(path) == [(["the\nhall"], [12])]
    task, data = task_of(path)
    assert any("1 row (first at line 1): the answer and its context differ" in r for r in task.remarks(data, "a", None))


@pytest.mark.parametrize("start", ["3", 3.0, " 3"])
def test_a_place_of_the_nested_form_may_be_written_as_tables_have_it(start: Any, tmp_path: Path) -> None:
    question = {"question": "Where?", "answers": [{"text": "is", "answer_start": start}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "It is old.", "qas": [question]}]}]}))
    assert [row["answers"] for _, row in rows(str(path))] == [{"text": ["is"], "answer_start": [3]}]
