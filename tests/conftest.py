"""What the tests share: one thread (or ADAPTERKIT_TEST_THREADS), no network, tiny bases and little data."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
THREADS = os.environ.setdefault("ADAPTERKIT_TEST_THREADS", "1")  # of torch, in this process and those it starts
os.environ["OMP_NUM_THREADS"] = THREADS
os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # what is compared here is exact in fp32 alone
os.environ.pop("ADAPT_REGISTRY", None)
MEMORY = "/dev/shm"  # temporary files in memory, where there is room: flushing and deleting thousands takes minutes
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 6 * 2**30:
    os.environ["TMPDIR"] = tempfile.tempdir = MEMORY
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="adapterkit-tests-")  # a cache of before would hide faults
os.environ["HF_ASSETS_CACHE"] = f"{os.environ['HF_DATASETS_CACHE']}/assets"
atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from click.testing import CliRunner, Result

from adapterkit import Base, Plan, Registry
from adapterkit.testing import tiny
from tests.helpers.rows import ROWS

torch.set_num_threads(int(THREADS))
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cases of a product as slow but for some that together have every value of every parameter."""
    products: dict[str, list[tuple[pytest.Item, set[tuple[str, str]]]]] = {}
    for item in items:
        if item.get_closest_marker("product"):
            values = {(name, repr(value)) for name, value in item.callspec.params.items()}
            products.setdefault(item.nodeid.partition("[")[0], []).append((item, values))
    for cases in products.values():
        unseen = set().union(*(values for _, values in cases))
        left = list(cases)
        while unseen:
            chosen = max(left, key=lambda case: len(case[1] & unseen))
            unseen -= chosen[1]
            left.remove(chosen)
        for item, _ in left:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the garbage collector what was imported: it takes an eighth of the suite's time else."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function from a family and a seed to the folder of a tiny base, made once."""
    made: dict[tuple[str, int], Path] = {}

    def folder(family: str = "bert", seed: int = 0) -> Path:
        key = (family, seed)
        if key not in made:
            made[key] = tiny.make(family, tmp_path_factory.mktemp(family) / "base", seed=seed)
        return made[key]

    return folder


@pytest.fixture
def tiny_base(tiny_folder: Callable[..., Path]) -> Base:
    return Base.load(str(tiny_folder()))


@pytest.fixture(scope="session")
def minilm() -> Base:
    """The small real base, loaded once; every test leaves it as it was."""
    return Base.load("minilm")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry.json")


@pytest.fixture
def small_csv(tmp_path: Path) -> Path:
    """Write a file of two dozen labelled rows."""
    path = tmp_path / "rows.csv"
    good = ["lovely food", "a fine film", "great staff", "i would come again", "perfect in every way", "so happy"]
    bad = ["awful food", "a dull film", "rude staff", "i want my money back", "broken on arrival", "so angry"]
    rows = [f"{text} {i},{label}" for i in range(2) for texts, label in ((good, "pos"), (bad, "neg")) for text in texts]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


@pytest.fixture
def adapt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object, **kwargs: object) -> Result:
        from adapterkit.cli import main

        return CliRunner().invoke(main, [str(a) for a in args], prog_name="adapt", **kwargs)

    return run


@pytest.fixture
def rows_of(tmp_path: Path) -> Callable[..., Path]:
    def write(task: str, count: int = 16, row: Callable[[int], dict[str, Any]] | None = None) -> Path:
        path = tmp_path / f"{task}.jsonl"
        make = row or ROWS[task]
        path.write_text("".join(json.dumps(make(i)) + "\n" for i in range(count)))
        return path

    return write


@pytest.fixture(scope="session")
def base_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Base]:
    """Return a function from a family and a task to a tiny base, made once, with the head that it comes with."""
    made: dict[tuple[str, str], Base] = {}

    def base(family: str, task: str) -> Base:
        head = tiny.HEADS.get(task, "AutoModel")
        if (family, head) not in made:
            folder = tiny.make(family, tmp_path_factory.mktemp(family) / "base", head=head)
            made[family, head] = Base.load(str(folder))
        return made[family, head]

    return base


@pytest.fixture
def planned(small_csv: Path) -> Callable[..., Plan]:
    """Return a function from a strategy and options to a plan on two dozen rows."""

    def plan(strategy: str, **options: Any) -> Plan:
        files = {"train_file": str(small_csv), "validation_file": str(small_csv)}
        values = {"strategy": strategy, "name": "a", "num_train_epochs": 2, "head_init": "random"}
        return Plan.resolve({**files, **values, **options})

    return plan
