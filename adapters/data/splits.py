"""Load the train, validation and test splits from files, a folder, the demo data or the Hub."""

from __future__ import annotations

import difflib
import hashlib
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, unknown
from ..settings import DataOptions
from ..watch import Watch
from .arrow_cache import cached_dataset
from .column_types import LINE as LINE
from .column_types import Mixed, Parses, of_one_type
from .progress import bars_hidden
from .readers import (
    READERS,
    NumberedRows,
    ReadOptions,
    Source,
    files_of,
    format_of,
    is_data_file,
    is_data_folder,
    is_label_folder,
    open_file,
    open_rows,
    stem_of,
    table_rows,
)
from .split_names import split_names as split_names
from .validation_rows import EACH_LABEL_STAYS, none_to_cut, validation_rows

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")
HUB = "hub:"
"""The prefix of the name of a Hub data set where a file's path is expected."""


def _renamed(rows: Dataset, names: Mapping[str, str]) -> Dataset:
    changed = {old: new for old, new in names.items() if old != new}
    replaced = [new for new in changed.values() if new in rows.column_names and new not in changed]
    return rows.remove_columns(replaced).rename_columns(changed)


@dataclass
class Splits:
    """The data sets of a run, each with its file, and notes about how they were split.

    The file of a split from the Hub is "hub:owner/name", and `fingerprints` holds its fingerprint in datasets.
    `unsampled` holds the rows of a split from which the requested number was drawn. `cut` is how validation rows were
    cut off, where earlier versions cut others.
    """

    name: str
    sets: dict[str, Dataset] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)
    mixed: dict[str, dict[str, Mixed]] = field(default_factory=dict)  # by split, columns of several types, as text
    unsampled: dict[str, Dataset] = field(default_factory=dict)
    cut: str | None = None

    def add(self, split: str, rows: Dataset, mixed: dict[str, Mixed], options: DataOptions) -> None:
        """Add the rows of a split, at most as many as the options allow; see `check_types` for mixed columns."""
        self.sets[split] = rows
        self.mixed[split] = mixed
        if not mixed:
            self.draw(split, rows, options)

    def draw(self, split: str, rows: Dataset, options: DataOptions) -> None:
        """Set the rows of a split to at most as many of `rows` as the options allow."""
        self.sets[split] = limited(rows, options, split)
        if self.sets[split] is not rows:
            self.unsampled[split] = rows

    def rename(self, names: Mapping[str, str]) -> None:
        """Rename columns, old name to new; a column that has a new name already is left out.

        Raises `DataError` where a split has no column of an old name.
        """
        for split, rows in self.sets.items():
            for old in names:
                if old not in rows.column_names:
                    columns = [column for column in rows.column_names if column != LINE]
                    raise DataError(f"{self.files[split]}: {unknown('column', old, columns, known_as='there are')}")
            self.sets[split] = _renamed(rows, names)
            if split in self.unsampled:
                self.unsampled[split] = _renamed(self.unsampled[split], names)
            mixed = self.mixed.get(split, {})
            self.mixed[split] = {names.get(name, name): how for name, how in mixed.items()}

    def check_types(self, columns: Iterable[str], options: DataOptions, parses: Parses | None = None) -> None:
        """Check that the columns a task reads have values of one type each; see `of_one_type`.

        Raises `DataError` for the first row with another value, or leaves such rows out with `skip_bad_rows`.
        """
        for split, mixed in self.mixed.items():
            if mixed:
                file, rows = self.files[split], self.sets[split]
                rows = of_one_type(rows, mixed, columns, file, self.notes, skip=options.skip_bad_rows, parses=parses)
                self.draw(split, rows, options)
        self.mixed = {}

    def shown(self, split: str) -> str:
        """Return the file of a split as remarks name it: that of demo data without the folder of this installation."""
        demo, file = str(resources.files("adapterkit.demo")), self.files[split]
        return f"demo:{Path(file).relative_to(demo).as_posix()}" if Path(file).is_relative_to(demo) else file

    def __getitem__(self, split: str) -> Dataset:
        if split not in self.sets:
            raise DataError(f"no {split} rows in '{self.name}'; there is {', '.join(self.sets) or 'nothing'}")
        return self.sets[split]

    def __contains__(self, split: str) -> bool:
        return split in self.sets

    def copy(self) -> Splits:
        """Return the same data sets in mappings of their own."""
        return Splits(
            self.name,
            dict(self.sets),
            dict(self.files),
            list(self.notes),
            dict(self.fingerprints),
            dict(self.mixed),
            dict(self.unsampled),
            self.cut,
        )

    def describe(self) -> dict[str, Any]:
        """Return the description of the data for a manifest: file names, numbers of rows, and a digest of each file."""
        return {split: self._described(split) for split in self.sets}

    def _described(self, split: str) -> dict[str, Any]:
        file, rows = self.files[split], len(self.sets[split])
        cut = {"cut": self.cut} if self.cut and split == "validation" else {}
        if split in self.fingerprints:
            return {"file": file, "rows": rows, "fingerprint": self.fingerprints[split], **cut}
        return {"file": Path(file).name, "rows": rows, "sha256": _sha256(file), **cut}


