"""Columns that the task doesn't read stop nothing, whatever they hold; those that it reads have values of one type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

import adapterkit as ak
from adapterkit import Base, Registry
from adapterkit.data import memory_splits
from adapterkit.data.splits import LINE, Splits, load, read
from adapterkit.errors import DataError
from adapterkit.settings import DataOptions

LATE = 1500  # rows, more than are looked at in one go
READ = ["text", "label"]


def jsonl(path: Path, values: list[Any], column: str = "id") -> str:
    rows = [{column: value, "text": f"text {i}", "label": "ab"[i % 2]} for i, value in enumerate(values)]
    if column in READ:
        rows = [{**row, column: value} for row, value in zip(rows, values, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


UNREAD = {
    "a number, then a text": ([1, 2], "a40", "a number", ["1", "2", "a40"]),
    "a text, then a number": (["x", "y"], 7, "text", ["x", "y", "7"]),
    "objects of other shapes": (
        [{"a": 1}, {"b": "x"}],
        {"a": "one"},
        "{a: a number, b: text}",
        ['{"a": 1}', '{"b": "x"}', '{"a": "one"}'],
    ),
    "a list, then a text": ([["x"], []], "x", "a list of text", ['["x"]', "[]", "x"]),
    "a number of more than 64 bits": ([1, 2], 2**64, "a number", ["1", "2", str(2**64)]),
    "true among numbers": ([1.5, 2], True, "a number", ["1.5", "2", "True"]),
    "half of a surrogate pair": (["x", "y"], "\ud83d", "text", ["x", "y", '"\\ud83d"']),
}
DEEP: Any = json.loads('{"a": ' * 80 + "1" + "}" * 80)


@pytest.mark.slow
@pytest.mark.parametrize("many", [1, LATE])
@pytest.mark.parametrize(("first", "then", "expected", "texts"), UNREAD.values(), ids=UNREAD)
def test_a_column_that_no_task_reads_becomes_text(
    first: list[Any], then: Any, expected: str, texts: list[str], many: int, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "a.jsonl", [*first * many, then, None])
    notes: list[str] = []
    rows = read(path, notes=notes, columns=READ)
    assert rows["id"][-4:] == [*texts, None]
    assert rows["id"][:2] == texts[:2]
    assert rows["text"][:] == [f"text {i}" for i in range(2 * many + 2)]
    assert notes == [
        f"{path}: column 'id', which the task doesn't read, is read as text: 1 row holds something else than "
        f"{expected}, first at line {2 * many + 1}"
    ]


def test_values_deeper_than_arrow_stores_are_text_or_an_error_with_their_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"a": 1}, DEEP])
    assert [json.loads(text) for text in read(path, columns=READ)["id"]] == [{"a": 1}, DEEP]
    with pytest.raises(DataError, match=r"a.jsonl:2: id is .*: nested in more than 60 levels"):
        read(path)
    assert len(read(path, DataOptions(skip_bad_rows=True))) == 1


def test_it_is_counted_from_the_cache_too(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [1, "x", 2, "y"])
    for _ in range(2):
        notes: list[str] = []
        assert read(path, notes=notes, columns=READ)["id"][:] == ["1", "x", "2", "y"]
        assert "2 rows hold something else than a number, first at line 2" in notes[0]


@pytest.mark.parametrize("column", READ)
def test_a_column_that_the_task_reads_has_no_lists_among_texts(column: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ["a", "b", ["3"], "a", ["4"]], column)
    message = f'a.jsonl:3: {column} is a list of text, \\["3"\\]; text was expected, as in the rows before'
    splits = load(DataOptions(train_file=path))
    with pytest.raises(DataError, match=message):
        splits.check_types(READ, DataOptions())
    with pytest.raises(DataError, match=message):
        read(path, columns=READ)
    skipped = load(DataOptions(train_file=path, skip_bad_rows=True))
    skipped.check_types(READ, DataOptions(skip_bad_rows=True))
    assert skipped["train"][LINE][:] == [1, 2, 4]
    assert skipped.notes[0].startswith(f"2 bad rows skipped in {path}, first at line 3: {column} is a list of")


def test_bad_rows_alone_are_an_error_where_the_task_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": [1], "label": "x"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "a", "label": 1}\n{"text": [1], "label": "x"}\n')
    assert len(read(str(path), DataOptions(skip_bad_rows=True), columns=READ)) == 1
    splits = Splits("b", {"train": read(str(path), columns=[]).select([1])}, {"train": "b"})
    splits.mixed = load(DataOptions(train_file=str(path))).mixed
    with pytest.raises(DataError, match=r"no row of b can be used: 1 bad row skipped in b"):
        splits.check_types(READ, DataOptions(skip_bad_rows=True))


FRAME = {"text": ["a", "b", "c"], "label": ["x", "y", "x"], "id": [1, "two", None]}


@pytest.mark.parametrize("rows", [pandas.DataFrame(FRAME), pandas.DataFrame(FRAME).to_dict("records")])
def test_rows_in_memory_are_treated_alike(rows: Any) -> None:
    splits = memory_splits({"train": rows}, DataOptions())
    splits.check_types(READ, DataOptions())
    assert splits["train"]["id"][:] == ["1", "two", None]
    assert "column 'id'" in splits.notes[0]
    assert "first at row 2" in splits.notes[0]
    again = memory_splits({"train": rows}, DataOptions())
    again.check_types(["id"], DataOptions())
    assert again.notes[0].endswith("several types: 1 number (or true, false) read as text, first at row 1")


def test_a_run_and_an_evaluation_read_all_rows(tiny_base: Base, registry: Registry, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "train.jsonl", [1, "x", {"of": []}] * 8)
    report = ak.run(
        base=tiny_base, registry=registry, watch=None, train_file=path, strategy="bitfit", epochs=1, name="a"
    )
    assert any("column 'id', which the task doesn't read" in remark for remark in report.remarks)
    assert report.adapter.manifest["data"]["splits"]["train"]["rows"] == 21
    assert report.model.evaluate(path).metrics.n == 24
    assert report.model.evaluate([json.loads(line) for line in Path(path).read_text().splitlines()]).metrics.n == 24


SCALARS = ["a", 5, 2.0, True, "5", None, 2**70, 1.5]


@pytest.mark.parametrize("many", [1, LATE])
def test_numbers_among_texts_are_their_digits_and_counted(many: int, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [*["a"] * many, *SCALARS[1:], *SCALARS], "text")
    notes: list[str] = []
    texts = read(path, notes=notes, columns=READ)["text"][:]
    assert texts[-16:] == ["a", *["5", "2", "True", "5", None, "1180591620717411303424", "1.5"]] * 2
    assert notes == [
        f"{path}: column 'text' holds values of several types: 10 numbers (or true, false) read as text, "
        f"first at line {many + 1}"
    ]


def test_numbers_before_texts_are_counted_too(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [1, 2.5, "x"], "label")
    notes: list[str] = []
    assert read(path, notes=notes, columns=READ)["label"][:] == ["1", "2.5", "x"]
    assert notes[0].endswith("2 numbers (or true, false) read as text, first at line 1")


def test_a_number_among_texts_is_one_text_in_every_way_of_reading_it(
    tiny_base: Base, registry: Registry, tmp_path: Path
) -> None:
    rows = [{"text": value, "label": "ab"[i % 2]} for i, value in enumerate(["x", 5, "y z", 2.0, True, "5"] * 4)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: dict[str, Any] = {
        "strategy": "bitfit",
        "epochs": 1,
        "base": tiny_base,
        "registry": registry,
        "watch": None,
    }
    of_file = ak.run(train_file=str(path), name="a", **options)
    of_rows = ak.run(train=rows, name="b", **options)
    assert [r.split("column", 1)[1][:30] for r in (*of_file.remarks, *of_rows.remarks) if "several types" in r] == [
        " 'text' holds values of severa"
    ] * 2
    inputs = [{"text": row["text"]} for row in rows[:6]]
    digits = [{"text": text} for text in ("x", "5", "y z", "2", "True", "5")]
    answers = of_file.model.predict(inputs)
    assert answers == of_file.model.predict(digits)
    assert of_file.model.evaluate(str(path)).answers[:6] == of_file.model.evaluate(rows).answers[:6]
    with ak.Pool(tiny_base, registry=registry) as pool:
        assert pool.predict(inputs, adapter="a") == pool.predict(digits, adapter="a")
    with pytest.raises(DataError, match=r"text is \{'a': 1\}, but a text was expected"):
        of_file.model.predict([{"text": {"a": 1}}])
