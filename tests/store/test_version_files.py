"""The files of one version: which are checked, against which digests, and what is wrong with each."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Registry
from adapterkit.errors import RegistryError
from adapterkit.io.atomic import sha256
from adapterkit.store.version_files import (
    UNLISTED,
    check_no_link,
    entry_file,
    entry_of,
    essential,
    faults,
    is_temporary,
    read_entry,
)
from tests import faults as store_faults
from tests.helpers.manifests import add

TENSORS = "adapter_model.safetensors"


@pytest.fixture
def folder(registry: Registry) -> Path:
    return registry.folder("a", add(registry.path, "a", "1"))


def test_an_entry_has_the_names_sizes_and_metrics_of_its_manifest() -> None:
    manifest = {
        "task": {"name": "t", "options": {"labels": []}},
        "strategy": {"name": "s", "version": "1"},
        "base": {"name": "b", "fingerprint": "f", "model_type": "bert"},
        "metrics": {"test": {"f1": 0.5, "n": 3, "intervals": {"f1": [0, 1]}}},
    }
    assert entry_of(manifest, 7) == {
        "task": "t",
        "strategy": "s",
        "base": {"name": "b", "fingerprint": "f"},
        "bytes": 7,
        "metrics": {"test": {"f1": 0.5, "n": 3}},
    }


def test_an_entrys_file_has_the_digests_that_the_manifest_lacks() -> None:
    files = store_faults.files("1")
    stored = json.loads(entry_file({"number": 3}, files))
    assert stored["number"] == 3
    others = {name: files[name] for name in ("README.md", "run.yaml")}
    assert stored["files"] == {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in others.items()}


def rewritten(name: str, data: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data)


def with_digest(name: str, digest: Any) -> Callable[[Path], Any]:
    """Put a file and a digest for it into entry.json."""

    def change(folder: Path) -> None:
        entry = json.loads((folder / "entry.json").read_bytes())
        entry["files"][name] = digest
        (folder / "entry.json").write_text(json.dumps(entry))

    return change


FAULTS: dict[str, tuple[Callable[[Path], Any], dict[str, str]]] = {
    "none": (lambda folder: None, {}),
    "more": (lambda folder: (folder / "x").touch(), {"x": UNLISTED}),
    "gone": (lambda folder: (folder / TENSORS).unlink(), {TENSORS: "No such file or directory"}),
    "shorter": (rewritten(TENSORS, b"x"), {TENSORS: "damaged or was edited"}),
    "other": (rewritten("run.yaml", b"b: 1"), {"run.yaml": "damaged or was edited: its SHA-256 is"}),
    "manifest": (rewritten("adapter.json", b"{}"), {"adapter.json": "damaged or was edited: it is version"}),
    "no manifest": (lambda folder: (folder / "adapter.json").unlink(), {"adapter.json": "No such file or directory"}),
    "no entry": (
        lambda folder: (folder / "entry.json").unlink(),
        {"entry.json": "can't be read: No such file or directory"},
    ),
    "entry": (rewritten("entry.json", b"{}"), {"entry.json": "is no entry", "README.md": "", "run.yaml": ""}),
    "no digest": (with_digest("README.md", {"bytes": 6}), {"README.md": "no digest that can be read"}),
    "odd digest": (with_digest("README.md", 3), {"README.md": "no digest that can be read"}),
    "odd name": (with_digest("a/b", {}), {"a/b": "no file's name"}),
    "link": (
        lambda folder: (folder / "run.yaml").unlink() or (folder / "run.yaml").symlink_to(folder / "README.md"),
        {"run.yaml": "link"},
    ),
}


@pytest.mark.parametrize(("change", "expected"), FAULTS.values(), ids=FAULTS)
def test_each_fault_of_a_file_is_named(change: Callable[[Path], Any], expected: dict[str, str], folder: Path) -> None:
    change(folder)
    found = dict(faults(folder))
    if "README.md" in expected and not expected["README.md"]:  # README.md and run.yaml have no digest any more
        assert set(found) - {"entry.json"} <= {"README.md", "run.yaml"}
        found = {**dict.fromkeys(expected, ""), "entry.json": found["entry.json"]}
    assert found.keys() == expected.keys()
    assert all(words in found[name] for name, words in expected.items())


def test_an_entry_that_differs_from_the_index_is_a_fault(folder: Path, registry: Registry) -> None:
    entry = registry.adapters()["a"]["versions"][folder.name]
    assert dict(faults(folder, entry=entry)) == {}
    assert dict(faults(folder, entry={**entry, "carbon": 3})) == {}  # a key of a later version
    assert dict(faults(folder, entry={**entry, "task": "other"})) == {"entry.json": "differs from registry.json"}


def test_files_that_are_still_on_the_hub_are_no_fault(folder: Path, registry: Registry) -> None:
    (folder / TENSORS).unlink()
    entry = {**registry.adapters()["a"]["versions"][folder.name], "hub": {"repo": "a/b", "revision": "0"}}
    stored = json.loads((folder / "entry.json").read_bytes())
    (folder / "entry.json").write_text(json.dumps({**stored, "hub": entry["hub"]}))
    assert dict(faults(folder, entry=entry)) == {}
    (folder / "adapter.json").write_text("{}")
    assert list(dict(faults(folder, entry=entry))) == ["adapter.json"]


def test_a_version_needs_its_manifest_and_the_files_in_it(folder: Path) -> None:
    names = ("adapter.json", TENSORS, "README.md", "entry.json")
    assert [essential(folder, name) for name in names] == [True, True, False, False]
    (folder / "adapter.json").write_text("{")
    assert not essential(folder, TENSORS)  # as no manifest names it
    (folder / "adapter.json").unlink()
    assert essential(folder, "README.md")  # as far as can be known


def test_an_entry_is_read_from_its_file_or_the_index_or_the_manifest(folder: Path, registry: Registry) -> None:
    entry = registry.adapters()["a"]["versions"][folder.name]
    assert read_entry(folder, None) == entry
    (folder / "entry.json").write_text("{}")
    assert read_entry(folder, {**entry, "number": 9}) == {**entry, "number": 9}
    derived = read_entry(folder, None)
    assert (derived["number"], derived["bytes"], derived["task"]) == (0, 2000, "text-classification")
    link = folder.with_name("0" * 16)
    link.symlink_to(folder)
    with pytest.raises(RegistryError, match="is a link"):
        read_entry(link, None)
    (folder / "adapter.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged or was edited"):
        read_entry(folder, entry)


def test_a_link_on_the_way_to_a_version_is_an_error(folder: Path, tmp_path: Path) -> None:
    check_no_link(folder)
    (tmp_path / "linked").symlink_to(folder.parent)
    for place in (tmp_path / "linked", tmp_path / "linked" / folder.name):
        with pytest.raises(RegistryError, match=f"'{tmp_path / 'linked'}' is a link"):
            check_no_link(place)


def test_errors_of_this_process_are_temporary_and_those_of_a_file_are_not() -> None:
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR):
        assert is_temporary(OSError(number, "x"))
    for error in (OSError(errno.EIO, "x"), FileNotFoundError(), ValueError("x")):
        assert not is_temporary(error)