def load(options: DataOptions, watch: Watch | None = None, task: str | None = None) -> Splits:
    """Read the splits that the options name; without any, the data set demo:sentiment.

    `task` is the task that the rows are for, where it is named: a .txt file is then read as this task has it.
    Where there is no validation split, `cut_validation` makes one, once the task has its labels.
    Raises `DataError` for a missing file or data set and, unless it may be skipped, an unreadable row.
    """
    dataset, files = _chosen(options)
    if dataset and _is_hub_id(dataset):
        return _load_hub(dataset, options, watch or Watch())
    if options.dataset_config_name:
        source = f"--dataset {dataset}" if dataset else "files"
        raise DataError(f"--dataset-config-name={options.dataset_config_name} is for data from the Hub, not {source}")
    name, files = _local(dataset) if dataset else (_name_of(files), files)
    splits = Splits(name, files=files)
    for split, path in files.items():
        mixed: dict[str, Mixed] = {}
        splits.add(split, _read(path, options, watch, splits.notes, mixed, task), mixed, options)
    return splits


def _chosen(options: DataOptions) -> tuple[str | None, dict[str, str]]:
    """Return the data set or the files by split that options name; raises `DataError` for both."""
    by_option = {"train": options.train_file, "validation": options.validation_file, "test": options.test_file}
    files = {split: path for split, path in by_option.items() if path}
    dataset = options.dataset or (None if files else "demo:sentiment")
    if dataset and files:
        raise DataError(f"give --dataset {dataset} or files, not both")
    return dataset, files


def check_files(options: DataOptions) -> None:
    """Raise `DataError` where a file that the options name can't be opened, before anything slow is imported."""
    dataset, files = _chosen(options)
    if dataset and not _is_hub_id(dataset):
        files = _local(dataset)[1]
    for path in files.values():
        if Path(path).is_file() or not Path(path).exists():  # a named pipe can be opened once
            open_file(path).close()


def _name_of(files: Mapping[str, str]) -> str:
    first = Path(next(iter(files.values())))
    stem = stem_of(first)
    return first.parent.name if stem in SPLITS and first.parent.name else stem


def _local(dataset: str) -> tuple[str, dict[str, str]]:
    if dataset.startswith("demo:"):
        return dataset.removeprefix("demo:"), demo_files(dataset.removeprefix("demo:"))
    if Path(dataset).is_dir():
        return Path(dataset).resolve().name, _folder_files(Path(dataset))
    return stem_of(dataset), {"train": dataset}


def demo_names() -> list[str]:
    """Return the names of the data sets in the package, as in demo:NAME."""
    return sorted(p.name for p in resources.files("adapterkit.demo").iterdir() if p.is_dir() and p.name[0] != "_")


