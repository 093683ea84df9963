"""Infer the split of a file from the words in its name."""

from __future__ import annotations

import re
from collections.abc import Mapping

WORDS = {
    "train": {"train", "training", "trn"},
    "validation": {"validation", "valid", "val", "dev", "development", "eval"},
    "test": {"test", "testing", "tst"},
}
"""The words for a split in file names."""


def split_names(stems: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names for each split, by their stems: `dev` before `dev-v2.0` and `my_dev`.

    >>> split_names({"train.csv": "train", "train-old.csv": "train-old", "a.dev.csv": "a.dev"})
    {'train': ['train.csv'], 'validation': ['a.dev.csv']}
    """
    by_split = {}
    for split, words in WORDS.items():
        exact = [name for name, stem in stems.items() if stem.lower() in words]
        if names := exact or [name for name, stem in stems.items() if _splits_in(stem) == {split}]:
            by_split[split] = names
    return by_split


def _splits_in(stem: str) -> set[str]:
    parts = set(re.split("[^a-z0-9]+", stem.lower()))
    return {split for split, words in WORDS.items() if parts & words}
