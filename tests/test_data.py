"""Files are read as they come, and a row that can't be used is named by file and line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pytest

from adapterkit.data import arrow_cache
from adapterkit.data import splits as data
from adapterkit.data.readers import rows
from adapterkit.errors import DataError, OptionError
from adapterkit.settings import DataOptions
from adapterkit.tasks import TextClassification
from adapterkit.watch import Watch

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is read in a folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder))
    return folder


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
        ("a.csv", "text,text\nhi,x\n", "a.csv:1: column 'text' occurs twice in the header"),
        ("a.csv", b"text,label\nhi,x\n\x81\xff,x\n", "a.csv: not UTF-8, and the encoding isn't clear: "),
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
        assert splits.notes == [f"2 bad rows skipped in {path}, first at line 3: empty tag"]
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


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nold,x\n")
    assert data.read(path)["text"][:] == ["old"]
    assert data.read(write(Path(path), "text,label\nnew,x\n"))["text"][:] == ["new"]


def test_content_that_was_read_is_not_read_again_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    writes: list[Path] = []
    really = arrow_cache._write
    monkeypatch.setattr(
        arrow_cache, "_write", lambda start, target, *more: writes.append(target) or really(start, target, *more)
    )
    content = "a O\n\nb x O\n"
    bad = DataOptions(skip_bad_rows=True)
    data.read(write(tmp_path / "a.conll", content), bad)
    notes: list[str] = []
    read = data.read(write(tmp_path / "moved.conll", content), bad, notes=notes)
    assert read["tokens"][:] == [["a"]]
    assert notes[0].startswith(f"1 bad row skipped in {tmp_path / 'moved.conll'}, at line 3: 3 columns")
    assert len(writes) == 1
    data.read(write(tmp_path / "a.txt", content), bad)  # the same bytes, of another kind
    assert len(writes) == 2
    monkeypatch.setattr(arrow_cache, "VERSION", arrow_cache.VERSION + 1)
    data.read(str(tmp_path / "a.txt"), bad)
    assert len(writes) == 3
    options = [DataOptions(), DataOptions(tag_column=1)]
    path = write(tmp_path / "b.conll", "a x O\n")
    assert [data.read(path, o)["tags"][0] for o in options] == [["O"], ["x"]]
    assert [p.suffix for p in (cache / "adapterkit").iterdir()].count(".arrow") == 5
    assert {p.suffix for p in (cache / "adapterkit").iterdir()} == {".arrow", ".json"}  # nothing half done


def test_nothing_is_kept_of_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    path = write(tmp_path / "a.csv", "text,label\nold,x\n")
    really = arrow_cache._write

    def late(*given: Any) -> Any:
        os.utime(write(Path(path), "text,label\nnew,x\n"), ns=(0, 0))
        return really(*given)

    monkeypatch.setattr(arrow_cache, "_write", late)
    with pytest.raises(DataError, match=r"a.csv was changed while it was being read"):
        data.read(path)
    assert list((cache / "adapterkit").iterdir()) == []


def test_a_cache_that_can_not_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/nowhere")
    with pytest.raises(DataError, match=r"a.csv can't be cached in '/proc/nowhere/adapterkit': "):
        data.read(write(tmp_path / "a.csv", "a\n1\n"))


class Listening(Watch):
    """Keep what a watch hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bars: list[tuple[str, int]] = []
        self.done = 0

    def note(self, topic: str, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        self.bars.append((title, total))
        yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        assert steps >= 0
        self.done += steps


def test_a_bar_is_shown_only_where_reading_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "train.csv", "a,b\n" + "x,y\n" * 5000)
    quick, slow = Listening(), Listening()
    data.load(DataOptions(train_file=path), quick)
    assert quick.bars == []
    monkeypatch.setattr(arrow_cache, "SLOW", 0.0)
    data.load(DataOptions(train_file=write(tmp_path / "train.csv", "a,b\n" + "x,z\n" * 5000)), slow)
    assert slow.bars == [("reading train.csv", 20004)]
    assert 0 < slow.done <= 20004


