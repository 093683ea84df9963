"""CoNLL files as shared tasks and tools write them: numbers, source lines, comments, documents, brackets, .txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import streams
from adapterkit.data.readers import BadRow, ReadOptions, open_rows, rows
from adapterkit.data.splits import load
from adapterkit.errors import DataError
from adapterkit.settings import DataOptions


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read_all(path: str, **options: Any) -> tuple[list[Any], list[str]]:
    """Return the rows of a file, and the notes of its reader."""
    with open_rows(path, ReadOptions(**options)) as (source, numbered):
        return [row for _, row in numbered], source.notes


def sentence(*pairs: str) -> tuple[list[str], list[str]]:
    """Return the words and the tags of pairs such as "Oslo/B-LOC"."""
    split = [pair.rpartition("/") for pair in pairs]
    return [word for word, _, _ in split], [tag for _, _, tag in split]


GERMEVAL = """#\thttp://example.org/1\t[2010-01-11]\t
1\tAnna\tB-PER\tO
2\twohnt\tO\tO

#\thttp://example.org/2\t[2011-02-12]\t
1\tOslo\tB-LOC\tB-PER
2\truht\tO\tO
"""
UNIVERSAL = """# sent_id = 1
# text = Du vin
1-2\tDu\t_\t_\t_\t_\t_\t_\t_\t_
1\tDe\tde\tADP\t_\t_\t0\troot\t_\t_
2\tle\tle\tDET\t_\t_\t1\tdet\t_\t_
2.1\tbon\tbon\tADJ\t_\t_\t_\t_\t_\t_
3\tvin\tvin\tNOUN\t_\t_\t1\tobj\t_\t_
"""
ONTONOTES = """#begin document (bn/a); part 000
bn/a 0 0 Anna NNP (S* - - - - (PERSON* (ARG0* -
bn/a 0 1 Berg NNP *) - - - - *) *) -
bn/a 0 2 left VBD * left - - - * (V*) -
bn/a 0 3 Oslo NNP *) - - - - (GPE) * (1)

bn/a 0 0 Yes UH (S*) - - - - * -