def demo_files(name: str) -> dict[str, str]:
    """Return the files of a data set in the package by split."""
    if name not in demo_names():
        raise DataError(unknown("demo data set", name, demo_names()))
    return _folder_files(Path(str(resources.files("adapterkit.demo").joinpath(name))))


def _folder_files(folder: Path) -> dict[str, str]:
    names = sorted(p.name for p in folder.iterdir())
    if is_data_folder(folder):
        return {"train": str(folder)}
    read = [n for n in names if is_data_file(n) or is_data_folder(folder / n)]
    by_split = split_names({n: stem_of(n) for n in read})
    for split, files in by_split.items():
        if len(files) > 1:
            raise DataError(f"'{folder}' holds {' and '.join(files)}; which is the {split} file? give --{split}-file")
    if not by_split:
        holds = f"it holds {', '.join(names[:8]) or 'nothing'}"
        raise DataError(f"no train, validation or test file ({', '.join(READERS)}) in '{folder}'; {holds}")
    return {split: str(folder / files[0]) for split, files in by_split.items()}


def read(
    path: str,
    options: DataOptions | None = None,
    watch: Watch | None = None,
    notes: list[str] | None = None,
    *,
    columns: Iterable[str] | None = None,
    task: str | None = None,
    parses: Parses | None = None,
) -> Dataset:
    """Return the rows of a file as a data set on disk, each with its line.

    Rows are cached by the file's content, whatever its name. Notes about how it was read, and about bad rows where the
    options allow these to be skipped, are appended to `notes`. `columns` are those that must hold values of one type
    each, by default all; `task` is the task that they are for, where it is named. `parses`: see `of_one_type`.
    """
    options = options or DataOptions()
    if columns is None:
        return _read(path, options, watch, notes, None, task)
    mixed: dict[str, Mixed] = {}
    notes = [] if notes is None else notes
    rows = _read(path, options, watch, notes, mixed, task)
    return of_one_type(rows, mixed, columns, path, notes, skip=options.skip_bad_rows, parses=parses)


def _read(
    path: str,
    options: DataOptions,
    watch: Watch | None,
    notes: list[str] | None,
    mixed: dict[str, Mixed] | None,
    task: str | None,
) -> Dataset:
    files = files_of(path)
    digest, before = _sha256(path), _states(files)

    def check_unchanged() -> None:
        if _states(files) != before:
            raise DataError(f"{path} was changed while it was being read")

    form, suffix = format_of(path), Path(path).suffix.lower()
    reading = ReadOptions.of(options, task if form == ".txt" else None)  # other formats are the same for any task
    key = {"sha256": digest, "format": form if form == suffix else form + suffix, **asdict(reading)}
    start = partial(open_rows, path, reading)
    return cached_dataset(path, key, start, options, watch, notes, check_unchanged, mixed)


def _sha256(path: str) -> str:
    """Return the digest of a file or, where rows come from several files, of their digests."""
    digests = []
    by_label = is_label_folder(path)  # whose rows hold the files' paths and labels
    for name in files_of(path):
        with open(name, "rb") if by_label else open_file(name) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        digests.append(f"{Path(name).absolute()} {digest}" if by_label else digest)
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _states(files: Iterable[str]) -> list[tuple[int, int]]:
    return [(state.st_mtime_ns, state.st_size) for state in map(os.stat, files)]


def limited(data: Dataset, options: DataOptions, split: str) -> Dataset:
    """Cut a split to the requested number of rows: drawn at random, since files are often sorted by label."""
    most = options.max_train_samples if split == "train" else options.max_eval_samples
    if most is None or len(data) <= most:
        return data
    return data.select(sorted(random.Random(0).sample(range(len(data)), most)))


def _is_hub_id(dataset: str) -> bool:
    local = dataset.startswith("demo:") or Path(dataset).exists() or is_data_file(dataset)
    return not local and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", dataset) is not None