def folder(path: Path, *names: str) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        write(path / name, f"text\n{name}\n" if name.endswith(".csv") else '[{"text": "x"}]')
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.csv", "validation.csv", "test.csv"], {"train": 0, "validation": 1, "test": 2}),
        (["Training.CSV", "dev.json", "tst.csv"], {"train": 0, "validation": 1, "test": 2}),
        (["sentiment-train.csv", "dev-v2.0.json"], {"train": 0, "validation": 1}),
        (["train.0.csv", "my.eval.csv", "README.csv"], {"train": 0, "validation": 1}),
        (["train.csv", "train-old.csv", "valid.csv", "dev-v2.json"], {"train": 0, "validation": 2}),
        (["trn.csv", "train-dev.csv", "latest.csv", "notes.md"], {"train": 0}),
        (["test.csv"], {"test": 0}),
    ],
)
def test_the_files_of_a_folder_are_found_by_their_names(
    names: list[str], expected: dict[str, int], tmp_path: Path
) -> None:
    where = folder(tmp_path / "mine", *[name.replace(".CSV", ".csv") for name in names])
    splits = data.load(DataOptions(dataset=str(where)))
    found = {split: Path(file).name.lower() for split, file in splits.files.items()}
    assert found == {split: names[i].lower() for split, i in expected.items()}
    assert list(splits.sets) == list(expected)
    assert splits.name == "mine"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "train.json"], "holds train.csv and train.json; which is the train file? give --train-file"),
        (["a-train.csv", "b-train.csv"], "holds a-train.csv and b-train.csv; which is the train file?"),
        (
            ["train.csv", "dev.csv", "val.csv"],
            "holds dev.csv and val.csv; which is the validation file? give --validat",
        ),
        (["reviews.csv"], "it holds reviews.csv"),
        ([], "it holds nothing"),
    ],
)
def test_a_folder_that_does_not_say_which_file_is_which_is_an_error(
    names: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        data.load(DataOptions(dataset=str(folder(tmp_path / "mine", *names))))
    assert message in str(caught.value)


def test_a_folder_without_train_rows_can_be_measured_on(tmp_path: Path) -> None:
    splits = data.load(DataOptions(dataset=str(folder(tmp_path / "mine", "test.csv"))))
    with pytest.raises(DataError, match="no train rows in 'mine'; there is test"):
        splits["train"]


@pytest.mark.parametrize("name", ["squad", "sentiment", "ner", "translation", "multilabel"])
def test_real_folders_are_data_sets(name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not there")
    splits = data.load(DataOptions(dataset=str(SHARED / name), max_eval_samples=50))
    assert {"train", "validation"} <= splits.sets.keys()
    assert len(splits["validation"]) == 50
    assert splits.files["validation"].rpartition("/")[2].startswith("validation.")
    assert set(splits.describe()["train"]) == {"file", "rows", "sha256"}


def hub(monkeypatch: pytest.MonkeyPatch, **splits: datasets.Dataset) -> list[Any]:
    asked: list[Any] = []

    def load_dataset(*given: Any) -> datasets.DatasetDict:
        asked.append(given)
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def labelled(*labels: int) -> datasets.Dataset:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    return datasets.Dataset.from_dict({"text": [f"t{i}" for i in labels], "label": list(labels)}, features=features)


def test_a_data_set_of_the_hub_has_names_for_labels_and_numbers_for_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {"train": labelled(1, 0, 1), "dev": labelled(0), "test": labelled(-1, -1), "unsupervised": labelled(-1)}
    asked = hub(monkeypatch, **sets)
    watch = Listening()
    splits = data.load(DataOptions(dataset="owner/name", dataset_config_name="part", max_train_samples=2), watch)
    assert asked == [("owner/name", "part")]
    assert splits["train"][:] == {"text": ["t0", "t1"], "label": ["no", "yes"], data.LINE: [2, 3]}
    assert splits["validation"]["label"][:] == ["no"]
    assert splits.files == {"train": "hub:owner/name/part", "validation": "hub:owner/name/part"}
    assert splits.name == "name"
    assert splits.notes == [
        "hub:owner/name/part: unsupervised ignored: neither train nor validation nor test",
        "hub:owner/name/part: the labels of test aren't public, so it is ignored",
    ]
    assert watch.notes == ["'owner/name' is no file and no folder: looking it up on the Hub"]
    fingerprint = sets["train"]._fingerprint
    assert splits.describe()["train"] == {"file": "hub:owner/name/part", "rows": 2, "fingerprint": fingerprint}


def test_two_splits_of_the_hub_for_one_of_ours_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, train=labelled(*[0, 1] * 10), validation_a=labelled(0), validation_b=labelled(1))
    splits = data.load(DataOptions(dataset="glue"))
    assert splits.notes == ["hub:glue has validation_a and validation_b; neither is used for validation"]
    data.cut_validation(splits, 10, 1, None)
    assert splits.describe()["validation"]["fingerprint"] == splits.describe()["train"]["fingerprint"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "sentimnt"}, "'sentimnt' is no file and no folder, and can't be loaded from the Hub ("),
        ({"dataset": "owner/sentimnt"}, "did you mean 'demo:sentiment'?"),
        ({"dataset": "bankng"}, "did you mean 'banking'?"),
        ({"dataset": "no/such"}, "in the package, as demo:NAME: chat, choice, ner, nli, qa, requests, sentiment, sim"),
        ({"dataset": "no.csv"}, "no file 'no.csv'"),
        ({"dataset": "./no"}, "./no: files that can be read end in .csv, .jsonl, .tsv, "),
        (
            {"dataset": "demo:qa", "dataset_config_name": "x"},
            "--dataset-config-name=x is for data from the Hub, not --d",
        ),
        ({"train_file": "a.csv", "dataset_config_name": "x"}, "is for data from the Hub, not files"),
        ({"train_file": "a.csv", "dataset": "owner/name"}, "give --dataset owner/name or files, not both"),
    ],
)
def test_a_data_set_that_is_nowhere_is_one_line(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "banking").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        data.load(DataOptions(**options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


PEAK = """
import sys
from pathlib import Path
from adapterkit.data import splits as data
rows = len(data.read(sys.argv[1]))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(rows, int(peak.split()[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells the memory of a process")
def test_a_big_file_does_not_need_its_size_in_memory(tmp_path: Path, cache: Path) -> None:
    row = json.dumps({"text": "so it goes " * 180, "labels": ["a", "b"]}) + "\n"
    count = 200_000_000 // len(row)
    write(tmp_path / "small.jsonl", row)
    with open(tmp_path / "big.jsonl", "w") as file:
        for _ in range(count - 1):
            file.write(row)
        file.write(json.dumps({"text": None, "score": 1.5}))  # a new column at the end: it is read twice

    def peak(name: str) -> list[int]:
        env = {**os.environ, "HF_DATASETS_CACHE": str(cache)}
        command = [sys.executable, "-c", PEAK, str(tmp_path / name)]
        return [int(n) for n in subprocess.run(command, env=env, check=True, capture_output=True).stdout.split()]

    (one, small), (many, big) = peak("small.jsonl"), peak("big.jsonl")
    (tmp_path / "big.jsonl").unlink()
    assert (one, many) == (1, count)
    assert big - small < 150


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


@pytest.mark.parametrize("name", data.demo_names())
def test_every_demo_data_set_can_be_loaded(name: str) -> None:
    splits = data.load(DataOptions(dataset=f"demo:{name}"))
    assert {"train", "validation"} <= splits.sets.keys()
    assert all(len(rows) >= 8 for rows in splits.sets.values())
    assert splits.notes == []


def test_the_demo_data_sets_are_of_every_task() -> None:
    names = "chat choice ner nli qa requests sentiment similarity stories summaries topics translation"
    assert set(names.split()) <= set(data.demo_names())


def test_a_limit_draws_rows_at_random_and_the_same_again(tmp_path: Path) -> None:
    lines = [f"t{i},{'a' if i < 50 else 'b'}" for i in range(100)]  # sorted by label, as files are
    options = DataOptions(train_file=write(tmp_path / "a.csv", "\n".join(["text,label", *lines])), max_train_samples=20)
    first, again = (data.load(options)["train"] for _ in range(2))
    assert len(first) == 20
    assert set(first["label"]) == {"a", "b"}
    assert first["text"][:] == again["text"][:]


def test_reading_and_tokenizing_leave_the_settings_of_the_process_alone(tmp_path: Path, tiny_base: Any) -> None:
    import datasets

    from adapterkit.features.tokenize import tokenized

    limit, hidden = csv.field_size_limit(), datasets.are_progress_bars_disabled()
    datasets.enable_progress_bars()
    try:
        path = tmp_path / "rows.csv"
        path.write_text(f"text,label\n{'long ' * 40_000},a\nshort,b\n")
        found = data.read(str(path))
        assert len(found[0]["text"]) == 200_000  # more than csv reads in a cell by default
        task = TextClassification().with_columns(found.column_names).fit(found)
        tokenized(task, found, tiny_base, labelled=True)
        assert csv.field_size_limit() == limit
        assert not datasets.are_progress_bars_disabled()
    finally:
        if hidden:
            datasets.disable_progress_bars()
