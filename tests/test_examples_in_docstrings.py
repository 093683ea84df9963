"""The examples of docstrings run, and print what they show; every public name of the reference has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

import adapterkit
from adapterkit import Base
from adapterkit.convert.onnx_export import write_onnx
from adapterkit.data.splits import demo_files
from adapterkit.discovery import strategy_class
from adapterkit.settings import TrainingOptions
from adapterkit.tasks import TASKS
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import classes
from tests.helpers.scripts import module

ROOT = Path(__file__).parent.parent
REFERENCE = module(ROOT / "docs/site/stage.py").reference
FILES = [
    path
    for folder in ("adapters", "plugins", "cli")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]
ROWS = 64


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the names that examples use beside their module's, and the folder in which they run.

    It has reviews.csv, a registry.json with the adapter `reviews` that was trained on it, and a small export to ONNX.
    """
    folder = tmp_path_factory.mktemp("examples")
    lines = Path(demo_files("sentiment")["train"]).read_text().splitlines()[: ROWS + 1]
    (folder / "reviews.csv").write_text("\n".join(lines))
    base = Base.load("minilm")
    rows, registry = folder / "reviews.csv", folder / "registry.json"
    adapterkit.run(None, registry, base=base, strategy="head-only", train_file=rows, name="reviews", watch=None)
    small = Base.load(str(tiny.make("bert", folder / "small", num_hidden_layers=1)))
    write_onnx(small, {"reviews": ("1", made.adapter(small, classes(2), "head-only", seed=1))}, folder / "exported")
    return {
        "folder": folder,
        "ak": adapterkit,
        "base": base,
        "torch": torch,
        "datasets": datasets,
        "TASKS": TASKS,
        "TrainingOptions": TrainingOptions,
        "strategy_class": strategy_class,
    }


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_examples_of_a_file_run(path: Path, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(names["folder"])
    monkeypatch.delenv("ADAPT_REGISTRY", raising=False)
    folder, *parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(["adapterkit", *([] if folder == "adapters" else [folder]), *parts]))
    assert doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS).failed == 0
    shown = sum(len(test.examples) for test in doctest.DocTestFinder().find(module))
    assert shown == path.read_text().count(">>> "), "doctest doesn't find an example, such as one of a nested function"


def documented() -> list[str]:
    """Return the names of the reference, but the errors, which are one line each."""
    pairs = [(title, f"adapterkit.{name}") for title, names in REFERENCE.API.items() for name in names]
    return [name for _, name in pairs] + [name for names in REFERENCE.BESIDE.values() for name in names]


@pytest.mark.parametrize("name", documented())
def test_a_public_name_has_types_errors_and_an_example(name: str) -> None:
    place, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(place), attribute)
    text = inspect.getdoc(value) or ""
    assert ">>> " in text
    members = {key: getattr(one, "__func__", one) for key, one in vars(value).items() if not key.startswith("_")}
    methods = [one for one in members.values() if inspect.isfunction(one)]
    functions = methods if inspect.isclass(value) else [value]
    errors = " ".join([text, *(inspect.getdoc(one) or "" for one in functions)])
    assert (inspect.isclass(value) and issubclass(value, Exception)) or re.search(r"\b[Rr]aises?\b", errors)
    for one in functions:
        bare = [p.name for p in inspect.signature(one).parameters.values() if p.annotation is p.empty]
        assert [name for name in bare if name not in ("self", "cls")] == []


def test_no_example_is_skipped() -> None:
    assert [name_of(path) for path in FILES if "doctest: +SKIP" in path.read_text()] == []
