"""adapt data: what a run would read of its files, without the model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import adapterkit as ak
from adapterkit import Base, Registry
from adapterkit.errors import DataError
from adapterkit.workflows.data_overview import sources

Adapt = Callable[..., Result]
ROWS = [
    f"film number {i} is {word},{label},u{i}" for i in range(30) for word, label in (("fine", "pos"), ("bad", "neg"))
]


@pytest.fixture
def overview(adapt: Adapt, tiny_folder: Callable[..., Path]) -> Callable[..., Any]:
    """Return a function from the words of a command to the JSON of its overview."""

    def read(*words: Any, family: str = "bert") -> Any:
        done = adapt("data", *words, "--base", tiny_folder(family), "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return read


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_columns_labels_lengths_and_rows_of_a_table(overview: Callable[..., Any], tmp_path: Path) -> None:
    rows = [*ROWS, " , ,x"]
    path = write(tmp_path / "reviews.csv", "text,label,user", *rows)
    found = overview(path, "--skip-bad-rows", "--max-seq-length", 8)
    assert (found["task"], found["reads"]) == ("text-classification", "text -> label")
    assert found["rows"] == {"train": 54, "validation": 6}
    assert [(c["name"], c["read_as"], c["filled"]) for c in found["columns"]] == [
        ("text", "input", 54),
        ("label", "label", 54),
        ("user", "", 54),
    ]
    assert {label: sum(counts.values()) for label, counts in found["labels"].items()} == {"neg": 30, "pos": 30}
    (train, _) = found["lengths"]
    assert (train["split"], train["option"], train["limit"]) == ("train", "max_seq_length", 8)
    assert train["median"] <= train["most"] <= train["longest"]
    assert train["longer"] == 54 * (train["median"] > 8)
    assert [seen["answer"] for seen in found["seen"]] == [row.split(",")[1] for row in rows[:3]]
    assert all(len(seen["tokens"]) <= 8 for seen in found["seen"])
    assert any("1 bad row skipped" in remark for remark in found["remarks"])


def test_remarks_are_those_of_a_run(
    overview: Callable[..., Any], tiny_base: Base, registry: Registry, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.csv", "text,label,user", *ROWS, ROWS[0], "odd,Pos,u", "new,  neg ,u")
    found = overview(path)
    report = ak.run(base=tiny_base, registry=registry, watch=None, train_file=str(path), strategy="bitfit", epochs=1)
    assert found["remarks"] == report.remarks[: len(found["remarks"])]  # those on the training follow
    assert len(found["remarks"]) >= 4


def test_tags_stand_at_their_tokens(overview: Callable[..., Any], tmp_path: Path) -> None:
    path = write(tmp_path / "train.conll", *["Ann B-PER", "saw O", "New B-LOC", "York I-LOC", ""] * 20)
    (seen, *_) = overview(path)["seen"]
    tagged = [label for label in seen["labels"] if label]
    assert tagged == ["B-PER", "O", "B-LOC", "I-LOC"]
    assert len(seen["labels"]) == len(seen["tokens"])
    assert seen["labels"][0] == ""  # [CLS]


def test_tags_are_behind_their_tokens_in_a_pipe(adapt: Adapt, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path / "train.conll", *["Ann B-PER", "saw O", "Rome B-LOC", ""] * 20)
    done = adapt("data", path, "--base", tiny_folder(), "--first", 1)
    assert "\x1b" not in done.stdout
    assert done.stdout.count("/B-PER") == done.stdout.count("/B-LOC") == 1
    assert "/O" not in done.stdout


def test_the_other_tasks(overview: Callable[..., Any], tmp_path: Path) -> None:
    answer = {"question": "who", "context": "it was ann", "answers": {"text": ["ann"], "answer_start": [7]}}
    choice = {"context": "it rains", "endings": ["so wet", "so dry"], "label": 1}
    pair = {"prompt": "add one", "completion": "two"}
    kinds = {"qa": (answer, "bert", "ann"), "choice": (choice, "bert", "1"), "chat": (pair, "llama", "two")}
    for name, (row, family, learned) in kinds.items():
        path = write(tmp_path / f"{name}.jsonl", *[json.dumps(row)] * 20)
        (seen, *_) = overview(path, family=family)["seen"]
        assert learned in seen["answer"], name
        assert len(seen["texts"]) == (2 if name == "choice" else 1)


SOURCES = {
    "one": (["a.csv"], {"dataset": "a.csv"}),
    "demo": (["demo:ner"], {"dataset": "demo:ner"}),
    "named": (
        ["dev.csv", "train.csv", "my_test.csv"],
        {"validation": "dev.csv", "train": "train.csv", "test": "my_test.csv"},
    ),
    "unnamed": (["a.csv", "b.csv"], {"train": "a.csv", "validation": "b.csv"}),
    "half named": (["a.csv", "test.csv"], {"train": "a.csv", "test": "test.csv"}),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_splits_of_files_are_inferred_from_their_names(kind: str) -> None:
    files, wanted = SOURCES[kind]
    assert sources(files) == {name if name == "dataset" else f"{name}_file": file for name, file in wanted.items()}


def test_files_of_one_split_or_of_none_are_refused() -> None:
    with pytest.raises(DataError, match=r"dev.csv and valid.csv are of one split"):
        sources(["dev.csv", "valid.csv"])
    with pytest.raises(DataError, match="4 files, but there are 3 splits"):
        sources(["a.csv", "b.csv", "c.csv", "d.csv"])


def test_an_error_is_that_of_a_run(adapt: Adapt, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label", "good,pos", ",neg", "bad,neg")
    done = adapt("data", path)
    assert done.exit_code == 2
    error, advice = done.stderr.splitlines()
    assert "a.csv:3: text is empty" in error
    assert advice == f"try: adapt data {path} --skip-bad-rows"
    assert adapt("data", path, "--skip-bad-rows").exit_code == 0


def test_help_imports_no_torch() -> None:
    code = "import sys; from adapterkit.cli import main\ntry: main(['data', '--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


FORMATS = {
    "a.csv": (b"text;label\na film;x\nb film;y\n", "a table, separated by ';', cells may be in quotes; UTF-8"),
    "a.tsv": (b"text\tlabel\na film\tx\nb film\ty\n", "a table, separated by tabs, quotes are text; UTF-8"),
    "b.csv": (
        "text,label\na film,x\nb film,y\n".encode("utf-16"),
        "a table, separated by ',', cells may be in quotes; UTF-16",
    ),
    "a.jsonl": (b'{"text": "a film", "label": "x"}\n{"text": "b film", "label": "y"}\n', "JSON lines; UTF-8"),
    "a.conll": (b"Ann B-PER\n\nOslo B-LOC\n\n", "CoNLL columns; UTF-8"),
    "a.txt": (b"__label__x a film\n__label__y b film\n", "fastText; UTF-8"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_of_every_file_is_shown(
    name: str, adapt: Adapt, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    content, expected = FORMATS[name]
    (tmp_path / name).write_bytes(content)
    done = adapt("data", tmp_path / name, "--base", tiny_folder())
    assert done.exit_code == 0, done.output
    assert f"format     {expected}" in done.stdout.splitlines()


def test_files_of_several_splits_have_each_its_format(overview: Callable[..., Any], tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "text,label", *[row.rpartition(",")[0] for row in ROWS])
    test = write(tmp_path / "test.jsonl", '{"text": "fine", "label": "pos"}')
    formats = overview(train, test)["formats"]
    assert formats["train"].startswith("a table")
    assert formats["test"] == "JSON lines; UTF-8"


def test_intents_beside_entities_are_named_with_the_flags_that_read_them(
    overview: Callable[..., Any], tmp_path: Path
) -> None:
    rows = [
        {"text": f"fly to Oslo {i}", "intent": intent, "entities": [{"start": 7, "end": 11, "entity": "city"}]}
        for i, intent in enumerate(["book", "ask"] * 6)
    ]
    path = write(tmp_path / "nlu.jsonl", *map(json.dumps, rows))
    found = overview(path)
    (remark,) = [remark for remark in found["remarks"] if "'intent'" in remark]
    flags = "--task text-classification --label-column intent"
    assert f"{flags} reads 'intent' as the label of a text" in remark
    assert [column["read_as"] for column in found["columns"] if column["name"] == "text"] == ["beside"]
    assert next(c["example"] for c in found["columns"] if c["name"] == "tokens") == '["fly", "to", "Oslo", "0"]'
    assert overview(path, *flags.split())["reads"] == "text -> intent"


def test_a_file_of_one_row_is_shown(overview: Callable[..., Any], tmp_path: Path) -> None:
    shown = overview(write(tmp_path / "a.conll", "Ann B-PER", "saw O", ""))
    assert shown["rows"] == {"train": 1}


EXPORTS = Path(__file__).parents[1] / "fixtures" / "formats"


def test_labels_that_are_a_text_each_are_targets_without_a_flag(overview: Callable[..., Any], tmp_path: Path) -> None:
    path = EXPORTS / "doccano-seq2seq.jsonl"
    for words in ((path,), (path, "--task", "text2text-generation")):
        found = overview(*words, family="t5")
        assert (found["task"], found["reads"]) == ("text2text-generation", "text -> label")
    assert overview(path, "--label-column", "label")["task"] == "text-classification"
    assert overview(EXPORTS / "doccano-classification.jsonl")["task"] == "text-classification"
    several = write(tmp_path / "a.jsonl", *(f'{{"text": "a {i}", "label": ["no heat", "no water"]}}' for i in range(9)))
    assert overview(several)["task"] == "text-classification"
    repeated = write(tmp_path / "b.jsonl", *(f'{{"text": "a {i}", "label": ["a fine film"]}}' for i in range(9)))
    assert overview(repeated)["task"] == "text-classification"
