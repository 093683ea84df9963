"""Rows of files: their lines, columns and types, and rows that can not be read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import splits as data
from adapterkit.data import streams
from adapterkit.data.readers import rows
from adapterkit.errors import DataError, OptionError
from adapterkit.settings import DataOptions
from adapterkit.tasks import TextClassification
from tests.helpers.files import write


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
        ("a.csv", "text,text\nhi,x\n", "a.csv:1: column 'text' occurs twice in the header"),
        (
            "a.csv",
            b"text,label\nhi,x\n\x81\xff,x\n",
            "a.csv: bytes that are not UTF-8, and no usual encoding fits; give --encoding",
        ),
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
        (["text", "Team (of 4)"], {"label_column_name": "team"}, "no column named 'team'; did you mean 'Team (of 4)'?"),
        (
            ["text", "Team (of 4)", "Team (of 5)"],
            {"label_column_name": "team"},
            "no column named 'team'; there are: Team (of 4)",
        ),
    ],
)
def test_columns_that_can_not_be_guessed_are_asked_for(columns: list[str], given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        TextClassification(**given).with_columns(columns)
    assert message in str(caught.value)


def test_three_columns_are_no_pair_of_texts() -> None:
    with pytest.raises(OptionError, match="--text-column-name=a,b,c: expected the column of a text, or two of a pair"):
        TextClassification(text_column_name=("a", "b", "c"))


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
    assert "16 of 80 training rows split off, stratified, seed 1" in first.notes[0]


LATE = 1500  # rows, more than are looked at in one go


@pytest.mark.parametrize("many", [1, LATE])
@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ({"a": 1}, {"a": 2.5}, ("float64", 1.0, 2.5)),
        ({"a": 2.5}, {"a": 1}, ("float64", 2.5, 1.0)),
        ({"a": []}, {"a": ["x"]}, ("List(Value('string'))", [], ["x"])),
        ({"a": None}, {"a": ["x"]}, ("List(Value('string'))", None, ["x"])),
        ({"a": ["x"]}, {"a": None}, ("List(Value('string'))", ["x"], None)),
        ({"b": 1}, {"a": "x"}, ("string", None, "x")),
        ({"a": "x"}, {"b": 1}, ("string", "x", None)),
        ({"a": {}}, {"a": {"en": "x"}}, ("{'en': Value('string')}", {"en": None}, {"en": "x"})),
        (
            {"a": {"en": "x"}},
            {"a": {"sv": ["y"]}},
            (
                "{'en': Value('string'), 'sv': List(Value('string'))}",
                {"en": "x", "sv": None},
                {"en": None, "sv": ["y"]},
            ),
        ),
        (
            {"a": [{"role": "user", "content": "hi"}]},
            {"a": []},
            (
                "List({'role': Value('string'), 'content': Value('string')})",
                [{"role": "user", "content": "hi"}],
                [],
            ),
        ),
        ({"a": None}, {"a": None}, ("null", None, None)),
    ],
)
def test_a_column_has_the_type_that_all_its_rows_need(
    first: dict[str, Any], then: dict[str, Any], expected: Any, many: int, tmp_path: Path
) -> None:
    lines = [json.dumps(first)] * many + [json.dumps(then)]
    read = data.read(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert (len(read), read[data.LINE][-1]) == (many + 1, many + 1)
    assert expected[0] in str(read.features["a"])
    assert (read[0]["a"], read[-1]["a"]) == expected[1:]


@pytest.mark.parametrize("many", [1, LATE])
@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ("x", 1, "a is a number, 1; text was expected, as in the rows before"),
        (1, "1", 'a is text, "1"; a number was expected, as in the rows before'),
        (1, True, "a is true or false, true; a number was expected, as in the rows before"),
        (1.5, True, "a is true or false, true; a number was expected, as in the rows before"),
        (True, 1, "a is a number, 1; true or false was expected, as in the rows before"),
        (["x"], "x", 'a is text, "x"; a list of text was expected, as in the rows before'),
        (["x"], [1], "a is a list of a number, [1]; a list of text was expected, as in the rows before"),
        ({"b": 1}, {"b": "x"}, 'a is {b: text}, {"b": "x"}; {b: a number} was expected, as in the rows before'),
        (["x"], ["x", 1], 'a is ["x", 1]: '),
        ("x", "\ud800", 'a is "\\ud800": half of a surrogate pair, which is no character'),
        (1, 2**64, "a is 18446744073709551616: a whole number of more than 64 bits"),
        (0.5, 2**53 + 1, "a is 9007199254740993: Integer value 9007199254740993 is outside of the range"),
    ],
)
def test_a_value_of_another_type_is_named(first: Any, then: Any, message: str, many: int, tmp_path: Path) -> None:
    lines = [json.dumps({"a": first})] * many + [json.dumps({"a": then})] * 2
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    with pytest.raises(DataError) as caught:
        data.read(path)
    assert str(caught.value).startswith(f"{path}:{many + 1}: {message}")
    assert "\n" not in str(caught.value)
    notes: list[str] = []
    read = data.read(path, DataOptions(skip_bad_rows=True), notes=notes)
    assert (len(read), read[-1]["a"]) == (many, first)
    assert notes[0].startswith(f"2 bad rows skipped in {path}, first at line {many + 1}: {message}")


def test_a_number_too_exact_for_the_fractions_after_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"a": {2**53 + 1}}}\n{{"a": 0.5}}\n')
    with pytest.raises(DataError, match=r"a.jsonl:1: a is 9007199254740993: Integer value 9007199254740993 is outside"):
        data.read(path)


def test_bad_rows_are_skipped_when_told_so_and_counted(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "train.conll", "a\tO\n\nb\t\n\nc\tO\n\nd\n\n")
    options = DataOptions(train_file=path, skip_bad_rows=True)
    for _ in range(2):  # the second time from what is kept
        splits = data.load(options)
        assert splits["train"]["tokens"][:] == [["a"], ["c"]]
        assert splits["train"][data.LINE][:] == [1, 5]
        reasons = "empty tag (1, at line 3); 1 column, and 2 were expected, separated by tabs (1, at line 7)"
        assert splits.notes == [f"2 bad rows skipped in {path}: {reasons}"]
    with pytest.raises(DataError, match=r"train.conll:3: empty tag"):
        data.load(DataOptions(train_file=path))


def test_one_bad_row_of_a_file_without_lines_is_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '[{"a": 1}, 2]')
    splits = data.load(DataOptions(train_file=path, skip_bad_rows=True))
    assert splits.notes == [
        f"1 bad row skipped in {path}, at row 2: a JSON object was expected, not a int",
    ]


def test_a_file_of_bad_rows_alone_is_an_error_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "x\ny\n")
    with pytest.raises(
        DataError, match=r"no row of .*a.jsonl can be used: 2 bad rows skipped in .*, first at line 1: not J"
    ):
        data.read(path, DataOptions(skip_bad_rows=True))


def test_the_first_bad_row_is_the_one_named_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": "x"}\nnot JSON\n')
    with pytest.raises(DataError, match=r"a.jsonl:2: a is text"):
        data.read(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text,id\na,1\n,\nb,2\n,\n", ["a", "", "b"]),
        ("a.csv", "text\na\n\nb\n\n", ["a", "", "b"]),
        ("a.tsv", "text\tid\na\t1\n\t\nb\t2\n", ["a", "", "b"]),
    ],
)
def test_of_rows_to_predict_an_empty_one_has_its_place(
    name: str, content: str, expected: list[str], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert [row["text"] for _, row in streams.from_file(str(path), skip_bad=True)] == expected
    assert [row["text"] for _, row in rows(str(path))] == ["a", "b"]


def test_words_to_predict_are_lists_in_cells_or_columns_without_tags(tmp_path: Path) -> None:
    table, columns = tmp_path / "a.csv", tmp_path / "a.conll"
    table.write_text("tokens\n\"['Ann', 'lives']\"\n\"['Oslo']\"\n")
    columns.write_text("Ann\nlives\n\nOslo\n")
    for path in (table, columns):
        assert [row["tokens"] for _, row in streams.from_file(str(path))] == [["Ann", "lives"], ["Oslo"]]
