"""Folders, data sets of the Hub, and the demo data."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

from adapterkit.data import splits as data
from adapterkit.errors import DataError
from adapterkit.settings import DataOptions
from adapterkit.tasks import TextClassification
from tests.helpers.files import SHARED, folder, write
from tests.helpers.watches import Listening


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


@pytest.mark.slow
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
        (
            {"dataset": "no/such"},
            "in the package, as demo:NAME: chat, choice, ner, nli, passages, qa, requests, sentiment, sim",
        ),
        ({"dataset": "no.csv"}, "no file 'no.csv'"),
        ({"train_file": "demo:ner"}, "'demo:ner' is no file; a demo data set is named by --dataset demo:ner"),
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


def test_a_file_of_a_demo_data_set_is_had_by_the_name_of_the_set() -> None:
    with pytest.raises(DataError, match=r"'demo:ner/train.csv' is no file; .* --dataset demo:ner$"):
        data.load(DataOptions(train_file="demo:ner/train.csv"))