#end document
"""
SKIPPED_2 = ["2 comment lines skipped"]
WORDS_1 = "words in column 1, tags in column {} of {}, from 0"

LAYOUTS = {
    "germeval": (
        "a.conll",
        GERMEVAL,
        {"tag_column": 2},
        [sentence("Anna/B-PER", "wohnt/O"), sentence("Oslo/B-LOC", "ruht/O")],
        [WORDS_1.format(2, 4), *SKIPPED_2],
    ),
    "germeval's nested tags": (
        "a.conll",
        GERMEVAL,
        {},
        [sentence("Anna/O", "wohnt/O"), sentence("Oslo/B-PER", "ruht/O")],
        [WORDS_1.format(3, 4), *SKIPPED_2],
    ),
    "source lines without numbers": (
        "a.conll",
        "#\thttp://example.org\t[2010-01-11]\nAnna\tNE\tB-PER\nruht\tVV\tO\n",
        {},
        [sentence("Anna/B-PER", "ruht/O")],
        ["1 comment line skipped"],
    ),
    "numbers from 0 by spaces": (
        "a.conll",
        "0 Anna B-PER\n1 left O\n\n0 Oslo B-LOC\n",
        {},
        [sentence("Anna/B-PER", "left/O"), sentence("Oslo/B-LOC")],
        [WORDS_1.format(2, 3)],
    ),
    "a comment as wide as the columns": (
        "a.conll",
        "# x y z\nAnna NNP I-NP B-PER\nleft VBD I-VP O\n",
        {},
        [sentence("Anna/B-PER", "left/O")],
        ["1 comment line skipped"],
    ),
    "-DOCSTART- of two kinds": (
        "a.conll",
        "-DOCSTART- -X- O\n\nAnna NNP B-PER\n\n-DOCSTART-\n\nleft VBD O\n",
        {},
        [sentence("Anna/B-PER"), sentence("left/O")],
        ["2 -DOCSTART- lines skipped"],
    ),
    "documents": (
        "a.conll",
        "#begin document x\nAnna B-PER\nleft O\n#end document\n#begin document y\nOslo B-LOC\n",
        {},
        [sentence("Anna/B-PER", "left/O"), sentence("Oslo/B-LOC")],
        ["3 comment lines skipped"],
    ),
    "ontonotes": (
        "a.conll",
        ONTONOTES,
        {},
        [sentence("Anna/B-PERSON", "Berg/I-PERSON", "left/O", "Oslo/B-GPE"), sentence("Yes/O")],
        ["words in column 3, tags in column 10 of 11, from 0, brackets read as B-, I- and O", *SKIPPED_2],
    ),
    "conll-u": (
        "a.conllu",
        UNIVERSAL,
        {},
        [sentence("De/ADP", "le/DET", "vin/NOUN")],
        [*SKIPPED_2, "1 line of a range of words (1-2) skipped", "1 empty node (2.1) skipped"],
    ),
    "conll-u by its content": (
        "a.conll",
        UNIVERSAL,
        {},
        [sentence("De/ADP", "le/DET", "vin/NOUN")],
        [
            "CoNLL-U: words in column 1, tags in column 3 of 10, from 0",
            *SKIPPED_2,
            "1 line of a range of words (1-2) skipped",
            "1 empty node (2.1) skipped",
        ],
    ),
    "lemmas of conll-u": (
        "a.conllu",
        UNIVERSAL,
        {"tag_column": 2, "word_column": 1},
        [sentence("De/de", "le/le", "vin/vin")],
        [*SKIPPED_2, "1 line of a range of words (1-2) skipped", "1 empty node (2.1) skipped"],
    ),
    "words last": (
        "a.iob",
        "B-PER Anna\nO left\n",
        {"word_column": -1, "tag_column": 0},
        [sentence("Anna/B-PER", "left/O")],
        [],
    ),
    "a number is a word": (
        "a.conll",
        "1 B-NUM\n2 B-NUM\n\n1 B-NUM\n",
        {},
        [sentence("1/B-NUM", "2/B-NUM"), sentence("1/B-NUM")],
        [],
    ),
}


@pytest.mark.parametrize(("name", "content", "options", "expected", "notes"), LAYOUTS.values(), ids=LAYOUTS)
def test_words_and_tags_are_in_the_columns_of_the_layout(
    name: str, content: str, options: dict[str, Any], expected: Any, notes: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    table, reported = read_all(path, **options)
    assert [(row["tokens"], row["tags"]) for row in table] == expected
    assert reported == notes


@pytest.mark.parametrize("word_column", [2, -3])
def test_a_column_of_words_that_is_not_there_is_an_error(word_column: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"word_column={word_column}, but there are 2 columns, numbered from 0"):
        read_all(write(tmp_path / "a.conll", "a O\n"), word_column=word_column)


TXT = "Anna B-PER\nleft O\n\nOslo B-LOC\n"


def test_a_line_that_ends_early_is_a_bad_row_in_conll_u(tmp_path: Path) -> None:
    cells = ["le", "le", "DET", "_", "_", "3", "det", "_", "_"]
    lines = ["\t".join(["1", *cells]), "\t".join(["2", *cells]), "3\tvin\tvin"]
    read_rows, _ = read_all(write(tmp_path / "a.conll", "\n".join(lines) + "\n"))
    assert read_rows == [BadRow("3 columns, and 10 were expected, separated by tabs")]


def test_a_txt_file_that_is_clearly_conll_is_read_as_it(tmp_path: Path) -> None:
    path = write(tmp_path / "train.txt", TXT)
    expected = [sentence("Anna/B-PER", "left/O"), sentence("Oslo/B-LOC")]
    for task, notes in ((None, ["read as CoNLL: a word and its tag per line"]), ("token-classification", [])):
        table, reported = read_all(path, task=task)
        assert [(row["tokens"], row["tags"]) for row in table] == expected
        assert reported == notes
    splits = load(DataOptions(train_file=path), task="text-generation")
    assert splits["train"]["text"][:2] == ["Anna B-PER", "left O"]
    assert load(DataOptions(train_file=path))["train"]["tokens"][:] == [["Anna", "left"], ["Oslo"]]


@pytest.mark.parametrize(
    "content",
    [
        "Anna left\nOslo sleeps\n",
        "All O\nNone O\n",
        "I like O\nthis is I\nshort B\n",
        "O\nB\n",
        "one line\n",
        "",
    ],
)
def test_other_texts_are_texts(content: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", content)
    assert read_all(path) == ([{"text": line} for line in content.split("\n")[:-1]], [])
    assert streams.from_file(path).texts_only


def test_a_table_between_tabs_is_no_text_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "I won\tB\nyou lost\tC\n")
    with pytest.raises(DataError, match="all lines are cells between tabs; --separator tab reads them as a table"):
        read_all(path)


def test_words_without_tags_named_as_ner_are_an_error_and_tags_of_any_kind_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Anna left\n\nOslo sleeps\n")
    assert read_all(path, task="token-classification")[0][0] == {"tokens": ["Anna"], "tags": ["left"]}
    with pytest.raises(DataError, match=r"b\.txt:1: 1 column, and at least 2 were expected: a token and a tag"):
        list(rows(write(tmp_path / "b.txt", "Anna\n"), options=ReadOptions(task="token-classification")))


def test_predict_reads_a_txt_file_as_training_did(tmp_path: Path) -> None:
    inputs = streams.from_file(write(tmp_path / "a.txt", TXT))
    assert [row["tokens"] for _, row in inputs] == [["Anna", "left"], ["Oslo"]]
    assert not inputs.texts_only
    assert [note.partition(": ")[2] for note in inputs.notes] == ["read as CoNLL: a word and its tag per line"]


def test_a_missing_txt_file_is_an_error_when_it_is_read() -> None:
    inputs = streams.from_file("nowhere.txt")
    with pytest.raises(DataError, match=r"no file 'nowhere\.txt'"):
        list(inputs)


FASTTEXT = "__label__good A fine film\n\n__label__bad\tCold  soup\n"


def test_labels_of_fasttext_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", FASTTEXT)
    expected = [{"text": "A fine film", "label": "good"}, {"text": "Cold soup", "label": "bad"}]
    assert read_all(path) == (expected, ["read as fastText: __label__ words are labels"])
    assert read_all(path, task="text-classification")[0] == expected
    assert read_all(path, task="text-generation")[0][0] == {"text": "__label__good A fine film"}


def test_several_labels_of_fasttext_are_lists_in_every_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", FASTTEXT + "__label__bad __label__rude Go away\n")
    table, notes = read_all(path)
    assert [row["label"] for row in table] == [["good"], ["bad"], ["bad", "rude"]]
    assert table[2]["text"] == "Go away"
    assert notes == ["read as fastText: __label__ words are lists of labels"]


def test_a_line_without_a_label_is_a_bad_row_in_training_and_a_text_in_predict(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "__label__good fine\n" * 20 + "no label here\n")
    with pytest.raises(DataError, match=r"a\.txt:21: no __label__, as the other lines have"):
        list(rows(path))
    assert [row["text"] for _, row in streams.from_file(path)][-1] == "no label here"


def test_tags_before_their_words_are_tags(tmp_path: Path) -> None:
    lines = "B-ACTOR\tAnna\nI-ACTOR\tBerg\nO\tsings\n\nO\tB\nB-PLOT\tO\n\n"  # words that look like tags, too
    for name in ("train.conll", "train.bio", "train.txt"):
        read, notes = read_all(write(tmp_path / name, lines))
        assert [row["tokens"] for row in read] == [["Anna", "Berg", "sings"], ["B", "O"]]
        assert [row["tags"] for row in read] == [["B-ACTOR", "I-ACTOR", "O"], ["O", "B-PLOT"]]
        assert "words in column 1, tags in column 0 of 2, from 0" in notes


def test_words_that_look_like_tags_before_tags_are_words(tmp_path: Path) -> None:
    read, _ = read_all(write(tmp_path / "train.conll", "B-2\tB-X\nO\tO\n\nI-5\tI-X\n"))
    assert [row["tokens"] for row in read] == [["B-2", "O"], ["I-5"]]


def test_a_tsv_file_of_words_and_tags_is_conll(tmp_path: Path) -> None:
    read, notes = read_all(write(tmp_path / "NER-de-train.tsv", GERMEVAL), task="token-classification")
    assert [row["tokens"] for row in read] == [["Anna", "wohnt"], ["Oslo", "ruht"]]
    assert [row["tags"] for row in read] == [["O", "O"], ["B-PER", "O"]]
    assert notes[0] == "read as CoNLL: a word and its tag per line"
    table, _ = read_all(write(tmp_path / "table.tsv", "word\ttag\nAnna\tB-PER\nsings\tO\n"))
    assert table[0] == {"word": "Anna", "tag": "B-PER"}  # a header
    named, _ = read_all(write(tmp_path / "labels.tsv", "Anna\tB\nsings\tO\n"), column_names=("text", "label"))
    assert named[0] == {"text": "Anna", "label": "B"}


@pytest.mark.parametrize(
    ("last", "reads"),
    [
        (["ann1", "ann2"], "tags in column 1 of 3"),  # annotators, one in each sentence
        (["0.9", "1", ".5"], "tags in column 1 of 3"),  # confidences
        (["NNP", "VBD"], None),  # parts of speech are tags, too
    ],
)
def test_a_last_column_that_holds_no_tags_is_none(last: list[str], reads: str | None, tmp_path: Path) -> None:
    sentences = 6
    path = tmp_path / "a.conll"
    one_each = last[0] == "ann1"
    lines = [
        f"{word} {tag} {last[(i if one_each else k) % len(last)]}\n" + "\n" * (k == 2)
        for i in range(sentences)
        for k, (word, tag) in enumerate([("Ann", "B-PER"), ("in", "O"), ("Oslo", "B-LOC")])
    ]
    path.write_text("".join(lines))
    with open_rows(str(path), ReadOptions()) as (source, numbered):
        tags = {tag for _, row in numbered for tag in row["tags"]}  # type: ignore[index]
    assert tags == ({"B-PER", "O", "B-LOC"} if reads else set(last))
    assert [reads in note for note in source.notes] == [True] if reads else source.notes == []


def test_a_column_of_tags_may_be_named_although_it_is_not_the_last(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("Ann B-PER x\nsings O x\n\nBob B-PER y\nsings O y\n")
    with open_rows(str(path), ReadOptions(tag_column=2)) as (_, numbered):
        assert [row["tags"] for _, row in numbered] == [["x", "x"], ["y", "y"]]  # type: ignore[index]


@pytest.mark.parametrize("head", ["word\ttag\n", "Word\tTag\n\n", "\nTOKEN\tNER\n"])
def test_a_line_that_names_the_columns_is_no_word(head: str, tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(head + "Ann\tB-PER\nlives\tO\n\nOslo\tB-LOC\n")
    with open_rows(str(path)) as (source, numbered):
        read = [row for _, row in numbered if isinstance(row, dict)]
    assert [row["tokens"] for row in read] == [["Ann", "lives"], ["Oslo"]]
    assert any("names the columns: left out" in note for note in source.notes)


@pytest.mark.parametrize("lines", ["token\tO\nlabel\tO\n", "word\ttag\nword\ttag\n", "The\tO\ntag\tB-X\n"])
def test_words_that_are_names_of_columns_are_words(lines: str, tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(lines)
    ((_, row),) = rows(str(path))
    assert len(row["tokens"]) == 2
