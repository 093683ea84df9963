"""Adapters and registries written before the code became packages are read today, and today's files are the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from adapterkit import Adapter, Base, Registry
from adapterkit.store.publish import publish_files
from tests.fixtures import make
from tests.helpers.files import ROOT

BEFORE = ROOT / "tests" / "fixtures" / "before_the_move"
EXPECTED: dict[str, list[dict[str, Any]]] = json.loads((BEFORE / "predictions.json").read_text())
TOLERANCE = 2e-5  # of a score: fp32 sums of at most 80 terms through 3 blocks, on any CPU


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the fixture, as the working directory."""
    folder = shutil.copytree(BEFORE, tmp_path / "before")
    monkeypatch.chdir(folder)
    return folder


def folder_of(before: Path, name: str) -> Path:
    (folder,) = (path for path in (before / "store" / name).iterdir() if path.is_dir())
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def paths(value: Any, at: str = "") -> set[str]:
    """Return the path of every key in a JSON value, with the types of leaves."""
    if isinstance(value, dict):
        return {path for key, inner in value.items() for path in paths(inner, f"{at}/{key}")}
    return {f"{at}: {type(value).__name__}"}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_adapter_of_before_predicts_what_it_predicted(name: str, before: Path) -> None:
    rows = make.predictions(name)
    assert len(rows) == len(EXPECTED[name]) > 1
    for row, expected in zip(rows, EXPECTED[name], strict=True):
        assert row == approximately(expected)


def approximately(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: approximately(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [approximately(inner) for inner in value]
    return pytest.approx(value, abs=TOLERANCE, rel=TOLERANCE) if isinstance(value, float) else value


@pytest.mark.parametrize("name", EXPECTED)
def test_an_adapter_of_before_is_written_in_the_same_bytes(name: str, before: Path) -> None:
    folder = folder_of(before, name)
    stored = files_in(folder)
    written = Adapter.load(folder).files()
    assert {file: stored[file] for file in written} == written
    assert set(stored) - set(written) == {"README.md", "entry.json", "run.yaml"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_version_published_today_has_the_files_the_digest_and_the_entry_of_before(
    name: str, before: Path, registry: Registry
) -> None:
    folder = folder_of(before, name)
    stored = files_in(folder)
    written = {**Adapter.load(folder).files(), "run.yaml": stored["run.yaml"]}
    entry = json.loads(stored["entry.json"])
    details = {key: entry[key] for key in ("seconds", "encoded", "from") if key in entry}
    published = publish_files(registry, name, written, **details)
    again = registry.store / name / published.version
    assert published.version == folder.name
    assert {path.name for path in again.iterdir()} == set(stored)
    assert paths(json.loads((again / "entry.json").read_bytes())) == paths(entry)


def test_a_registry_of_before_is_whole_today_and_is_written_in_the_same_bytes(
    before: Path, adapt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(before)
    index = (before / "registry.json").read_bytes()
    registry = Registry(before / "registry.json")
    assert set(registry.adapters()) == set(EXPECTED)
    assert registry.load("lora@released").manifest == registry.load("lora").manifest
    for command in (["verify", "--all"], ["doctor"]):
        result = adapt(*command)
        assert result.exit_code == 0, result.output
    assert adapt("tag", "lora", "another").exit_code == 0
    assert (before / "registry.json").read_bytes() != index
    assert adapt("tag", "lora", "another", "--delete").exit_code == 0
    assert (before / "registry.json").read_bytes() == index
    assert adapt("registry", "rebuild").exit_code == 0
    assert (before / "registry.json").read_bytes() == index


@pytest.mark.parametrize("name", ["lora", "probe", "encoded", "added", "questions", "stories", "peft"])
def test_what_is_trained_today_has_the_files_and_keys_of_before(name: str, before: Path) -> None:
    stored = files_in(folder_of(before, name))
    shutil.rmtree(before / "store")
    (before / "registry.json").unlink()
    make.adapt(*make.arguments(name))
    written = files_in(folder_of(before, name))
    remarks = written.pop("remarks.txt", b"").decode()
    assert set(written) == set(stored)
    for file in ("adapter.json", "entry.json"):
        keys = {key for key in paths(json.loads(written[file])) if not remarks or "remarks.txt" not in str(key)}
        assert keys == set(paths(json.loads(stored[file]))), file
    old, new = (json.loads(files["adapter.json"]) for files in (stored, written))
    assert {key: new[key] for key in ("format_version", "base", "task", "head")} == {
        key: old[key] for key in ("format_version", "base", "task", "head")
    }
    assert stored.get("adapter_config.json") == written.get("adapter_config.json")
    # some are trained from a random head today: a solved one may be better than their one epoch, and would be saved
    assert stored["run.yaml"] == written["run.yaml"].replace(b"head_init: random", b"head_init: auto")


def test_the_bases_of_the_fixture_have_the_fingerprint_of_before(before: Path) -> None:
    for folder, name in (("bert", "full"), ("gpt2", "stories")):
        Adapter.load(folder_of(before, name)).check_base(Base.load(str(before / folder)))
