"""From the files that a user has to three data sets: train, validation, test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DataError, unknown
from .readers import READERS, Row, rows
from .settings import DataOptions

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")
LINE = "__line__"
"""The column that says where in its file a row stands."""


@dataclass
class Splits:
    """The data sets of a run, each with the file it came from, and remarks on how they were made."""

    name: str
    sets: dict[str, Dataset] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, split: str) -> Dataset:
        if split not in self.sets:
            raise DataError(f"no {split} rows in '{self.name}'; there is {', '.join(self.sets) or 'nothing'}")
        return self.sets[split]

    def __contains__(self, split: str) -> bool:
        return split in self.sets

    def describe(self) -> dict[str, Any]:
        """Return what a manifest keeps of the data: file names, rows, and a digest of each file."""
        return {
            split: {
                "file": Path(self.files[split]).name,
                "rows": len(self.sets[split]),
                "sha256": _sha256(self.files[split]),
            }
            for split in self.sets
        }


def load(options: DataOptions) -> Splits:
    """Read the splits that the options name; without any, the data set demo:sentiment.

    Where there is no validation split, none is cut here: `cut_validation` does it once the task knows its labels.
    Raises `DataError` for a missing file or an unreadable row.
    """
    name, files = _files(options)
    splits = Splits(name)
    for split, path in files.items():
        splits.sets[split] = _limited(read(path), options, split)
        splits.files[split] = path
    return splits


def _files(options: DataOptions) -> tuple[str, dict[str, str]]:
    given = {"train": options.train_file, "validation": options.validation_file, "test": options.test_file}
    files = {split: path for split, path in given.items() if path}
    dataset = options.dataset or (None if files else "demo:sentiment")
    if dataset is None:
        first = Path(next(iter(files.values())))
        return (first.parent.name if first.stem in SPLITS and first.parent.name else first.stem), files
    if files:
        raise DataError(f"give --dataset {dataset} or files of your own, not both")
    if dataset.startswith("demo:"):
        return dataset.removeprefix("demo:"), demo_files(dataset.removeprefix("demo:"))
    if Path(dataset).is_dir():
        return Path(dataset).resolve().name, _folder_files(Path(dataset))
    return Path(dataset).stem, {"train": dataset}


def demo_names() -> list[str]:
    """Return the names of the data sets in the package, as in demo:NAME."""
    return sorted(p.name for p in resources.files(f"{__package__}.demo").iterdir() if p.is_dir() and p.name[0] != "_")


def demo_files(name: str) -> dict[str, str]:
    """Return the files of a data set in the package by split."""
    if name not in demo_names():
        raise DataError(unknown("demo data set", name, demo_names()))
    return _folder_files(Path(str(resources.files(f"{__package__}.demo").joinpath(name))))


def _folder_files(folder: Path) -> dict[str, str]:
    found = {p.stem: str(p) for p in sorted(folder.iterdir()) if p.suffix in READERS and p.stem in SPLITS}
    if "train" not in found:
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise DataError(f"no train file ({', '.join(sorted(READERS))}) in '{folder}'; it holds {there}")
    return {split: found[split] for split in SPLITS if split in found}


def read(path: str) -> Dataset:
    """Return the rows of a file as a data set on disk, cached by the file's content, with each row's line."""
    import datasets

    datasets.disable_progress_bars()
    _first(path)
    try:
        return datasets.Dataset.from_generator(_numbered, gen_kwargs={"path": path, "sha256": _sha256(path)})
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise DataError(f"{path}: {str(error.__cause__ or error).splitlines()[0]}") from error


def _numbered(path: str, sha256: str) -> Iterator[Row]:
    for line, row in rows(path):
        yield {**row, LINE: line}


def _first(path: str) -> None:
    """Raise `DataError` where the file can't be read or holds no row."""
    if next(rows(path), None) is None:
        raise DataError(f"{path}: no rows")


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _limited(data: Dataset, options: DataOptions, split: str) -> Dataset:
    most = options.max_train_samples if split == "train" else options.max_eval_samples
    return data if most is None or len(data) <= most else data.select(range(most))


def cut_validation(splits: Splits, percentage: int, seed: int, strata: list[str] | None) -> None:
    """Cut a validation split off the training rows, seeded, and stratified where each stratum allows it."""
    from sklearn.model_selection import train_test_split

    train = splits["train"]
    try:
        keep, cut = train_test_split(range(len(train)), test_size=percentage / 100, random_state=seed, stratify=strata)
        how = "stratified" if strata else "at random"
    except ValueError:  # a stratum of one row, or fewer validation rows than strata
        keep, cut = train_test_split(range(len(train)), test_size=percentage / 100, random_state=seed)
        how = "at random"
    splits.sets["train"], splits.sets["validation"] = train.select(sorted(keep)), train.select(sorted(cut))
    splits.files["validation"] = splits.files["train"]
    splits.notes.append(
        f"no validation rows given: {len(cut)} of {len(train)} training rows cut off, {how}, seed {seed}"
    )
