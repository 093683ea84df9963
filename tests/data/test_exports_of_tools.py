"""Files as tools export them: merged cells, spans in cells, labels that mean none, texts that are bytes to Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from adapterkit.data.readers import ReadOptions, open_rows, rows
from adapterkit.data.splits import read
from adapterkit.errors import DataError
from adapterkit.tasks import TASKS, TextClassification, infer_task


def read_all(path: Path) -> tuple[list[Any], list[str]]:
    """Return the rows of a file, and the notes of its reader."""
    with open_rows(str(path), ReadOptions()) as (source, numbered):
        return [row for _, row in numbered], source.notes


def remarks(path: Path, content: str) -> list[str]:
    """Return the remarks of a classification of a file."""
    path.write_text(content)
    data = read(str(path))
    task = TextClassification().with_columns(data.column_names).fit(data)
    return task.remarks(data, path.name, None) + task.label_remarks(data, path.name)


def test_merged_cells_of_a_sheet(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for cells in (["Reviews", None], ["label", "text"], ["good", "a film"], [None, "a hotel"], ["bad", "a soup"]):
        sheet.append(cells)
    sheet.merge_cells("A1:B1")
    sheet.merge_cells("A3:A4")
    book.save(tmp_path / "a.xlsx")
    table, notes = read_all(tmp_path / "a.xlsx")
    assert [(row["label"], row["text"]) for row in table] == [
        ("good", "a film"),
        ("good", "a hotel"),
        ("bad", "a soup"),
    ]
    assert notes == ["1 row of a merged title left out", "1 merged cell filled with its value"]


def test_cells_of_spans_as_json_or_as_python_writes_them(tmp_path: Path) -> None:
    spans = [[0, 3, "PER"]]
    for number, cell in enumerate((json.dumps(spans), "[(0, 3, 'PER')]")):
        path = tmp_path / f"{number}.csv"
        path.write_text('text,entities\n"Ann saw it.","' + cell.replace('"', '""') + '"\nno names,[]\n')
        table, _ = read_all(path)
        assert [row["ner_tags"][0] for row in table] == ["B-PER", "O"]
    path.write_text("text,label\n[1] a list,x\n[a] note,y\n")
    assert read_all(path)[0] == [{"text": "[1] a list", "label": "x"}, {"text": "[a] note", "label": "y"}]


def test_labels_that_mean_none_are_named(tmp_path: Path) -> None:
    content = "text,label\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(["x", "y", "N/A", "NULL"] * 3))
    found = remarks(tmp_path / "a.csv", content)
    assert any("6 rows have a label that often means none: 'N/A', 'NULL'" in remark for remark in found)


def test_texts_in_pythons_notation_of_bytes_are_named(tmp_path: Path) -> None:
    content = "text\tlabel\n" + "".join(f"b'text {i}'\t{i % 2}\n" for i in range(6))
    assert any(
        "6 texts in column 'text' are Python's notation of bytes" in r for r in remarks(tmp_path / "a.tsv", content)
    )


def test_numbers_with_a_decimal_comma_are_read_or_where_they_may_be_pairs_named(tmp_path: Path) -> None:
    content = "text;score\n" + "".join(f"text {i};{i % 3},5\n" for i in range(9))
    assert any("9 numbers in column 'score' with a decimal comma" in r for r in remarks(tmp_path / "a.csv", content))
    content = "text;score\n" + "".join(f"text {i};{i % 3 + 1},5\n" for i in range(9))
    assert any("--problem-type regression reads numbers" in r for r in remarks(tmp_path / "b.csv", content))


def test_inputs_and_targets_are_prompts_and_completions() -> None:
    row = {"inputs": "a question", "targets": "an answer", "task_source": "x"}
    assert infer_task(row) == "text-generation"
    assert TASKS["text-generation"]().with_columns(list(row)).describe_columns() == "inputs -> targets"


def test_words_with_colons_of_several_kinds_are_words(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("en:Ann B-PER\nde:Lee I-PER\nx:y O\n\n")
    table, notes = read_all(tmp_path / "a.conll")
    assert (table[0]["tokens"], notes) == (["en:Ann", "de:Lee", "x:y"], [])


def test_sentences_of_a_table_of_words_may_be_named_on_each_row(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("sentence_id\ttoken\tner_tag\n1\tAnn\tB-PER\n1\tsaw\tO\n2\tOslo\tB-LOC\n")
    table, _ = read_all(path)
    assert [row["tokens"] for row in table] == [["Ann", "saw"], ["Oslo"]]
    assert [row["tags"] for row in table] == [["B-PER", "O"], ["B-LOC"]]
    path.write_text("word\ttag\nAnn\tB-PER\n")
    assert read_all(path)[0] == [{"word": "Ann", "tag": "B-PER"}]


def test_a_file_without_rows_has_what_was_left_out(tmp_path: Path) -> None:
    tasks = [{"id": 1, "data": {"text": "Ann sings"}, "annotations": [], "predictions": []}]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    with pytest.raises(DataError, match=r"no rows \(1 task without an annotation left out\)"):
        read(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    "place", [{"pos": [0, 3]}, {"offset": 0, "length": 3}, {"startIndex": 0, "endIndex": 3}, {"span": [0, 3]}]
)
@pytest.mark.parametrize("label", ["type", "category", "displayName", "entityType"])
def test_places_and_labels_under_other_names(place: dict[str, Any], label: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "Ann saw it.", "entities": [{**place, label: "PER"}]}) + "\n")
    assert read_all(path)[0][0]["ner_tags"] == ["B-PER", "O", "O", "O"]


def test_several_choices_in_a_late_cell_are_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "a film,good\n" * 1000 + 'a soup,"{""choices"": [""good"", ""bad""]}"\n')
    data = read_all(path)[0]
    assert data[-1].reason == "several choices in 'label', after 1,000 rows of one"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("some text __label__a\nmore of it __label__b\n", [("some text", "a"), ("more of it", "b")]),
        ("__label__a,__label__b some, text\n__label__b more\n", [("some, text", ["a", "b"]), ("more", ["b"])]),
    ],
)
def test_labels_of_fasttext_may_be_behind_the_text_or_joined_by_commas(
    lines: str, expected: list[tuple[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(lines)
    assert [(row["text"], row["label"]) for _, row in rows(str(path))] == expected


def test_numbers_of_rows_without_a_name_are_r_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n5,so so,x\n7,it is, y\n")
    with pytest.raises(DataError, match="3 cells, but the header has 2 columns"):
        list(rows(str(path)))


def test_feather_1_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.feather"
    path.write_bytes(b"FEA1" + bytes(100))
    with pytest.raises(DataError, match="this is Feather V1; write it as V2"):
        list(rows(str(path)))


def test_parts_of_gemini_that_are_no_texts_are_refused_and_function_calls_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ask = {"role": "user", "parts": [{"text": "Weather?"}]}
    call = {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]}
    told = {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "clear"}}}]}
    path.write_text(json.dumps({"contents": [ask, call, told]}))
    ((_, row),) = rows(str(path))
    assert [message["role"] for message in row["messages"]] == ["user", "model", "tool"]
    assert row["messages"][1]["tool_calls"] == [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]
    path.write_text(json.dumps({"contents": [{"role": "user", "parts": [{"inlineData": {"data": "x"}}]}]}))
    with pytest.raises(DataError, match="a part of 'contents' is inlineData, but a text was expected"):
        list(rows(str(path)))
