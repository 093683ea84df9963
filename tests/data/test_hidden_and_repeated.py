"""What a file holds beside what it shows: hidden cells, keys and headers twice, special tokens, saved data sets."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from adapterkit.base import Base
from adapterkit.data import read
from adapterkit.errors import DataError
from adapterkit.tasks import task_class
from adapterkit.tasks.special_tokens import SpecialTokens
from adapterkit.tasks.unread_columns import unread_remark

ROWS = [(f"text {i} of it", "ab"[i % 2]) for i in range(8)]


def test_hidden_rows_and_columns_of_excel_are_counted(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book, path, notes = openpyxl.Workbook(), tmp_path / "a.xlsx", list[str]()
    for row in [("text", "label", "id"), *ROWS]:
        book.active.append(row)
    for hidden in (2, 3, 5):
        book.active.row_dimensions[hidden].hidden = True
    book.active.column_dimensions["C"].hidden = True
    book.save(path)
    assert read(str(path), notes=notes).num_rows == 8
    assert f"{path}: 3 hidden rows are read like the others" in notes
    assert f"{path}: 1 hidden column is read like the others" in notes


def test_a_visible_sheet_is_read_before_a_hidden_one(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book, path, notes = openpyxl.Workbook(), tmp_path / "a.xlsx", list[str]()
    for row in (("text", "label"), ("old", "x")):
        book.active.append(row)
    book.active.title, book.active.sheet_state = "old", "hidden"
    shown = book.create_sheet("new & true")
    for row in [("text", "label"), *ROWS]:
        shown.append(row)
    shown.row_dimensions[4].hidden = True
    book.active = 1
    book.save(path)
    assert read(str(path), notes=notes)["text"][:] == [text for text, _ in ROWS]
    assert f"{path}: sheet 'new & true' is read; not read: old (hidden)" in notes
    assert f"{path}: 1 hidden row is read like the others" in notes


def test_filtered_rows_of_an_ods_sheet_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    lines = [("", ("text", "label")), *((' table:visibility="filter"' * (i % 2), row) for i, row in enumerate(ROWS))]
    rows = "".join(f"<table:table-row{how}>{''.join(map(cell.format, row))}</table:table-row>" for how, row in lines)
    names = ("office", "table", "text")
    spaces = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in names)
    path, notes = tmp_path / "a.ods", list[str]()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        body = f'<table:table table:name="one">{rows}</table:table>'
        archive.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>{body}"
            "</office:spreadsheet></office:body></office:document-content>",
        )
    assert read(str(path), notes=notes).num_rows == 8
    assert f"{path}: 4 hidden rows are read like the others" in notes


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_twice_in_an_object_is_counted_and_named(name: str, tmp_path: Path) -> None:
    objects = ['{"text": "a b", "label": "x", "label": "y"}', '{"text": "c d", "label": "x", "meta": {"k": 1, "k": 2}}']
    path, notes = tmp_path / name, list[str]()
    path.write_text("\n".join(objects) if name == "a.jsonl" else f"[{', '.join(objects)}]")
    assert read(str(path), notes=notes)["label"][:] == ["y", "x"]
    assert notes == [f"{path}: 2 objects have a key twice ('label', 'k'): the last value is read"]


def test_the_header_of_a_second_file_with_a_mark_is_no_row(tmp_path: Path) -> None:
    part = "\ufefftext,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)
    path, notes = tmp_path / "a.csv", list[str]()
    path.write_text(part + part)
    assert set(read(str(path), notes=notes)["label"][:]) == {"a", "b"}
    assert notes == [f"{path}: 1 row repeats the header: left out"]


def test_of_columns_that_differ_in_case_the_usual_one_is_read_and_the_other_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,Text,label\n" + "".join(f"{text},other {text},{label}\n" for text, label in ROWS))
    rows = read(str(path))
    task = task_class("text-classification")().with_columns(rows.column_names)
    assert task.describe_columns() == "text -> label"
    assert "'Text'" in unread_remark(task, rows, "a.csv")[0]


@pytest.mark.parametrize(
    ("value", "named"),
    [("a </s> b <s>", "'</s>', '<s>'"), (["a", "</s>"], "'</s>'"), ([{"content": "a <pad>"}], "'<pad>'")],
)
def test_special_tokens_inside_of_texts_are_counted(value: object, named: str, tiny_base: Base) -> None:
    cells = [value, "plain <S> text", None]
    (remark,) = SpecialTokens(tiny_base.tokenizer).remarks("text", cells)
    assert (
        remark == f"1 row holds special tokens of the tokenizer in column 'text' ({named}): read as tokens, not as text"
    )


def _saved(folder: Path, shards: int = 1) -> Path:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["b", "a"])})
    rows = Dataset.from_dict({"text": [t for t, _ in ROWS], "label": [int(x == "a") for _, x in ROWS]}, features)
    DatasetDict({"train": rows, "test": rows.select([1, 2])}).save_to_disk(
        folder, num_shards={"train": shards, "test": 1}
    )
    return folder


def test_a_saved_data_set_is_read_with_its_splits_and_class_names(tmp_path: Path, adapt: Callable[..., Result]) -> None:
    folder = _saved(tmp_path / "set", shards=3)
    rows = read(str(folder / "train"))
    assert (rows["text"][:], rows["label"][:]) == ([t for t, _ in ROWS], [x for _, x in ROWS])
    shown = adapt("data", folder, "--base", "minilm", "--first", "0", "--json")
    assert json.loads(shown.stdout)["rows"] == {"train": 8, "test": 2}


def test_a_saved_data_set_that_lacks_a_file_or_has_indices_is_refused(tmp_path: Path) -> None:
    train = _saved(tmp_path / "set", shards=2) / "train"
    state = json.loads((train / "state.json").read_text())
    (train / "state.json").write_text(json.dumps({**state, "_indices_data_files": [{"filename": "i.arrow"}]}))
    with pytest.raises(DataError, match=r"rows chosen by indices can't be read; call flatten_indices\(\)"):
        read(str(train))
    (train / "state.json").write_text(json.dumps(state))
    (train / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow is missing, which state.json lists"):
        read(str(train))
    (train / "state.json").write_text("[]")
    with pytest.raises(DataError, match="the state of a data set of save_to_disk was expected"):
        read(str(train))


def test_texts_of_mostly_unknown_words_are_counted(tiny_base: Base) -> None:
    known = ["the text"] * 3
    tokens = SpecialTokens(tiny_base.tokenizer)
    assert list(tokens.unknown_remarks("text", known)) == []
    (remark,) = tokens.unknown_remarks("text", [*known, "哪聊 ཞིབ ꯃꯅꯤ", ["ꯃꯅꯤ"], None])
    unknown = tiny_base.tokenizer.unk_token
    assert (
        remark == f"2 of 5 texts in column 'text' are mostly words that the tokenizer doesn't know, read as {unknown}"
    )
