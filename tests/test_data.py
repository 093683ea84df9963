"""Files are read as they come, and a row that can't be used is named by file and line."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adapterkit import data
from adapterkit.errors import DataError
from adapterkit.readers import rows
from adapterkit.settings import DataOptions
from adapterkit.tasks import TextClassification


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text,label\r\nhi,x\r\n\r\nyo,y\r\n", [(2, "hi", "x"), (4, "yo", "y")]),
        ("a.csv", "\ufefftext,label\nhi,x\n", [(2, "hi", "x")]),
        ("a.csv", 'text,label\n"two\nlines",x\nyo,y\n', [(2, "two\nlines", "x"), (4, "yo", "y")]),
        ("a.csv", "text,label\ncaf\u00e9,x\n".encode("latin-1"), [(2, "café", "x")]),
        ("a.csv", "text,label\nna\u00efve,x\n".encode("utf-16"), [(2, "naïve", "x")]),
        ("a.csv", "text,label\na \x96 dash,x\n".encode(), [(2, "a \x96 dash", "x")]),
        ("a.tsv", 'text\tlabel\n"quoted" word\tx\n"a ""b"""\ty\n', [(2, '"quoted" word', "x"), (3, 'a "b"', "y")]),
        (
            "a.jsonl",
            '{"text": "a\u2028b", "label": "x"}\n\n{"text": "c", "label": 1}',
            [(1, "a\u2028b", "x"), (3, "c", 1)],
        ),
    ],
)
def test_rows_come_with_their_lines(tmp_path: Path, name: str, content: str | bytes, expected: list[Any]) -> None:
    found = [(line, row["text"], row["label"]) for line, row in rows(write(tmp_path / name, content))]
    assert found == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nhi,x\nhi,there,x\n", "a.csv:3: 3 cells, but the header has 2 columns"),
        ("a.csv", 'text,label\nhi,x\n"unclosed,x\n', "a.csv:3: unexpected end of data"),
        ("a.csv", "text,text\nhi,x\n", "a.csv:1: column 'text' stands in the header twice"),
        ("a.csv", b"text,label\nhi,x\n\x81\xff,x\n", "bytes that are neither UTF-8 nor Windows-1252"),
        ("a.csv", "text,label\n", "a.csv: no rows"),
        ("a.csv", "", "a.csv: no rows"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "a.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: a JSON object was expected, not a list"),
        ("a.docx", "x", "a.docx: files that can be read end in .csv, .jsonl, .tsv"),
    ],
)
def test_a_row_that_can_not_be_read_is_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        data.read(write(tmp_path / name, content))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [
        (["text", "label"], {}, (("text",), "label")),
        (["Review", "Sentiment"], {}, (("Review",), "Sentiment")),
        (["text", "category"], {}, (("text",), "category")),
        (["premise", "hypothesis", "label"], {}, (("premise", "hypothesis"), "label")),
        (["id", "sentence1", "sentence2", "label"], {}, (("sentence1", "sentence2"), "label")),
        (["said", "mood"], {"label_column_name": "mood"}, (("said",), "mood")),
        (["said", "mood"], {"text_column_name": ("said",)}, (("said",), "mood")),
    ],
)
def test_columns_are_guessed(columns: list[str], given: dict[str, Any], expected: Any) -> None:
    task = TextClassification(**given).with_columns([*columns, data.LINE])
    assert (task.text_column_name, task.label_column_name) == expected


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        (["said", "mood"], {}, "which column is the text? give --text-column-name; there are said, mood"),
        (["text", "a", "b"], {}, "which column is the label? give --label-column-name; there are text, a, b"),
        (["text", "label"], {"label_column_name": "lable"}, "no column named 'lable'; did you mean 'label'?"),
    ],
)
def test_columns_that_can_not_be_guessed_are_asked_for(columns: list[str], given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        TextClassification(**given).with_columns(columns)
    assert message in str(caught.value)


def test_numbers_as_labels_are_in_their_order(tmp_path: Path) -> None:
    read = data.read(write(tmp_path / "a.csv", "text,label\n" + "\n".join(f"t{i},{i}" for i in (10, 2, 1))))
    assert TextClassification().with_columns(read.column_names).fit(read).labels == ("1", "2", "10")


def test_a_validation_split_is_cut_seeded_and_stratified(tmp_path: Path) -> None:
    lines = [f"{'good' if i % 4 else 'bad'} {i},{'p' if i % 4 else 'n'}" for i in range(80)]
    options = DataOptions(train_file=write(tmp_path / "a.csv", "\n".join(["text,label", *lines])))

    def cut(seed: int) -> data.Splits:
        splits = data.load(options)
        data.cut_validation(splits, 20, seed, splits["train"]["label"])
        return splits

    first, again, other = cut(1), cut(1), cut(2)
    assert Counter(first["validation"]["label"]) == {"p": 12, "n": 4}
    assert first["validation"]["text"][:] == again["validation"]["text"][:]
    assert first["validation"]["text"][:] != other["validation"]["text"][:]
    assert not set(first["validation"]["text"]) & set(first["train"]["text"])
    assert "16 of 80 training rows cut off, stratified, seed 1" in first.notes[0]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nold,x\n")
    assert data.read(path)["text"][:] == ["old"]
    assert data.read(write(Path(path), "text,label\nnew,x\n"))["text"][:] == ["new"]


def test_the_demo_sentences_are_balanced_and_all_different() -> None:
    texts: list[str] = []
    for split, file in data.demo_files("sentiment").items():
        with open(file, encoding="utf-8", newline="") as lines:
            read = list(csv.DictReader(lines))
        count = Counter(row["label"] for row in read)
        assert count["negative"] == count["positive"], split
        texts += [row["text"].casefold() for row in read]
    assert len(texts) >= 480
    assert len(set(texts)) == len(texts)
    openings = Counter(" ".join(text.split()[:3]) for text in texts)
    assert openings.most_common(1)[0][1] <= 6


def test_every_demo_file_can_be_read() -> None:
    for name in ("sentiment", "topics", "nli", "similarity", "requests", "choice"):
        for file in data.demo_files(name).values():
            assert sum(1 for _ in rows(file)) > 0, file
