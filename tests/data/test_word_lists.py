"""Tables whose cells hold the words and tags of a sentence, as pandas, SNIPS' csv files and Kaggle's have them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data.readers import ReadOptions, open_rows
from adapterkit.tasks import infer_task, task_class

PAIRS = {
    "lists of Python": (str(["Ann", "sings"]), str(["B-PER", "O"])),
    "arrays of numpy": ("['Ann' 'sings']", "['B-PER' 'O']"),
    "JSON": ('["Ann", "sings"]', '["B-PER", "O"]'),
    "a text and a list": ("Ann sings", str(["B-PER", "O"])),
    "joined by spaces": ("Ann sings", "B-PER O"),
}


def read_all(path: Path, header: list[str], *cells: tuple[str, ...], **options: Any) -> tuple[list[Any], list[str]]:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *cells])
    with open_rows(str(path), ReadOptions(**options)) as (source, numbered):
        return [row for _, row in numbered], source.notes


@pytest.mark.parametrize("cells", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("header", [["tokens", "ner_tags"], ["Sentence", "Tag"], ["text", "slots"]])
def test_words_and_tags_in_cells_are_lists(cells: tuple[str, str], header: list[str], tmp_path: Path) -> None:
    table, notes = read_all(tmp_path / "a.csv", header, *[cells] * 3)
    task = task_class(infer_task(table[0]))().with_columns(list(table[0]))
    assert task.name == "token-classification"
    words, tags = task.describe_columns().split(" -> ")
    assert [(row[words], row[tags]) for row in table] == [(["Ann", "sings"], ["B-PER", "O"])] * 3
    assert notes == [f"columns '{header[0]}' and '{header[1]}' hold words and tags as texts: read as lists"]
    assert table[0].get("text", "Ann sings") == "Ann sings"


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        (["text", "labels"], ("great soup", str(["a", "b"]))),  # several labels
        (["text", "tags"], ("great soup", "food bad")),
        (["text", "slots", "intent"], ("Ann sings", "B-PER O", "ask")),  # of texts, unless the task is named
        (["text", "tags"], ("Ann sings now", "B-PER O")),
        (["text", "label"], ("Ann", "B")),
    ],
)
def test_other_tables_stay_as_they_are(header: list[str], cells: tuple[str, ...], tmp_path: Path) -> None:
    table, notes = read_all(tmp_path / "a.csv", header, *[cells] * 3)
    assert (table, notes) == ([dict(zip(header, cells, strict=True))] * 3, [])


def test_slots_beside_an_intent_are_read_for_the_named_task(tmp_path: Path) -> None:
    cells = ("Ann sings", "B-PER O", "ask")
    table, _ = read_all(tmp_path / "a.csv", ["text", "slots", "intent"], cells, task="token-classification")
    assert (table[0]["tokens"], table[0]["slots"]) == (["Ann", "sings"], ["B-PER", "O"])
