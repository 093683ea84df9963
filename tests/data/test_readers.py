"""Every kind of file gives the rows that stand in it, and names what it can't read by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from adapterkit.data.readers import READERS, BadRow, open_rows, rows
from adapterkit.errors import DataError


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def squad(*questions: dict[str, Any], context: str = "Ann lives in Oslo.") -> str:
    return json.dumps({"data": [{"title": "T", "paragraphs": [{"context": context, "qas": list(questions)}]}]})


WHO = {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}


WHY = {"id": "q2", "question": "Why?", "answers": [], "is_impossible": True}


ABOUT = {"title": "T", "context": "Ann lives in Oslo."}


GOOD = {
    "csv": ("a.csv", "a,b\n1,x\n\n2,y\n", [(2, {"a": "1", "b": "x"}), (4, {"a": "2", "b": "y"})]),
    "csv whose bytes stand in a quote": (
        "a.csv",
        'a,b\n"caf\xe9\nbar",x\n'.encode("latin-1"),
        [(2, {"a": "caf\xe9\nbar", "b": "x"})],
    ),
    "tsv": ("a.TSV", "a\tb\r\n1\tx\r\n", [(2, {"a": "1", "b": "x"})]),
    "jsonl": ("a.jsonl", '{"a": [1, {"b": null}]}\n\n{}\n', [(1, {"a": [1, {"b": None}]}), (3, {})]),
    "json list": ("a.json", '[{"a": 1},\n {"a": 2}]', [(1, {"a": 1}), (2, {"a": 2})]),
    "json data": ("a.json", '{"version": 1, "data": [{"a": 1}]}', [(1, {"a": 1})]),
    "json that is lines": ("a.json", '{"a": 1}\n\n{"a": 2}\n', [(1, {"a": 1}), (3, {"a": 2})]),
    "json in utf-16": ("a.json", '[{"a": "\xe9"}]'.encode("utf-16"), [(1, {"a": "\xe9"})]),
    "squad": (
        "a.json",
        squad(WHO, WHY),
        [
            (1, {"id": "q1", **ABOUT, "question": "Who?", "answers": {"text": ["Ann"], "answer_start": [0]}}),
            (2, {"id": "q2", **ABOUT, "question": "Why?", "answers": {"text": [], "answer_start": []}}),
        ],
    ),
    "txt": ("a.txt", "  one \r\n\n \t\ntwo\u2028three", [(1, {"text": "  one "}), (4, {"text": "two\u2028three"})]),
    "conll with tabs": (
        "a.conll",
        "New York\tB-LOC\n!\tO\n\n\nhi\tO",
        [(1, {"tokens": ["New York", "!"], "tags": ["B-LOC", "O"]}), (5, {"tokens": ["hi"], "tags": ["O"]})],
    ),
    "conll whose sentences end with a tab": (
        "a.bio",
        "a\tO\n\t\nb\tO\n \t \n",
        [(1, {"tokens": ["a"], "tags": ["O"]}), (3, {"tokens": ["b"], "tags": ["O"]})],
    ),
    "conll of 2003": (
        "a.iob",
        "-DOCSTART- -X- -X- O\r\n\r\nEU NNP  B-NP B-ORG \r\nrejects VBZ B-VP O\r\n",
        [
            (
                3,
                {
                    "tokens": ["EU", "rejects"],
                    "column_1": ["NNP", "VBZ"],
                    "column_2": ["B-NP", "B-VP"],
                    "tags": ["B-ORG", "O"],
                },
            )
        ],
    ),
    "conll with hashes": (
        "a.conll",
        "# id = 7\n# a remark\n#\tO\n#NFL\tB\n# \tO\n\n#\tO\n",
        [(3, {"tokens": ["#", "#NFL", "#"], "tags": ["O", "B", "O"]}), (7, {"tokens": ["#"], "tags": ["O"]})],
    ),
    "conll with hashes and spaces": (
        "a.conll",
        "# id = 7\n# text\n# O\n\nx B\n",
        # '# O' could be a token and its tag, so it is one; 'text' is no tag where the others are B, I and O
        [(3, {"tokens": ["#"], "tags": ["O"]}), (5, {"tokens": ["x"], "tags": ["B"]})],
    ),
    "conll with a no-break space": ("a.conll", "a\xa0b O\n", [(1, {"tokens": ["a\xa0b"], "tags": ["O"]})]),
}


@pytest.mark.parametrize(("name", "content", "expected"), GOOD.values(), ids=GOOD)
def test_a_file_gives_its_rows(name: str, content: str | bytes, expected: list[Any], tmp_path: Path) -> None:
    assert list(rows(write(tmp_path / name, content))) == expected


def save(data: Dataset, path: Path) -> str:
    """Write a data set as the kind of file that its name says."""
    table = data.with_format("arrow")[:]
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=2)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, str(path))
    else:
        stream = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
        with stream(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return str(path)


LABELS = ClassLabel(names=["no", "yes"])


TABLE = Dataset.from_dict(
    {
        "text": ["a", "b", None],
        "label": [1, -1, 0],
        "tags": [[0, 1], [], None],
        "boxes": [[{"kind": 1, "x": 0.5}], [], None],
    },
    features=Features(
        {
            "text": Value("string"),
            "label": LABELS,
            "tags": List(LABELS),
            "boxes": List({"kind": LABELS, "x": Value("float32")}),
        }
    ),
)


ARROW_NAMES = ["a.parquet", "file.arrow", "stream.arrow", "a.feather"]


@pytest.mark.parametrize("name", ARROW_NAMES)
def test_an_arrow_file_gives_its_rows_with_the_names_of_classes(name: str, tmp_path: Path) -> None:
    assert list(rows(save(TABLE, tmp_path / name))) == [
        (1, {"text": "a", "label": "yes", "tags": ["no", "yes"], "boxes": [{"kind": "yes", "x": 0.5}]}),
        (2, {"text": "b", "label": None, "tags": [], "boxes": []}),
        (3, {"text": None, "label": "no", "tags": None, "boxes": None}),
    ]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_class_beyond_the_names_is_a_bad_row(name: str, tmp_path: Path) -> None:
    table = pa.table({"label": pa.array([1, 7, 0])}, schema=TABLE.select_columns("label").data.schema)
    path = save(Dataset(table), tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}:2: class 7, but the classes are 0 to 1: no, yes"):
        list(rows(path))
    with open_rows(path) as (source, found):
        assert [row["label"] if isinstance(row, dict) else "bad" for _, row in found] == ["yes", "bad", "no"]
        assert (source.unit, source.position()) == ("row", source.size)


@pytest.mark.parametrize("name", ARROW_NAMES)
@pytest.mark.parametrize("content", [b"", b"text,label\na,b\n", b"PAR1 and nothing else", b"ARROW1\0\0"])
def test_what_is_no_arrow_file_is_said_to_be_none(content: bytes, name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(rows(write(tmp_path / name, content)))
    expected = "a Parquet file was expected" if name == "a.parquet" else "an Arrow file was expected"
    assert f"{name}: {expected}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ARROW_NAMES)
def test_an_arrow_file_cut_short_is_an_error(name: str, tmp_path: Path) -> None:
    path = Path(save(TABLE, tmp_path / name))
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{name}: an? (Arrow|Parquet) file was expected: "):
        list(rows(str(path)))


BAD = {
    "csv with a cell too many": ("a.csv", "a,b\n1,x\n1,x,y\n2,y\n", 3, "3 cells, but the header has 2 columns", 2),
    "csv with an open quote": ("a.csv", 'a,b\n1,x\n"2,x\n3,x\n4,x\n', 3, "unexpected end of data", 3),
    "csv with text after a quote": ("a.csv", 'a,b\n"1"2,x\n3,x\n', 2, "',' expected after '\"'", 1),
    "csv with odd bytes": ("a.csv", b"a,b\n\xc3\xa9\xc3\xa9,x\n\x81,x\n3,x\n", 3, "bytes that are not UTF-8", 2),
    "tsv with odd bytes": ("a.tsv", b"a\tb\n\x81\tx\n\xc3\xa9\xc3\xa9\ty\n", 2, "bytes that are not UTF-8", 1),
    "jsonl cut short": ("a.jsonl", '{"a": 1}\n{"a": \n{"a": 2}', 2, "not JSON: Expecting value at character 8", 2),
    "jsonl with a list": ("a.jsonl", '{"a": 1}\n[1]\n', 2, "a JSON object was expected, not a list", 1),
    "jsonl nested too deep": ("a.jsonl", "[" * 100_000 + '\n{"a": 1}\n', 1, "JSON that can't be read: ", 1),
    "jsonl with odd bytes": (
        "a.jsonl",
        b'{"a": "\x81"}\n{"a": "\xc3\xa9\xc3\xa9"}\n',
        1,
        "bytes that are not UTF-8",
        1,
    ),
    "json with a number": ("a.json", '[{"a": 1}, 5]', 2, "a JSON object was expected, not a int", 1),
    "txt with odd bytes": ("a.txt", b"a\n\x81\n\xc3\xa9\xc3\xa9\n", 2, "bytes that are not UTF-8", 2),
    "conll without a tag": ("a.conll", "a\tO\n\nb\tO\nc\t\nd\tO\n\ne\tO\n", 4, "empty tag", 2),
    "conll without a token": ("a.conll", "a\tO\n\n\tO\n", 3, "empty token", 1),
    "conll with a column too few": (
        "a.conll",
        "a\tO\n\nb\nc\tO\n",
        3,
        "1 column, and 2 were expected, separated by tabs",
        1,
    ),
    "conll with a column too many": (
        "a.conll",
        "a O\n\nb c O\n",
        3,
        "3 columns, and 2 were expected, separated by s",
        1,
    ),
    "conll with tokens alone": ("a.conll", "a\nb\n", 1, "1 column, and at least 2 were expected: a token and a tag", 0),
    "conll with a remark that is none": ("a.conll", "a\tO\n\n#b\n\nc\tO\n", 3, "1 column, and 2 were expected", 2),
    "conll with odd bytes": ("a.conll", b"\xc3\xa9\xc3\xa9\tO\n\n\x81\tO\n", 3, "bytes that are not UTF-8", 1),
    "squad without the answer": (
        "a.json",
        squad(WHY, {**WHO, "answers": [{"text": "Bob", "answer_start": 0}]}, WHO),
        2,
        "question 'q1': answer 'Bob' was expected at character 0 of the context, not 'Ann'",
        2,
    ),
    "squad with an answer before the start": (
        "a.json",
        squad({**WHO, "answers": [{"text": ".", "answer_start": -2}]}),
        1,
        "question 'q1': answer '.' was expected at character -2",
        0,
    ),
    "squad without a question": ("a.json", squad({"id": "q"}), 1, "question 'q': a text was expected as 'question'", 0),
    "squad with answers as text": (
        "a.json",
        squad({**WHO, "answers": "Ann"}),
        1,
        "question 'q1': a list was expected as 'answers', not str 'Ann'",
        0,
    ),
    "spaCy's document without a list of sentences": (
        "a.json",
        '[{"id": 0, "paragraphs": [{"raw": "Ann left.", "sentences": 5}]}]',
        1,
        "a list of sentences was expected in each paragraph",
        0,
    ),
    "a tree without a list of replies": (
        "a.jsonl",
        '{"prompt": {"text": "Hi", "role": "prompter", "replies": [{"text": "No", "role": "prompter", "replies": 1}]}}',
        1,
        "a list was expected as replies",
        0,
    ),
    "squad with an answer of no place": (
        "a.json",
        squad({**WHO, "answers": [{"text": "Ann", "answer_start": "on top"}]}),
        1,
        "answer of question 'q1': a whole number was expected as 'answer_start', not str 'on top'",
        0,
    ),
    "squad with an answer that can't be": (
        "a.json",
        squad({**WHO, "is_impossible": True}),
        1,
        "question 'q1' is_impossible, and has answers; none were expected",
        0,
    ),
    "squad without a context": (
        "a.json",
        '{"data": [{"title": "T", "paragraphs": [{"qas": []}]}]}',
        1,
        "paragraph of 'T': a text was expected as 'context', not nothing",
        0,
    ),
    "squad with a stray entry": (
        "a.json",
        '{"data": [3, {"paragraphs": []}]}',
        1,
        "article: an object was expected, not a int",
        0,
    ),
}


@pytest.mark.parametrize(("name", "content", "line", "reason", "left"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_by_its_line_and_those_after_it_can_be_read(
    name: str, content: str | bytes, line: int, reason: str, left: int, tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        list(rows(path))
    assert str(caught.value).startswith(f"{path}:{line}: {reason}")
    assert "\n" not in str(caught.value)
    with open_rows(path) as (_, found):
        read = [row for _, row in found]
    assert sum(isinstance(row, dict) for row in read) == left
    assert any(isinstance(row, BadRow) for row in read)


SPOILT = {
    "csv with a column twice": ("a.csv", "\na,a\n", "a.csv:2: column 'a' occurs twice in the header"),
    "csv with an open quote on top": ("a.csv", '"a,b\n1,2\n', "a.csv:1: unexpected end of data"),
    "tsv with odd bytes on top": ("a.tsv", b"\x81\tb\n\xc3\xa9\xc3\xa9\tc\n", "a.tsv:1: bytes that are not UTF-8"),
    "json cut short": ("a.json", '[{"a": 1},\n', "a.json:2: not JSON: Expecting value at column 1"),
    "json with odd bytes": ("a.json", b'["\xc3\xa9\xc3\xa9",\n{"a": "\x81"}]', "a.json:2: bytes that are not UTF-8"),
    "json nested too deep": ("a.json", "[" * 100_000, "a.json:1: JSON that can't be read: "),
    "json of another shape": (
        "a.json",
        '{"rows": [], "n": 0}',
        'a list of objects or {"data": [...]} was expected, not an object of rows, n',
    ),
    "json that is a text": ("a.json", '"hi"', "a.json: a list of objects or {\"data\": [...]} was expected, not 'hi'"),
    "unknown kind": ("a.docx", "x", "a.docx: files that can be read end in .csv, .jsonl, .tsv, .json, .parquet, "),
    "half a character of utf-16": ("a.txt", b"\xff\xfea\0b", "a.txt: not the UTF-16 that its first bytes announce"),
}


@pytest.mark.parametrize(("name", "content", "message"), SPOILT.values(), ids=SPOILT)
def test_what_spoils_a_whole_file_is_one_line(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught, open_rows(write(tmp_path / name, content)) as (_, found):
        list(found)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


FOUR = "a 1 x B\nb 2 y O\n"


@pytest.mark.parametrize(
    ("tag_column", "tags", "others"),
    [
        (None, ["B", "O"], {"column_1", "column_2"}),
        (-1, ["B", "O"], {"column_1", "column_2"}),
        (1, ["1", "2"], {"column_2", "column_3"}),
        (-2, ["x", "y"], {"column_1", "column_3"}),
    ],
)
def test_the_column_of_the_tags_can_be_chosen(
    tag_column: int | None, tags: list[str], others: set[str], tmp_path: Path
) -> None:
    (_, row), *more = rows(write(tmp_path / "a.conll", FOUR), tag_column)
    assert (row["tokens"], row["tags"], more) == (["a", "b"], tags, [])
    assert row.keys() == {"tokens", "tags", *others}


@pytest.mark.parametrize("tag_column", [4, -5, 0, -4])
def test_a_column_of_tags_that_is_not_there_is_an_error(tag_column: int, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"tag_column={tag_column}, but there are 4 columns, numbered from 0, with the t"
    ):
        list(rows(write(tmp_path / "a.conll", FOUR), tag_column))


def test_conll_u_has_its_token_second_and_lines_that_are_no_token(tmp_path: Path) -> None:
    lines = [
        "# text = Du vin",
        "1-2\tDu\t_\t_",
        "1\tDe\tde\tADP",
        "2\tle\tle\tDET",
        "2.1\tx\t_\t_",
        "3\tvin\tvin\tNOUN",
    ]
    lines = [line if line[0] == "#" else line + "\t_" * 6 for line in lines]
    ((line, row),) = rows(write(tmp_path / "a.conllu", "\n".join(lines) + "\n\n"))
    assert (line, row["tokens"], row["tags"]) == (2, ["De", "le", "vin"], ["ADP", "DET", "NOUN"])
    assert row["column_2"] == ["de", "le", "vin"]


ELSEWHERE = {
    ".conllu",
    ".conllup",
    ".iob2",
    ".xlsx",
    ".xls",
    ".ods",
    ".ann",
    ".yml",
    ".yaml",
}  # test_tables.py, test_annotation_formats.py and others


def test_every_kind_of_file_is_tested_here() -> None:
    tested = {Path(name).suffix.lower() for name, *_ in GOOD.values()} | {Path(name).suffix for name in ARROW_NAMES}
    assert tested | ELSEWHERE == set(READERS)
