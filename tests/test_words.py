"""Identifiers, docstrings, help and messages use the field's words, not private ones."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("adapters", "plugins", "cli") for path in (ROOT / folder).rglob("*.py"))
NAMES = {
    "found",
    "given",
    "known",
    "lies",
    "made",
    "own",
    "said",
    "sits",
    "stands",
    "taken",
    "there",
    "told",
    "where",
    "whole",
}
"""Names that say nothing about a value: name the thing (`rows`, `options`, `metrics`, `path`)."""
PARTS = {"asked", "kept", "keeps", "lived", "said", "says", "stands", "tells", "told"}
"""Not even a part of a name."""
TEXT = re.compile(
    r"\b(asked|asks|kept|keeps|lived|said|says?|sits|stands|tells?|told|what came of|what is there"
    r"|as a whole|the whole of|goes on|given)\b",
    re.IGNORECASE,
)
"""Not in docstrings, help and messages: cached, saved, returned, reported, requested, inferred, passed."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def defined(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every name that a file defines: functions, classes, arguments, variables, attributes, imports' aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield 0, node.asname


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield docstrings, help texts and messages: every string of more than one word."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value


def private_words(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    faults = []
    for line, name in defined(tree):
        parts = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().strip("_").split("_")
        if "_".join(parts) in NAMES or PARTS & {*parts}:
            faults.append(f"{name_of(path)}:{line}: the name {name}")
    for line, text in texts(tree):
        faults += [f"{name_of(path)}:{line}: '{match[0]}' in {text.strip()[:60]!r}" for match in TEXT.finditer(text)]
    return faults


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_uses_the_fields_words(path: Path) -> None:
    assert private_words(path) == []


def test_private_words_are_noticed(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text('def told(own):\n    "Return what it says."\n    kept_rows = own\n    return kept_rows\n')
    tree = ast.parse(source.read_text())
    assert [name for _, name in defined(tree)] == ["told", "own", "kept_rows"]
    assert [match[0] for _, text in texts(tree) for match in TEXT.finditer(text)] == ["says"]


if __name__ == "__main__":
    print("\n".join(fault for path in FILES for fault in private_words(path)))
