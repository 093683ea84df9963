"""Changes in the store's records, and what the doctor reports and repairs, place by place."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import Any

import pytest

from adapterkit import Registry
from adapterkit.errors import RegistryError
from adapterkit.store.journal import Records
from adapterkit.store.maintenance import collect, doctor, lock_holds
from adapterkit.store.version_files import UNLISTED
from tests.helpers.manifests import add

VERSION = "0123456789abcdef"
INVALID: dict[str, Any] = {
    "no object": [1, 2],
    "no number": {"current": VERSION},
    "number": {"number": 9.5, "current": VERSION},
    "current": {"number": 9, "current": "x"},
    "removed": {"number": 9, "removed": [VERSION, "../a"]},
    "restored": {"number": 9, "restored": ["x"]},
    "tag": {"number": 9, "tags": {"abc": VERSION}},
    "tagged": {"number": 9, "tags": {"prod": 3}},
    "name": {"number": 9, "name": "a/b"},
    "current and name": {"number": 9, "current": "x", "name": "a"},
}


@pytest.mark.parametrize("change", INVALID.values(), ids=INVALID)
def test_a_change_with_an_invalid_part_is_left_out_and_reported(change: Any, registry: Registry) -> None:
    add(registry.path, "a", "1")
    before = registry.adapters()
    data = json.dumps(change).encode()
    path = registry.store / "a" / f"000009-{hashlib.sha256(data).hexdigest()[:12]}.json"
    path.write_bytes(data)
    index, (reason,) = registry.rebuild()
    assert index == before
    assert reason.startswith(f"{path}: ")
    (fault,) = doctor(registry, fix=True)
    assert (fault.kind, fault.place, fault.fix) == ("damaged", f"store/a/{path.name}", "delete it")
    assert not path.exists()
    assert doctor(registry) == []


def test_a_change_whose_content_is_not_that_of_its_name_is_left_out(registry: Registry) -> None:
    add(registry.path, "a", "1")
    registry.tag("a", "prod")
    (path,) = registry.store.glob("a/*.json")
    path.write_bytes(path.read_bytes().replace(b"prod", b"best"))
    index, (reason,) = registry.rebuild()
    assert "tags" not in index["a"]
    assert reason.startswith(f"{path}: ")


def test_the_state_follows_from_the_changes_in_their_order(registry: Registry) -> None:
    first, second, third = (add(registry.path, "a", content) for content in ("1", "2", "3"))
    registry.tag(f"a@{first}", "prod")
    registry.tag(f"a@{third}", "best")
    registry.tag(f"a@{second}", "prod")
    registry.rollback("a", first)
    registry.remove(f"a@{third}")
    registry.rename("a", "b")
    records = Records.read(registry.store / "a")
    assert (records.name, records.named_at, records.number) == ("b", 9, 10)
    assert (records.removed(), records.last_removal()) == ({third}, [third])
    state = records.state({"owner": "me", "tags": {"old": first}, "folder": "x"})
    assert state is not None
    assert list(state["versions"]) == [first, second]
    versions = state.pop("versions")
    assert [versions[version]["number"] for version in (first, second)] == [1, 2]
    assert state == {"owner": "me", "current": first, "tags": {"prod": second}, "folder": "a"}
    assert {**state, "versions": versions} == {**registry.adapters()["b"], "owner": "me"}


def test_only_the_last_removal_is_undone(registry: Registry) -> None:
    first, second = (add(registry.path, "a", content) for content in ("1", "2"))
    registry.tag(f"a@{second}", "prod")
    registry.remove(f"a@{second}")
    registry.remove("a")
    assert registry.rollback("a") == first
    assert list(registry.adapters()["a"]["versions"]) == [first]
    registry.rollback("a", second)
    assert list(registry.adapters()["a"]["versions"]) == [first, second]
    assert registry.resolve("a@prod") == ("a", second)


def test_the_doctor_reports_each_fault_with_its_place_and_repair(registry: Registry) -> None:
    versions = {name: add(registry.path, name, name) for name in ("a", "b", "c", "d", "e")}
    folders = {name: registry.store / name / version for name, version in versions.items()}
    (folders["a"] / "notes.txt").touch()
    (folders["b"] / "entry.json").write_text("{}")
    (folders["c"] / "adapter.json").write_text("{}")
    (registry.store / "d" / "notes.txt").touch()
    (registry.store / "d" / ".x.abcdefgh.tmp").write_text("12345")
    (folders["e"] / "README.md").unlink()
    (registry.store / "empty").mkdir()
    places = {name: f"store/{name}/{version}" for name, version in versions.items()}
    expected = {
        f"{places['a']}/notes.txt": ("unexpected", "none"),
        f"{places['b']}/entry.json": ("damaged", "write it again from what is known"),
        places["c"]: ("damaged", "remove the version"),
        "store/d/notes.txt": ("unexpected", "none"),
        "store/d/.x.abcdefgh.tmp": ("leftover", "delete it"),
        f"{places['e']}/README.md": ("damaged", "none; adding the same adapter again repairs it"),
        "store/empty": ("leftover", "delete it"),
    }
    faults = {fault.place: fault for fault in doctor(registry)}
    assert {place: fault.kind for place, fault in faults.items()} == {p: kind for p, (kind, _) in expected.items()}
    assert all(faults[place].fix.startswith(fix) for place, (_, fix) in expected.items())
    assert faults[f"{places['e']}/README.md"].what == "No such file or directory"
    assert faults["store/d/.x.abcdefgh.tmp"].what.startswith("5 bytes ")
    assert faults[f"{places['a']}/notes.txt"].what == UNLISTED
    doctor(registry, fix=True)
    unrepaired = {place for place, (_, fix) in expected.items() if fix.startswith("none")}
    assert {fault.place for fault in doctor(registry) if fault.place in unrepaired} == unrepaired
    assert sorted(registry.adapters()) == ["a", "b", "d", "e"]
    assert not (registry.store / "d" / ".x.abcdefgh.tmp").exists()
    assert not (registry.store / "empty").exists()
    assert json.loads((folders["b"] / "entry.json").read_bytes())["number"] == 1
    add(registry.path, "e", "e")
    assert places["e"] + "/README.md" not in {fault.place for fault in doctor(registry)}


def test_the_lock_excludes_others_while_it_is_held(registry: Registry) -> None:
    add(registry.path, "a", "1")
    with registry.locked(0):
        assert lock_holds(registry)
    assert not lock_holds(registry)  # as it isn't held


def test_what_is_collected_is_counted_in_bytes(registry: Registry) -> None:
    version = add(registry.path, "a", "1")
    folder = registry.folder("a", version)
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    registry.remove("a")
    (registry.store / ".y.abcdefgh.old").mkdir()
    (registry.store / ".y.abcdefgh.old" / "part").write_bytes(b"123")
    found = {str(gone.path.relative_to(registry.store)): gone.nbytes for gone in collect(registry)}
    assert found[f"a/{version}"] == nbytes
    assert found[".y.abcdefgh.old"] == 3
    assert not folder.exists()


@pytest.mark.parametrize(("seconds", "is_collected"), [(3570, False), (3630, True)])
def test_what_is_older_than_the_grace_period_is_collected(seconds: int, is_collected: bool, registry: Registry) -> None:
    folder = registry.folder("a", add(registry.path, "a", "1"))
    registry.remove("a")
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - seconds - 100,) * 2)
    os.utime(folder / "README.md", (time.time() - seconds,) * 2)  # the latest write counts
    collect(registry, grace_minutes=60)
    assert folder.exists() == (not is_collected)


def test_an_unknown_name_is_answered_with_the_registered_ones(registry: Registry) -> None:
    add(registry.path, "a", "1")
    with pytest.raises(RegistryError, match=r"no adapter named .qq.; registered: a$"):
        registry.resolve("qq")
    with pytest.raises(RegistryError, match="no adapter named 'qq', since there is no "):
        Registry(registry.path.parent / "none" / "registry.json").resolve("qq")


def test_a_registry_in_a_notebook_is_a_table_of_its_adapters(registry: Registry) -> None:
    version = add(registry.path, "a", "1")
    table = registry._repr_html_()
    assert table.count("<tr>") == 2
    cells = re.findall("<t[hd](?: [^>]*)?>(.*?)</t[hd]>", table)
    assert cells[:6] == ["adapter", "version", "versions", "task", "strategy", "metric"]
    assert cells[6:] == ["a", version, "1", "text-classification", "lora", "-"]
