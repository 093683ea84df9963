"""Tables without a header, headers within a table, quotes by apostrophes, and carriage returns inside of lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from adapterkit.data import streams
from adapterkit.data.readers import ReadOptions, open_rows, rows
from adapterkit.data.splits import read
from adapterkit.errors import DataError
from adapterkit.settings import DataOptions

NAMES = ("label", "text")


def write(path: Path, content: str) -> str:
    path.write_text(content, newline="")
    return str(path)


def read_all(path: str, **options: Any) -> tuple[list[Any], list[str]]:
    """Return the rows of a file, and the notes of its reader."""
    with open_rows(path, ReadOptions(**options)) as (source, numbered):
        return [row for _, row in numbered], source.notes


HEADERLESS = {
    "labels": "".join(f"{label},a text {i}\n" for i, label in enumerate("xyxyx")),
    "fastText's labels": "__label__1;fine; really\n",
    "a score": "0.5,fine\n0.75,bad\n",
    "sentences without a repetition": "the cat sat down,le chat est assis\na dog ran off,un chien part loin\n",
    "texts alone": "a film that was fine\na soup that was cold\na hotel that was loud\n",
    "numbered sentences": "1,the soup was cold today\n2,the film was fine today\n3,the staff was kind today\n",
    "a sentence": "1,a text of more than ten words is no name of any column\n2,b\n",
}


REMARKED = {
    "a sentence and a label": "the soup was cold,bad\nthe film was fine,good\nthe staff was kind,fair\n",
    "a number and a name": "1,soup\n2,film\n3,staff\n",
}


@pytest.mark.parametrize("content", REMARKED.values(), ids=REMARKED)
def test_a_header_of_which_a_part_looks_like_values_is_a_remark(content: str, tmp_path: Path) -> None:
    table, (note,) = read_all(write(tmp_path / "a.csv", content))
    first = content.partition(",")[0]
    assert note.startswith(f"the first row is read as the header, but '{first}' looks like a value of its column")
    assert "--column-names" in note
    assert len(table) == 2


def test_questions_of_a_survey_and_years_are_names(tmp_path: Path) -> None:
    survey = "How did you like your stay here?,2021\nIt was a very good stay,3\nThe room was far too loud,4\n"
    assert read_all(write(tmp_path / "a.csv", survey))[1] == []
    assert read_all(write(tmp_path / "b.csv", "name,2019\na,2020\nb,1999\n"))[1] == []


@pytest.mark.parametrize("content", HEADERLESS.values(), ids=HEADERLESS)
def test_a_row_in_the_place_of_a_header_is_an_error_that_names_the_option(content: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(DataError, match=r"a\.csv:1: a header was expected, but .*: --column-names name_1"):
        list(rows(path))


def test_names_for_a_table_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADERLESS["labels"])
    table, notes = read_all(path, column_names=NAMES)
    assert table[0] == {"label": "x", "text": "a text 0"}
    assert (len(table), notes) == (5, [])
    assert read(path, DataOptions(column_names=NAMES))["text"][:2] == ["a text 0", "a text 1"]
    assert [row["label"] for _, row in streams.from_file(path, ReadOptions(column_names=NAMES))] == list("xyxyx")
    book = openpyxl.Workbook()
    book.active.append(["x", 1])
    book.active.append(["x", 2])
    book.active.append(["x", 3])
    book.save(tmp_path / "a.xlsx")
    assert read_all(str(tmp_path / "a.xlsx"), column_names=NAMES)[0][0] == {"label": "x", "text": "1"}
    with pytest.raises(DataError, match=r"a\.xlsx:1: a header was expected, but 'x' occurs in 2 rows below it, too"):
        list(rows(str(tmp_path / "a.xlsx")))
    with pytest.raises(DataError, match=r"a\.csv: 3 column names, but the first row has 2 cells"):
        read_all(path, column_names=("a", "b", "c"))


@pytest.mark.parametrize(
    "content",
    ["text,label\nlabel,x\ntext,y\na,x\n", "0,1\n0,1\n1,0\n0,0\n", "id,2019\n1,2\n2,2019\n", "text\na\nb\n"],
)
def test_names_of_any_kind_are_names(content: str, tmp_path: Path) -> None:
    assert list(read_all(write(tmp_path / "a.csv", content))[0][0]) == content.partition("\n")[0].split(",")


def test_a_header_that_is_repeated_is_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,x\ntext,label\nb,y\ntext,label\n")
    assert read_all(path) == (
        [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}],
        ["2 rows repeat the header: left out"],
    )
    assert len(list(streams.from_file(path))) == 4  # each row to predict has an answer


def test_cells_between_apostrophes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "label;text\nx;'a; b, c'\ny;'d; e, f'\n")
    assert read_all(path) == (
        [{"label": "x", "text": "a; b, c"}, {"label": "y", "text": "d; e, f"}],
        ["separated by ';', quoted by apostrophes"],
    )
    plain = write(tmp_path / "b.csv", "label,text\nx,don't\ny,'tis\nz,a\n")
    assert [row["text"] for row in read_all(plain)[0]] == ["don't", "'tis", "a"]
    alone = write(tmp_path / "c.csv", "text,label\n',a\n',a\n")
    assert read_all(alone)[0] == [{"text": "'", "label": "a"}] * 2


def test_commas_of_sentences_separate_nothing_where_another_sign_does(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "the text, in full|label\nfine, really|x\ncold, again|y\n")
    assert read_all(path)[0][0] == {"the text, in full": "fine, really", "label": "x"}


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", "one\rtwo\nthree\r\nfour\n", ["one\rtwo", "three", "four"]),
        ("a.tsv", "text\tn\none\rtwo\t1\nthree\t2\n", ["one\rtwo", "three"]),
        ("a.csv", "text,n\none\rtwo,1\nthree,2\n", ["one\rtwo", "three"]),
        ("a.csv", 'text,n\n"one\rtwo",1\nthree,2\n', ["one\rtwo", "three"]),
        ("a.jsonl", json.dumps({"text": "one"})[:-1] + ',\r"n": 1}\n', ["one"]),
    ],
)
def test_a_carriage_return_inside_of_a_line_is_part_of_it(
    name: str, content: str, texts: list[str], tmp_path: Path
) -> None:
    table, notes = read_all(write(tmp_path / name, content))
    assert [row["text"] for row in table] == texts
    assert notes == ["1 line holds a carriage return, which is part of its text"]


def test_spacys_pairs_with_spans_alone_and_rasas_examples(tmp_path: Path) -> None:
    pairs = write(tmp_path / "a.json", json.dumps([["Ann left", [[0, 3, "P"]]], ["No", []]]))
    assert [row["ner_tags"] for row in read_all(pairs)[0]] == [["B-P", "O"], ["O"]]
    example = {"text": "Ann left", "intent": "go", "entities": [{"start": 0, "end": 3, "value": "Ann", "entity": "P"}]}
    rasa = write(tmp_path / "b.json", json.dumps({"rasa_nlu_data": {"common_examples": [example]}}))
    assert read_all(rasa)[0][0]["ner_tags"] == ["B-P", "O"]


def test_yaml_nested_deeper_than_the_stack_is_an_error(tmp_path: Path) -> None:
    text = f"nlu:\n- intent: hi\n  examples: |\n    - hello\n  more: {'[' * 200_000}{']' * 200_000}\n"
    with pytest.raises(DataError, match=r"b\.yml:1: YAML that can't be read: more than 100 levels of nesting"):
        read_all(write(tmp_path / "b.yml", text))


@pytest.mark.parametrize("path", ["", ".", "/", "nowhere/", "a.ann"])
def test_a_path_that_is_no_file_is_an_error(path: str) -> None:
    with pytest.raises(DataError):
        read(path)


def test_rows_may_lack_their_last_cells_if_most_do_not(tmp_path: Path) -> None:
    for name, mark in (("a.csv", ","), ("a.tsv", "\t")):
        path = write(tmp_path / name, "text,label,note\na,x,n\nb,y\nc\nd,x,n\n".replace(",", mark))
        table, notes = read_all(path)
        assert [row["label"] for row in table] == ["x", "y", "", "x"]
        assert {row["note"] for row in table} == {"n", ""}
        assert notes == ["2 rows lack their last cells: read as empty"]
    path = write(tmp_path / "b.csv", "text,label\na x\nb y\nc,z\n")  # spaces between the cells of most rows
    with pytest.raises(DataError, match=r"b\.csv:2: 1 cells, but the header has 2 columns"):
        list(rows(path))


@pytest.mark.parametrize(
    "above",
    [
        "Export of 12.3.2024;;\n\n",
        "Survey on soups;;\nautumn, second wave;;\n",
        "# written by a tool\n#\n",
        "# tool; version 2; beta\n",
        "\n# tool\n",
    ],
)
def test_titles_and_comments_above_the_header_are_left_out(above: str, tmp_path: Path) -> None:
    content = above + "text;label;note\n" + "".join(f"soup {i};{'ab'[i % 2]};\n" for i in range(6))
    (tmp_path / "a.csv").write_text(content)
    with open_rows(str(tmp_path / "a.csv")) as (source, numbered):
        read = list(numbered)
    assert read[1] == (above.count("\n") + 3, {"text": "soup 1", "label": "b", "note": ""})
    assert source.notes[0].startswith("left out above the header: ")


@pytest.mark.parametrize("header", ["#id;text;label", "# id\ttext\tlabel", "my text;;", "a text;what it is;", "text;;"])
def test_a_header_with_a_comment_sign_or_unnamed_columns_is_no_title(header: str, tmp_path: Path) -> None:
    mark = "\t" if "\t" in header else ";"
    (tmp_path / "a.csv").write_text(header + "\n" + "".join(f"{i}{mark}soup{mark}{'ab'[i % 2]}\n" for i in range(6)))
    with open_rows(str(tmp_path / "a.csv")) as (source, numbered):
        assert len(list(numbered)) == 6
    assert not any("above the header" in note for note in source.notes)


@pytest.mark.parametrize(("mark", "name"), [("\t", "tab"), ("|", "pipe")])
def test_a_table_named_txt_is_refused_with_the_option_that_reads_it(mark: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"text{mark}label\n" + f"a soup{mark}x\n" * 3)
    with pytest.raises(DataError, match=rf"a\.txt: a text per line was expected.*--separator {name} reads") as caught:
        list(rows(str(tmp_path / "a.txt")))
    assert caught.value.suggestion == ("--separator", name)
    for options in (ReadOptions(separator=mark), ReadOptions(task="text-generation"), ReadOptions(every_row=True)):
        with open_rows(str(tmp_path / "a.txt"), options) as (_, numbered):
            assert len(list(numbered)) == (3 if options.separator else 4)


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        ([["Export of soups"], [None]], True),
        ([["Export of soups", None, None], ["autumn 2024"]], True),
        ([["Export of soups"], ["by Ann Berg"]], True),
        ([], False),
    ],
)
def test_titles_of_a_sheet_that_are_not_merged_are_left_out(above: list[Any], expected: bool, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for line in [*above, ["text", "label"], ["soup", "x"], ["rice", "y"]]:
        book.active.append(line)
    book.save(tmp_path / "a.xlsx")
    with open_rows(str(tmp_path / "a.xlsx")) as (source, numbered):
        table = [row for _, row in numbered]
    assert ("above the header" in "".join(source.notes)) == expected
    assert table[0] == {"text": "soup", "label": "x"}


def test_a_header_that_is_read_as_a_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"the soup {i},{'ab'[i % 2]}\n" for i in range(12))
    for header, notes in (
        (
            "sentence,class\n",
            ["the first row (sentence, class) looks like a header, and is read as a row: give no --column-names"],
        ),
        ("cold soup,a\n", []),
        ("the room 7,c\n", []),
        (
            "text,label\n",
            ["the first row (text, label) looks like a header, and is read as a row: give no --column-names"],
        ),
    ):
        path.write_text(header + rows)
        with open_rows(str(path), ReadOptions(column_names=("text", "label"))) as (source, numbered):
            list(numbered)
            assert source.notes == notes
