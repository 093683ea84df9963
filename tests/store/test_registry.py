"""Versions, names, and registries that are refused."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from adapterkit import Registry
from adapterkit.errors import RegistryError
from adapterkit.store.journal import Records
from tests import faults
from tests.crowd import crowd
from tests.helpers.manifests import add, manifest


def test_versions_are_named_by_content_and_the_last_added_is_current(registry: Registry) -> None:
    first, second, again = (add(registry.path, "a", content) for content in ("1", "2", "1"))
    assert first == again != second
    assert registry.adapters()["a"]["current"] == first
    assert [v["number"] for v in registry.adapters()["a"]["versions"].values()] == [1, 2]
    assert registry.resolve(f"a@{second[:5]}") == ("a", second)
    assert (registry.folder("a", second) / "adapter.json").read_bytes() == manifest("2")


def test_the_index_can_be_made_again_from_the_store(registry: Registry) -> None:
    for name, content in (("a", "1"), ("a", "2"), ("b", "3")):
        add(registry.path, name, content)
    before = registry.adapters()
    registry.path.write_text("{half")
    with pytest.raises(RegistryError, match="is not JSON"):
        registry.adapters()
    assert registry.rebuild() == (before, [])
    assert registry.adapters() == before


def test_a_rebuild_makes_lost_entries_again_and_leaves_damage_out(registry: Registry) -> None:
    first, second, third = (add(registry.path, "a", content) for content in ("1", "2", "3"))
    (registry.folder("a", first) / "entry.json").write_text("{half")
    (registry.folder("a", second) / "adapter.json").write_bytes(manifest("2, but edited"))
    index, left_out = registry.rebuild()
    assert set(index["a"]["versions"]) == {first, third}
    assert index["a"]["versions"][first]["strategy"] == "lora"
    assert len(left_out) == 1
    assert "adapter.json is damaged or was edited" in left_out[0]


def test_adding_a_damaged_version_again_repairs_it(registry: Registry) -> None:
    version = add(registry.path, "a", "1")
    (registry.folder("a", version) / "adapter.json").write_bytes(b"edited")
    assert add(registry.path, "a", "1") == version
    assert (registry.folder("a", version) / "adapter.json").read_bytes() == manifest("1")
    assert [p.name for p in registry.folder("a", version).parent.iterdir()] == [version]


@pytest.mark.slow
@pytest.mark.parametrize("locked", [True, False])
def test_adds_from_many_processes_all_stand_after_a_rebuild_even_where_the_lock_does_nothing(
    registry: Registry, locked: bool
) -> None:
    listed, rebuilt = crowd(registry.path, 8, 20, locked=locked)
    assert rebuilt == 160
    assert listed == 160 if locked else listed <= 160 - 7  # of eight entries from the same index, one stands


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a.b", ".a", "-a", "a b", "a" * 97, "ä"])
def test_a_name_that_is_not_one_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="is no adapter's name"):
        add(registry.path, name, "1")
    assert not registry.store.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[]", "is JSON, but no registry"),
        ('{"schema_version": 9, "adapters": {}}', "has schema version 9; this adapterkit reads 1"),
        ('{"schema_version": "2.0", "adapters": {}}', "has schema version 2.0; this adapterkit reads 1"),
        ('{"schema_version": 1, "adapters": {"a": 3}}', "'a' is no entry"),
        ('{"schema_version": 1, "adapters": {"a": {"current": "x", "versions": {}}}}', "'a' is no entry"),
        ("[" * 100000, "is not JSON"),
        ('{"schema_version": x, "adapters": {\n"a": {}\n}}\n', "is not JSON"),
    ],
)
def test_a_registry_that_is_not_one_is_refused_and_kept(registry: Registry, content: str, message: str) -> None:
    registry.path.write_text(content)
    for action in (registry.adapters, registry.prepare, lambda: add(registry.path, "a", "1")):
        with pytest.raises(RegistryError, match=message):
            action()
    assert registry.path.read_text() == content
    assert not registry.store.exists()


def test_an_unknown_adapter_or_version_is_answered_with_those_there_are(registry: Registry) -> None:
    version = add(registry.path, "sentiment", "1")
    with pytest.raises(RegistryError, match="did you mean 'sentiment'"):
        registry.resolve("sentimant")
    with pytest.raises(RegistryError, match=f"no version of sentiment named 'zz'; there are: {version}"):
        registry.resolve("sentiment@zz")


@pytest.mark.parametrize("linked", ["name", "version"])
def test_a_folder_of_the_store_that_is_a_link_is_not_followed(linked: str, registry: Registry, tmp_path: Path) -> None:
    version = add(registry.path, "a", "1")
    folder = registry.folder("a", version)
    place = folder if linked == "version" else folder.parent
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    before = sorted((str(path), path.stat().st_mtime_ns) for path in (tmp_path / "elsewhere").rglob("*"))
    for action in (lambda: registry.load("a"), lambda: add(registry.path, "a", "1")):
        with pytest.raises(RegistryError, match=f"'{place}' is a link, and a folder of the store was expected"):
            action()
    assert registry.rebuild() == ({}, [f"{folder}: '{place}' is a link, and a folder of the store was expected"])
    assert sorted((str(path), path.stat().st_mtime_ns) for path in (tmp_path / "elsewhere").rglob("*")) == before


@pytest.mark.parametrize(
    "entry",
    [json.dumps({**faults.ENTRY, "number": 1, **odd}) for odd in ({"base": {}}, {"metrics": {"test": 3}})]
    + ['{"number": "x"}', '{"task": 3}', "[]", '{"number": 1, "number": 2}', "[" * 70],
)
def test_an_entry_that_is_none_is_made_again(entry: str, registry: Registry) -> None:
    version = add(registry.path, "a", "1")
    (registry.folder("a", version) / "entry.json").write_text(entry)
    index, left_out = registry.rebuild()
    assert registry.adapters() == index
    assert (index["a"]["versions"][version]["task"], left_out) == ("text-classification", [])


def test_a_manifest_that_is_none_does_not_spoil_the_index(registry: Registry) -> None:
    add(registry.path, "a", "1")
    for other in (b"[]", json.dumps({**json.loads(manifest("2")), "task": {"name": 3}}).encode(), b"NaN"):
        Registry(registry.path).add("b", {"adapter.json": other}, faults.ENTRY)
    for path in registry.store.glob("b/*/entry.json"):
        path.unlink()
    index, left_out = registry.rebuild()
    assert (list(index), len(left_out)) == (["a"], 3)
    assert registry.adapters() == index


def test_a_registry_that_is_no_regular_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    add(registry.path, "a", "1")
    registry.path.rename(tmp_path / "elsewhere.json")
    registry.path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(RegistryError, match="it is a link, and a file was expected"):
        registry.load("a")
    registry.path.unlink()
    os.mkfifo(registry.path)
    with pytest.raises(RegistryError, match="it is no regular file"):
        registry.load("a")


def test_a_disk_that_is_full_leaves_what_there_was(registry: Registry) -> None:
    """A limit on a file's size stands in for the disk's end: a write fails in its middle."""
    add(registry.path, "a", "1")
    before = sorted(str(p) for p in registry.path.parent.rglob("*"))
    code = f"""
