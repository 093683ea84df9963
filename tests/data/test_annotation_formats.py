"""Files of annotation tools: spans as words and tags, rejected rows, choices, and what can't be read as written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapterkit.data import streams
from adapterkit.data.readers import ReadOptions, open_rows, rows
from adapterkit.data.readers.spans import Span, Tagger, cut_words
from adapterkit.data.splits import load, read
from adapterkit.errors import DataError
from adapterkit.settings import DataOptions

TEXT = "Ann Lee lives in Oslo."


def write(path: Path, content: Any) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), newline="")
    return str(path)


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def read_all(path: str, **options: Any) -> tuple[list[Any], list[str]]:
    """Return the rows of a file, and the notes of its reader."""
    with open_rows(path, ReadOptions(**options)) as (source, numbered):
        return [row for _, row in numbered], source.notes


def tagged(row: Any) -> str:
    """Return the words of a row, each with its tag unless that is O."""
    pairs = zip(row["tokens"], row["ner_tags"], strict=True)
    return " ".join(word if tag == "O" else f"{word}/{tag}" for word, tag in pairs)


# ---- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Jean-Luc's U.S. 3,5", "Jean|-|Luc|'|s|U|.|S|.|3|,|5"),
        ("李明去了北京。", "李|明|去|了|北|京|。"),
        ("iPhone手机 に", "iPhone|手|机|に"),
        ("नमस्ते दुनिया", "नमस्ते|दुनिया"),
        ("ok 👨‍👩‍👧 e\u0301t\u200be", "ok|👨‍👩‍👧|e\u0301t|e"),
        ("שלום, עולם", "שלום|,|עולם"),
        (" \n\t", ""),
    ],
)
def test_a_text_is_cut_at_spaces_and_punctuation_and_never_inside_of_a_character(text: str, words: str) -> None:
    assert "|".join(text[start:end] for start, end in cut_words(text)) == words


@pytest.mark.parametrize(
    ("spans", "expected", "counts"),
    [
        ([Span(0, 7, "P"), Span(17, 21, "L")], "Ann/B-P Lee/I-P lives in Oslo/B-L .", {}),
        ([Span(17, 21, "L"), Span(0, 3, "P"), Span(4, 7, "P")], "Ann/B-P Lee/B-P lives in Oslo/B-L .", {}),
        ([Span(0, 3, "G"), Span(0, 7, "P")], "Ann/B-P Lee/I-P lives in Oslo .", {"overlapping": 1}),
        ([Span(0, 7, "P"), Span(4, 13, "V")], "Ann/B-P Lee/I-P lives in Oslo .", {"overlapping": 1}),
        ([Span(0, 7, "P"), Span(0, 7, "P")], "Ann/B-P Lee/I-P lives in Oslo .", {}),
        ([Span(17, 30, "L"), Span(-2, 3, "P"), Span(5, 5, "E"), Span(7, 8, "S")], TEXT[:-1] + " .", {"outside": 4}),
        ([Span(3, 8, "P")], "Ann Lee/B-P lives in Oslo .", {}),
        ([Span(18, 20, "X")], "Ann Lee lives in O sl/B-X o .", {"cut": 1}),
        ([Span(1, 8, "P", "Ann Lee")], TEXT[:-1] + " .", {"elsewhere": 1}),
    ],
)
def test_spans_are_tags_and_what_is_odd_is_counted(spans: list[Span], expected: str, counts: dict[str, int]) -> None:
    tagger = Tagger()
    row = tagger.row(TEXT, spans)
    assert isinstance(row, dict)
    assert tagged(row) == expected
    assert {kind: count for kind, count in tagger.counts.items() if count} == counts


def test_words_and_text_are_consistent_so_that_predict_can_learn_how_texts_are_cut(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", lines({"text": "O'Brien-Lee, 3.5", "spans": [{"start": 2, "end": 11, "label": "P"}]})
    )
    ((row,), _) = read_all(path)
    at = 0
    for word in row["tokens"]:
        at = row["text"].index(word, at) + len(word)
    assert "".join(row["tokens"]) == row["text"].replace(" ", "")


# ---- layouts of rows

ROWS = {
    "pairs in a list": {"text": TEXT, "label": [[0, 7, "PER"]]},
    "labels": {"text": TEXT, "labels": [[0, 7, "PER"]]},
    "offsets": {"text": TEXT, "entities": [{"start_offset": 0, "end_offset": 7, "label": "PER"}]},
    "a number as label": {"text": TEXT, "annotations": [{"start_offset": 0, "end_offset": 7, "label": 3}]},
    "spans": {"text": TEXT, "spans": [{"start": 0, "end": 7, "label": "PER"}]},
    "entity groups": {"text": TEXT, "entities": [{"start": 0, "end": 7, "entity_group": "PER", "score": 0.9}]},
    "types": {"sentence": TEXT, "entities": [{"start": 0, "end": 7, "type": "PER"}]},
    "a column of any name": {"review": TEXT, "ner": [{"start": 0, "end": 7, "text": "Ann Lee", "labels": ["PER"]}]},
    "points": {
        "content": TEXT,
        "annotation": [{"label": ["PER"], "points": [{"start": 0, "end": 6, "text": "Ann Lee"}]}],
    },
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_spans_are_found_in_the_columns_of_the_tools(row: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    empty = {name: [] if isinstance(value, list) else "None here." for name, value in row.items()}
    content = lines(empty, row) if suffix == "jsonl" else [empty, row]
    table, notes = read_all(write(tmp_path / f"a.{suffix}", content))
    label = "3" if "annotations" in row else "PER"
    assert [tagged(row) for row in table] == ["None here .", f"Ann/B-{label} Lee/I-{label} lives in Oslo ."]
    assert [row["text"] for row in table] == ["None here.", TEXT]
    assert "1 span of characters in 2 texts read as words (tokens) and tags (ner_tags)" in notes[0]


@pytest.mark.parametrize(
    "row",
    [
        {"text": TEXT, "labels": ["a", "b"]},
        {"text": TEXT, "boxes": [[0, 7, 3, 4]]},
        {"tokens": ["Ann"], "ner_tags": ["B-PER"]},
        {"question": "Who?", "context": TEXT, "answers": {"text": ["Ann"], "answer_start": [0]}},
        {"question": "Ok?", "context": TEXT, "answer": "reject"},
        {"messages": [{"role": "user", "content": "hi"}], "text": "hi"},
        {"text": TEXT, "spans": [{"start": 0, "end": "7", "label": "PER"}]},
        {"text": TEXT, "spans": [True]},
        {"spans": [[0, 1, "x"]]},
    ],
)
def test_other_rows_stay_as_they_are(row: dict[str, Any], tmp_path: Path) -> None:
    assert read_all(write(tmp_path / "a.jsonl", lines(row))) == ([row], [])


def test_tables_of_arrow_hold_spans_too(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ROWS["spans"]]), tmp_path / "a.parquet")
    table, _ = read_all(str(tmp_path / "a.parquet"))
    assert tagged(table[0]) == "Ann/B-PER Lee/I-PER lives in Oslo ."


def test_an_annotation_that_is_no_span_is_counted_and_a_row_without_a_text_is_bad(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 7, "label": "PER"}]
    mixed = {"text": TEXT, "spans": [*spans, {"start": 1}, 7, None]}
    path = write(tmp_path / "a.jsonl", lines({"text": TEXT, "spans": spans}, mixed, {"text": TEXT, "spans": None}))
    table, notes = read_all(path)
    assert [tagged(row) for row in table][1:] == ["Ann/B-PER Lee/I-PER lives in Oslo .", "Ann Lee lives in Oslo ."]
    assert notes[1:] == ["annotations left out because they have no offsets or no label: 3"]
    for bad, reason in (({"text": 3}, "a text was expected as 'text', not int"), ({"text": " "}, "text is empty")):
        with pytest.raises(DataError, match=reason):
            list(rows(write(tmp_path / "b.jsonl", lines({"text": TEXT, "spans": spans}, bad))))
    with pytest.raises(DataError, match="a list of spans was expected as 'spans', not str"):
        list(rows(write(tmp_path / "b.jsonl", lines({"text": TEXT, "spans": spans}, {"text": TEXT, "spans": "x"}))))


def test_a_stream_is_read_row_by_row_as_it_is() -> None:
    given = streams.from_stream("-", io.BytesIO(lines(ROWS["spans"]).encode()), "jsonl")
    assert [row for _, row in given] == [ROWS["spans"]]


# ---- rejected rows and choices


def test_rows_that_an_annotator_rejected_are_left_out_in_training_and_answered_in_predict(tmp_path: Path) -> None:
    answers = ["accept", "reject", "ignore", "reject"]
    given = [{"text": f"t{i}", "label": "a", "_task_hash": i, "answer": answer} for i, answer in enumerate(answers)]
    path = write(tmp_path / "a.jsonl", lines(*given))
    table, notes = read_all(path)
    assert [row["text"] for row in table] == ["t0"]
    assert notes == ["2 rows with the answer 'reject' left out", "1 row with the answer 'ignore' left out"]
    notes = []
    assert len(read(path, notes=notes)) == 1
    assert len(notes) == 2
    assert [row["text"] for _, row in streams.from_file(path)] == ["t0", "t1", "t2", "t3"]


OPTIONS = [{"id": "A", "text": "a"}, {"id": "B", "text": "b"}]


@pytest.mark.parametrize(
    ("accepted", "config", "labels"),
    [
        ([["A"], ["B"]], {}, ["A", "B"]),
        ([["A"], ["A", "B"], []], {}, [["A"], ["A", "B"], []]),
        ([["A"]], {"choice_style": "multiple"}, [["A"]]),
        ([["A"], []], {"choice_style": "single"}, ["A"]),
    ],
)
def test_accepted_options_are_labels(accepted: list[Any], config: Any, labels: list[Any], tmp_path: Path) -> None:
    given = [{"text": "t", "options": OPTIONS, "accept": one, "config": config, "answer": "accept"} for one in accepted]
    table, notes = read_all(write(tmp_path / "a.jsonl", lines(*given)))
    assert [row["label"] for row in table] == labels
    assert (
        notes[-1]
        == f"accepted options read as {'lists of labels' if isinstance(labels[0], list) else 'labels'} (label)"
    )


def test_two_options_behind_a_thousand_rows_of_one_are_a_bad_row(tmp_path: Path) -> None:
    given = [{"text": "t", "options": OPTIONS, "accept": ["A"], "answer": "accept"}] * 1500
    path = write(tmp_path / "a.jsonl", lines(*given, {**given[0], "accept": ["A", "B"]}))
    with pytest.raises(DataError, match=r"a\.jsonl:1501: 2 accepted options, and one was expected"):
        list(rows(path))


# ---- BRAT and WebAnno


def test_a_pair_of_files_and_a_folder_of_pairs_are_read(tmp_path: Path) -> None:
    for split, name in (("train", "Ann Lee"), ("dev", "Bo Day")):
        write(tmp_path / split / "b.txt", f"{name} left.\r\n\r\nIn Oslo\nit rains.\n")
        write(
            tmp_path / split / "b.ann",
            f"T1\tPER 0 {len(name)}\t{name}\nT2\tPL 3 5;9 11\tx y\n\nA1\tX T1\n#1\tNote T1\tx\n",
        )
        write(tmp_path / split / "a.txt", "No names.")
        write(tmp_path / split / "a.ann", "")
    table, notes = read_all(str(tmp_path / "train"))
    assert [tagged(row) for row in table] == [
        "No names .",
        "Ann/B-PER Lee/I-PER l ef/B-PL t .",
        "In Oslo",
        "it rains .",
    ]
    assert notes[1:] == [
        "overlapping or nested spans left out (the first and outermost one counts): 1",
        "words cut where a span begins or ends inside of them: 1",
        "spans in several parts, read as a span for each part: 1",
        "2 relations, events and notes not read",
    ]
    splits = load(DataOptions(dataset=str(tmp_path)))
    assert {split: len(data) for split, data in splits.sets.items()} == {"train": 4, "validation": 4}
    assert splits["validation"]["tokens"][1][:2] == ["Bo", "Day"]
    assert len(splits.describe()["train"]["sha256"]) == 64
    assert len(read(str(tmp_path / "train" / "b.ann"))) == 3


def test_the_text_beside_a_file_of_brat_belongs_to_its_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ann", "T1\tPER 0 3\tAnn\n")
    with pytest.raises(DataError, match=r"a\.ann: the text is expected beside it, as a\.txt"):
        read(path)
    write(tmp_path / "a.txt", "Ann left")
    assert read(path)["text"][:] == ["Ann left"]
    write(tmp_path / "a.txt", "Ann sleeps")
    assert read(path)["text"][:] == ["Ann sleeps"]
    write(tmp_path / "a.ann", "T1 PER 0 3 Ann\n")
    with pytest.raises(DataError, match=r"a\.ann:1: 'T1<tab>LABEL 0 9<tab>text' was expected, not 'T1 PER"):
        read(path)


WEBANNO = "#FORMAT=WebAnno TSV 3.3\n{}\n\n\n#Text=x\n{}\n"


@pytest.mark.parametrize(
    ("head", "cells", "tags"),
    [
        ("#T_SP=custom.NamedEntity|value", ["PER[1]", "PER[1]", "_"], ["B-PER", "I-PER", "O"]),
        ("#T_SP=custom.NamedEntity|value", ["PER", "PER", "*"], ["B-PER", "B-PER", "B-span"]),
        ("#T_SP=custom.Mark|", ["*[1]", "*[1]", "_"], ["B-span", "I-span", "O"]),
        ("#T_SP=custom.Mark|kind", ["a\\_b\\|c[1]|d[2]", "a\\_b\\|c[1]", "_"], ["B-a_b|c", "I-a_b|c", "O"]),
        (
            "#T_SP=pos.POS|coarse|PosValue\n#T_SP=Named.Entity|value",
            ["N\tNN\tPER", "_\tX\t_", "_\tX\t_"],
            ["B-PER", "O", "O"],
        ),
        (
            "#T_CH=Coref|relation|type\n#T_SP=Named.Entity|id|value",
            ["_\t_\tQ1\tPER", *["_\t_\t_\t_"] * 2],
            ["B-PER", "O", "O"],
        ),
        (
            "#T_SP=Arg|ROLE_Arg:x_y|kind\n#T_SP=Named.Entity|value",
            ["_\t_\t_\tPER", *["_\t_\t_\t_"] * 2],
            ["B-PER", "O", "O"],
        ),
    ],
)
def test_a_layer_of_webanno_is_tags(head: str, cells: list[str], tags: list[str], tmp_path: Path) -> None:
    offsets = ["1-1\t0-3\tAnn", "1-2\t4-7\tLee", "1-3\t9-11\t😀"]
    content = WEBANNO.format(head, "\n".join(f"{o}\t{c}\t" for o, c in zip(offsets, cells, strict=True)))
    ((row,), _) = read_all(write(tmp_path / "a.tsv", content))
    assert (row["tokens"], row["ner_tags"], row["text"]) == (["Ann", "Lee", "😀"], tags, "Ann Lee  😀")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("#FORMAT=WebAnno TSV 2\n", "WebAnno TSV before version 3 isn't read"),
        (" # webanno.custom.NamedEntity | value\n", "WebAnno TSV before version 3 isn't read"),
        ("#FORMAT=WebAnno TSV 3.3\n#T_RL=x|y|BT_z\n", "no layer of spans"),
        (WEBANNO.format("#T_SP=N|value", "1-1\tAnn"), r"a\.tsv:6: a number, 0-4, a token and 1 or more cells"),
    ],
)
def test_what_is_no_webanno_3_is_an_error(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        list(rows(write(tmp_path / "a.tsv", content)))


def test_another_column_of_webanno_can_be_chosen(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tsv", WEBANNO.format("#T_SP=pos.POS|PosValue\n#T_SP=N|value", "1-1\t0-3\tAnn\tNN\tPER\t")
    )
    for column, tag in ((None, "B-PER"), (3, "B-NN"), (-1, "B-PER")):
        assert read_all(path, tag_column=column)[0][0]["ner_tags"] == [tag]
    with pytest.raises(DataError, match="tag_column=9, but the columns of layers are 3 to 4"):
        read_all(path, tag_column=9)


BY_TYPE = {
    "by type": {"text": TEXT, "entities": {"PER": [[0, 7]], "LOC": [[17, 21]]}},
    "by type and text, to the last character": {
        "text": TEXT,
        "label": {"PER": {"Ann Lee": [[0, 6]]}, "LOC": {"Oslo": [[17, 20]]}},
    },
    "offsets as texts": {
        "text": TEXT,
        "spans": [{"start": "0", "end": "7", "label": "PER"}, {"start": "17", "end": "21", "label": "LOC"}],
    },
    "ends that are the last character": {
        "text": TEXT,
        "entities": [
            {"start": 0, "end": 6, "type": "PER", "value": "Ann Lee"},
            {"start": 17, "end": 20, "type": "LOC", "text": "Oslo"},
        ],
    },
    "a value that is another word": {
        "text": TEXT,
        "entities": [
            {"start": 0, "end": 7, "entity": "PER", "value": "Anne Lee"},
            {"start": 17, "end": 21, "entity": "LOC", "value": "oslo"},
        ],
    },
}


@pytest.mark.parametrize("row", BY_TYPE.values(), ids=BY_TYPE)
def test_spans_by_type_and_with_other_ends_are_read(row: dict[str, Any], tmp_path: Path) -> None:
    table, notes = read_all(write(tmp_path / "a.jsonl", lines(row)))
    assert [tagged(row) for row in table] == ["Ann/B-PER Lee/I-PER lives in Oslo/B-LOC ."]
    corrected = "spans whose end is their last character, corrected by their text: 2"
    assert (corrected in notes) == ("last character" in next(name for name, other in BY_TYPE.items() if other is row))