def _load_hub(name: str, options: DataOptions, watch: Watch) -> Splits:
    import datasets

    watch.note("data", f"'{name}' is no file and no folder: looking it up on the Hub")
    config = options.dataset_config_name
    try:
        with bars_hidden():
            loaded = datasets.load_dataset(name, config)
    except Exception as error:  # what it raises differs with the cause, and no list of it is complete
        raise DataError(_no_data_set(name, error)) from error
    source = HUB + "/".join(filter(None, (name, config)))
    splits = Splits(name.rpartition("/")[2])
    by_split = split_names({str(n): str(n) for n in loaded})
    if others := [str(n) for n in loaded if not any(n in names for names in by_split.values())]:
        splits.notes.append(f"{source}: {', '.join(others)} ignored: neither train nor validation nor test")
    for split, names in by_split.items():
        if len(names) > 1:
            splits.notes.append(f"{source} has {' and '.join(names)}; neither is used for {split}")
        elif split != "train" and _unlabelled(loaded[names[0]]):
            splits.notes.append(f"{source}: the labels of {names[0]} aren't public, so it is ignored")
        else:
            splits.add(split, _cached_table(source, loaded[names[0]], options, watch, splits.notes), {}, options)
            splits.files[split], splits.fingerprints[split] = source, loaded[names[0]]._fingerprint
    return splits


def _no_data_set(name: str, error: Exception) -> str:
    candidates = {path.name: str(path) for path in Path(".").iterdir() if path.is_dir()}
    candidates |= {demo: f"demo:{demo}" for demo in demo_names()}
    near = difflib.get_close_matches(name.rpartition("/")[2], candidates, n=1)
    hint = f"did you mean '{candidates[near[0]]}'? " if near else ""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return (
        f"'{name}' is no file and no folder, and can't be loaded from the Hub ({reason}); "
        f"{hint}in the package, as demo:NAME: {', '.join(demo_names())}"
    )


def _unlabelled(data: Dataset) -> bool:
    from datasets import ClassLabel

    labels = [column for column, feature in data.features.items() if isinstance(feature, ClassLabel)]
    return any(set(data.unique(column)) <= {-1, None} for column in labels)


def _cached_table(file: str, data: Dataset, options: DataOptions, watch: Watch, notes: list[str]) -> Dataset:
    """Return a table of datasets with the rows' numbers, and with class names in the place of class numbers."""

    def batches(source: Source) -> Iterator[Any]:
        for batch in data.with_format("arrow").iter(1000):
            yield batch
            source.reached += len(batch)

    @contextmanager
    def start() -> Iterator[tuple[Source, NumberedRows]]:
        source = Source(file, len(data))
        yield source, table_rows(source, data.features, batches(source))

    return cached_dataset(file, {"fingerprint": data._fingerprint}, start, options, watch, notes)


def cut_validation(
    splits: Splits,
    percentage: int,
    seed: int,
    strata: list[str] | None,
    labels: Sequence[Sequence[str]] = (),
) -> None:
    """Cut a validation split off the training rows, seeded, and stratified where each stratum allows it.

    Where that would leave a label without a training row, rows are chosen so that each label stays; `labels` are those
    of each row. No split is cut where every row is the last of a label.
    """
    train = splits["train"]
    cut, how = validation_rows(len(train), percentage, seed, strata, labels)
    if not cut:
        splits.notes.append(none_to_cut(len(train)))
        return
    keep = sorted(set(range(len(train))) - set(cut))
    splits.sets["train"], splits.sets["validation"] = train.select(keep), train.select(cut)
    splits.files["validation"] = splits.files["train"]
    splits.cut = how if how == EACH_LABEL_STAYS else None
    if "train" in splits.fingerprints:
        splits.fingerprints["validation"] = splits.fingerprints["train"]
    splits.notes.append(f"no validation rows: {len(cut)} of {len(train)} training rows split off, {how}, seed {seed}")
