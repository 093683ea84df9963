"""Spans by word numbers: places, overlaps and odd values; tables of a word a row whose sentences end at empty rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data.readers import BadRow, open_rows
from adapterkit.errors import DataError
from tests.helpers.files import write


def read(path: str) -> tuple[list[Any], list[str]]:
    with open_rows(path) as (source, numbered):
        return [row for _, row in numbered], source.notes


def tags(path: str) -> list[str]:
    return [" ".join(row["ner_tags"]) for row in read(path)[0]]


WORDS = ["a", "b", "c", "d"]
ODD: list[Any] = [
    [0, 9, "X"],
    [-1, 0, "X"],
    [2, 1, "X"],
    [0, 1],
    ["0", 1, "X"],
    None,
    [0, 1, ""],
    [0, 1, None],
    [True, 1, "X"],
]


def test_spans_that_are_not_of_their_sentence_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps([{"tokenized_text": WORDS, "ner": [*ODD, [3, 3, "Y"]]}]))
    assert tags(path) == ["O O O B-Y"]
    assert "9 spans without a word of their sentence, or without a label, left out" in read(path)[1]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([[0, 3, "A"], [1, 2, "B"]], "B-A I-A I-A I-A"),
        ([[1, 2, "B"], [0, 1, "A"]], "B-A I-A O O"),
        ([[0, 0, "A"], [1, 1, "A"]], "B-A B-A O O"),
        ([[0, 0, "A"], [0, 0, "A"]], "B-A O O O"),
    ],
)
def test_the_first_and_outermost_span_counts(spans: list[Any], expected: str, tmp_path: Path) -> None:
    assert tags(write(tmp_path / "a.json", json.dumps([{"tokenized_text": WORDS, "ner": spans}]))) == [expected]


def test_the_words_of_a_document_are_numbered_through_its_sentences(tmp_path: Path) -> None:
    document = {"sentences": [["a"], ["b", "c"], ["d"]], "ner": [[], [[1, 2, "X"], [0, 0, "X"]], [[3, 3, "Y", 0.9]]]}
    path = write(tmp_path / "a.jsonl", json.dumps({**document, "events": [[], [[1]], []]}))
    assert tags(path) == ["O", "B-X I-X", "B-Y"]
    odd = {**document, "relations": [1, None], "events": 5, "clusters": 7}
    assert len(tags(write(tmp_path / "c.jsonl", json.dumps(odd)))) == 3
    empty = write(tmp_path / "b.jsonl", json.dumps({"sentences": [["a"], []], "ner": [[], []]}))
    assert [isinstance(row, BadRow) for row in read(empty)[0]] == [False, True]


def test_rows_that_look_alike_are_no_spans(tmp_path: Path) -> None:
    rows = [
        {"tokens": WORDS, "entities": ["a", "b"]},
        {"sentence": "a b", "ner": ["O", "O"]},
        {"sentence": WORDS, "ner": ["O"] * 4},
        {"sentences": ["a b.", "c."], "ner": [1, 2]},
        {"tokens": WORDS, "ner_tags": ["O"] * 4, "entities": []},
    ]
    for row in rows:
        assert read(write(tmp_path / "a.jsonl", json.dumps(row)))[0] == [row]


GAPS = {
    "empty lines": "token,label\na,O\nb,B-X\n\nc,O\n",
    "rows of empty cells": "Word;Tag\na;O\nb;B-X\n;\n;\nc;O\n",
    "tabs": "words\tpos\ttags\na\tN\tO\nb\tN\tB-X\n\n\nc\tN\tO\n\n",
    "quoted separators": 'word,tag\n"a",O\n"b","B-X"\n"",""\n"c",O\n',
}


@pytest.mark.parametrize("kind", GAPS)
def test_empty_rows_end_sentences(kind: str, tmp_path: Path) -> None:
    table, notes = read(write(tmp_path / ("a.tsv" if kind == "tabs" else "a.csv"), GAPS[kind]))
    assert [(row["tokens"], row["tags"]) for row in table] == [(["a", "b"], ["O", "B-X"]), (["c"], ["O"])]
    assert notes[-1] == "3 rows of a word each read as 2 sentences, which empty rows end"


def test_words_that_are_a_separator_or_a_quote_end_nothing(tmp_path: Path) -> None:
    table, _ = read(write(tmp_path / "a.csv", 'word,tag\na,O\n",",O\n"""",O\n\nb,O\n'))
    assert [row["tokens"] for row in table] == [["a", ",", '"'], ["b"]]


@pytest.mark.parametrize("content", ["word,label\ngood,pos\nbad,neg\n\n", "text,label\na,O\n\nb,O\n"])
def test_other_tables_with_an_empty_row_are_as_they_were(content: str, tmp_path: Path) -> None:
    assert len(read(write(tmp_path / "a.csv", content))[0]) == 2
    assert "tokens" not in read(write(tmp_path / "a.csv", content))[0][0]


def test_a_table_of_words_without_a_header_is_refused_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'B-PER' is no name of a column; name .* --column-names"):
        read(write(tmp_path / "a.csv", "Ann,B-PER\nleft,O\n\nBob,B-PER\n"))