import pathlib, resource, signal
from adapterkit import Registry
from adapterkit.errors import RegistryError
from adapterkit.store.journal import Records
from adapterkit.store.maintenance import collect, doctor
from tests import faults
from tests.crowd import crowd
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, {resource.RLIM_INFINITY}))
try:
    Registry(pathlib.Path({str(registry.path)!r})).add("b", {{"adapter.json": b"x" * 100000}}, {{}})
except RegistryError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "can't write" in done.stdout
    assert "File too large" in done.stdout
    after = sorted(str(p) for p in registry.path.parent.rglob("*"))
    assert [p for p in after if p not in before] == [str(registry.store / "b")] or after == before
    assert list(json.loads(registry.path.read_text())["adapters"]) == ["a"]


def test_a_staged_version_is_tagged_and_another_stays_current(registry: Registry) -> None:
    first, second = add(registry.path, "a", "1"), add(registry.path, "a", "2", stage="next")
    assert first != second
    assert registry.resolve("a") == ("a", first)
    assert registry.resolve("a@next") == ("a", second)
    third = add(registry.path, "a", "3", stage="next")
    assert registry.resolve("a@next") == ("a", third)
    registry.remove(f"a@{second}")
    assert add(registry.path, "a", "2", stage="other") == second  # restored, and not as the current one
    before = registry.adapters()
    assert before["a"]["current"] == first
    assert before["a"]["tags"] == {"next": third, "other": second}
    assert registry.rebuild() == (before, [])
    registry.rollback("a", "next")
    assert registry.resolve("a") == ("a", third)
    assert add(registry.path, "b", "1", stage="next") == registry.resolve("b")[1]  # the first is current in any case


def test_a_crash_after_a_staged_version_is_stored_leaves_the_current_one(registry: Registry) -> None:
    first = add(registry.path, "a", "1")
    with (
        mock.patch.object(Records, "add_staged", side_effect=RegistryError("a crash")),
        pytest.raises(RegistryError, match="a crash"),
    ):
        add(registry.path, "a", "2", stage="next")
    index, _ = registry.rebuild()
    assert len(index["a"]["versions"]) == 2
    assert index["a"]["current"] == first
