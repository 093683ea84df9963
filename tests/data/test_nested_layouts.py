"""Objects that nest rows: what is left out in training has its row in prediction, and bad ones are refused alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data.readers import BadRow, ReadOptions, open_rows

FORMATS = Path(__file__).parent.parent / "fixtures" / "formats"


def read(path: Path, *, every: bool = False) -> list[Any]:
    with open_rows(str(path), ReadOptions(every_row=every)) as (_, numbered):
        return [row for _, row in numbered]


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("name", "rows"),
    [("newsqa.json", 3), ("tydiqa.jsonl", 3), ("oasst.jsonl", 2), ("argilla-1.jsonl", 3), ("label-studio.json", 3)],
)
def test_of_rows_to_predict_none_is_left_out(name: str, rows: int) -> None:
    assert len(read(FORMATS / name)) < rows
    assert len(read(FORMATS / name, every=True)) == rows


def test_a_bad_answer_is_a_bad_row_beside_good_ones(tmp_path: Path) -> None:
    query: dict[str, Any] = {"query": "@placeholder fell.", "answers": [{"start": 0, "end": 2}]}
    queries = [query, {**query, "answers": [{"start": 0, "end": 90}]}, {**query, "answers": [{}]}, {"query": 1}]
    good, *bad = read(written(tmp_path / "a.json", [{"passage": {"text": "Ann fell."}, "qas": queries}]))
    assert good["answers"] == {"text": ["Ann"], "answer_start": [0]}
    assert [row.reason for row in bad] == [
        "an answer from character 0 to 91, but the context has 9",
        "answers with start and end were expected",
        "an object with a text as 'query' was expected in 'qas'",
    ]
    tree = {"prompt": {"text": "a", "role": "prompter", "replies": [{"text": 1, "role": "assistant"}]}}
    assert isinstance(read(written(tmp_path / "a.json", [tree]))[0], BadRow)
    document = {"paragraphs": [{"sentences": [{"tokens": [{"orth": 1}]}]}]}
    assert isinstance(read(written(tmp_path / "a.json", [document]))[0], BadRow)


def test_files_that_look_alike_are_no_such_layout(tmp_path: Path) -> None:
    rows = {"data": [{"text": "a"}, {"text": "b"}]}
    assert read(written(tmp_path / "a.json", rows)) == rows["data"]
    row = {"prompt": "a", "completion": "b", "data": [1], "fields": {"a": 1}, "passage": "c"}
    assert read(written(tmp_path / "a.json", [row])) == [row]


def test_the_order_of_replies_is_that_of_their_ranks_and_deleted_ones_are_none(tmp_path: Path) -> None:
    replies = [
        {"text": "unranked", "role": "assistant"},
        {"text": "deleted", "role": "assistant", "rank": 0, "deleted": True},
        {"text": "second", "role": "assistant", "rank": 1},
    ]
    tree = {"prompt": {"text": "Hi", "role": "prompter", "replies": replies}}
    (row,) = read(written(tmp_path / "a.json", [tree]))
    assert [message["content"] for message in row["messages"]] == ["Hi", "second"]


def test_the_benchmark_of_snips_names_the_intent_of_each_list(tmp_path: Path) -> None:
    pieces = [{"text": "play "}, {"text": "jazz", "entity": "genre"}]
    rows = read(written(tmp_path / "a.json", {"PlayMusic": [{"data": pieces}], "RateBook": [{"data": pieces[:1]}]}))
    assert [(row["intent"], row["ner_tags"]) for row in rows] == [
        ("PlayMusic", ["O", "B-genre"]),
        ("RateBook", ["O"]),
    ]


def test_ratings_and_taxonomies_of_json_min(tmp_path: Path) -> None:
    row = {"text": "a", "rating": [{"rating": 4}], "topic": [{"taxonomy": [["A", "B"], ["C"]]}], "annotator": 1}
    (read_row,) = read(written(tmp_path / "a.json", [row]))
    assert (read_row["rating"], read_row["topic"]) == (4, ["A / B", "C"])
