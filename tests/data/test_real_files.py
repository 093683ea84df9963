"""Real data sets have as many rows as their README states."""

from __future__ import annotations

import pytest

from adapterkit.data.readers import rows
from tests.helpers.files import SHARED

COUNTS = {
    "sentiment": ("csv", 8500, 1000, 1162),
    "long-reviews": ("jsonl", 1600, 200, 200),
    "banking77": ("csv", 10003, None, 3080),
    "snips": ("jsonl", 13784, None, 700),
    "nli": ("tsv", 4300, 500, 582),
    "ner": ("conll", 3394, 1009, 1287),
    "squad": ("json", 6000, 1500, None),
    "translation": ("jsonl", 23857, 600, 600),
    "multilabel": ("jsonl", 1449, 311, 311),
    **{
        f"clinc150/{domain}": ("csv", 750, 300, 450)
        for domain in ("auto_and_commute", "banking", "credit_cards", "home", "kitchen_and_dining")
    },
    **{f"clinc150/{domain}": ("csv", 750, 300, 450) for domain in ("meta", "small_talk", "travel", "utility", "work")},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_real_files_have_as_many_rows_as_their_readme_says(name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not there")
    suffix, *counts = COUNTS[name]
    for split, count in zip(("train", "validation", "test"), counts, strict=True):
        if count is not None:
            assert sum(1 for _ in rows(str(SHARED / name / f"{split}.{suffix}"))) == count, split


@pytest.mark.parametrize(
    ("file", "count"),
    [("squad/validation-v2.json", 1502), ("text/wikipedia.txt", 2500), ("text/wikipedia-validation.txt", 300)],
)
def test_real_files_of_other_shapes_too(file: str, count: int) -> None:
    if not (SHARED / file).is_file():
        pytest.skip(f"{SHARED / file} is not there")
    read = [row for _, row in rows(str(SHARED / file))]
    assert len(read) == count
    if "squad" in file:
        assert 0 < sum(not row["answers"]["text"] for row in read) < count


def test_the_tags_of_real_files_are_all_there() -> None:
    if not (SHARED / "ner").is_dir():
        pytest.skip(f"{SHARED / 'ner'} is not there")
    read = dict(rows(str(SHARED / "ner" / "train.conll")))
    tags = {tag for row in read.values() for tag in row["tags"]}
    assert len(tags) == 13
    assert "" not in tags
    assert sum(len(row["tokens"]) for row in read.values()) == 62730
    assert read[29]["tokens"][0] == "From"  # after a line that is only a tab
