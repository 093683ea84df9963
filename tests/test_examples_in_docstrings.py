"""The examples of docstrings run, and print what they show; those that need files or a base are marked +SKIP."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [
    path
    for folder in ("adapters", "plugins", "cli")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]
MOST_SKIPPED = 5


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_examples_of_a_file_run(path: Path) -> None:
    folder, *parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(["adapterkit", *([] if folder == "adapters" else [folder]), *parts]))
    assert doctest.testmod(module).failed == 0
    shown = sum(len(test.examples) for test in doctest.DocTestFinder().find(module))
    assert shown == path.read_text().count(">>> "), "doctest doesn't find an example, such as one of a nested function"


def test_few_examples_are_skipped() -> None:
    skipped = sum(len(re.findall(r"doctest: \+SKIP", path.read_text())) for path in FILES)
    assert skipped <= MOST_SKIPPED
