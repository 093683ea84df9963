"""registry.json and the store: one order, one schema, nothing lost."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Registry
from adapterkit.errors import RegistryError
from adapterkit.store.maintenance import collect, doctor
from adapterkit.store.schema import json_schema
from tests import faults
from tests.helpers.files import ROOT
from tests.helpers.manifests import add, manifest


def test_everything_that_was_done_is_in_the_store(registry: Registry) -> None:
    faults.template(registry.path.parent)
    before = registry.adapters()
    assert (before["a"]["tags"], before["new"]["folder"], "gone" in before) == (
        {"prod": next(iter(before["a"]["versions"]))},
        "old",
        False,
    )
    registry.path.unlink()
    assert registry.rebuild() == (before, [])
    assert registry.resolve("a@prod")[1] == before["a"]["tags"]["prod"]


def test_versions_with_one_number_have_one_order_on_every_machine(registry: Registry, tmp_path: Path) -> None:
    """Two machines add without knowing of each other; the folders end in one store, in either order."""
    for other in ("x", "y"):
        add(tmp_path / other / "registry.json", "a", other)
    orders = []
    for first, second in (("x", "y"), ("y", "x")):
        shutil.rmtree(registry.store, ignore_errors=True)
        for other in (first, second):
            shutil.copytree(tmp_path / other / "store", registry.store, dirs_exist_ok=True)
        orders.append(registry.rebuild()[0])
    assert orders[0] == orders[1]
    versions = list(orders[0]["a"]["versions"])
    assert versions == sorted(versions)
    assert orders[0]["a"]["current"] == versions[-1]
    assert add(registry.path, "a", "z") == registry.adapters()["a"]["current"]


def test_two_adapters_that_came_by_one_name_are_both_kept(registry: Registry) -> None:
    for name in ("a", "b"):
        add(registry.path, name, name)
    before = registry.path.read_bytes()
    registry.rename("a", "c")
    registry.path.write_bytes(before)  # what another process without the lock may do
    registry.rename("b", "c")
    index, _ = registry.rebuild()
    assert set(index) == {"c", "c-2"}
    assert {known["folder"] for known in index.values()} == {"a", "b"}
    assert registry.rebuild()[0] == index
    assert doctor(registry) == []


def test_a_name_that_was_let_go_of_can_be_used_again(registry: Registry) -> None:
    old = add(registry.path, "a", "1")
    registry.rename("a", "b")
    new = add(registry.path, "a", "2")
    assert (registry.resolve("a")[1], registry.resolve("b")[1]) == (new, old)
    assert (registry.folder("b", old) / "adapter.json").read_bytes() == manifest("1")
    assert registry.rebuild()[0] == registry.adapters()
    with pytest.raises(RegistryError, match="there is an adapter 'a' already"):
        registry.rename("b", "a")


def test_rolling_back_goes_one_version_back_or_to_the_one_given(registry: Registry) -> None:
    first, second, third = (add(registry.path, "a", content) for content in ("1", "2", "3"))
    assert registry.tag("a", "best") == ("a", third)
    assert [registry.rollback("a"), registry.rollback("a")] == [second, first]
    with pytest.raises(RegistryError, match=f"a@{first} is the first version"):
        registry.rollback("a")
    assert registry.rollback("a", "best") == third
    assert registry.rollback("a", second[:6]) == registry.resolve("a")[1] == second


def test_what_is_removed_comes_back_until_it_is_collected(registry: Registry) -> None:
    first, second = (add(registry.path, "a", content) for content in ("1", "2"))
    registry.tag(f"a@{first}", "best")
    before = registry.adapters()
    assert registry.remove("a@best") == ("a", [first], second)
    assert list(registry.adapters()["a"]["versions"]) == [second]
    assert registry.rollback("a", first) == first
    assert registry.remove("a")[2] is None
    assert "a" not in registry.adapters()
    assert registry.rebuild()[0] == {}
    assert registry.rollback("a") == first
    assert registry.adapters()["a"]["versions"] == before["a"]["versions"]
    registry.remove(f"a@{second}")
    assert [g.path for g in collect(registry, dry_run=True)] == [registry.folder("a", second)]
    assert registry.folder("a", second).is_dir()
    assert collect(registry, grace_minutes=60) == []
    collect(registry)
    assert [p.name for p in registry.store.glob("a/*") if p.is_dir()] == [first]
    assert list(registry.rebuild()[0]["a"]["versions"]) == [first]
    with pytest.raises(RegistryError, match="no version of a named"):
        registry.rollback("a", second)


def test_nothing_that_the_index_lost_is_collected(registry: Registry) -> None:
    add(registry.path, "a", "1")
    before = registry.path.read_bytes()
    lost = [registry.folder("a", add(registry.path, "a", "2")), registry.folder("b", add(registry.path, "b", "3"))]
    registry.path.write_bytes(before)
    assert collect(registry) == []
    assert all(folder.is_dir() for folder in lost)
    assert [fault.kind for fault in doctor(registry)] == ["orphan", "orphan"]
    third = add(registry.path, "a", "4")
    assert list(registry.adapters()["a"]["versions"])[1:] == [lost[0].name, third]


def test_keys_of_later_versions_are_kept(registry: Registry) -> None:
    version = add(registry.path, "a", "1")
    add(registry.path, "b", "2")
    index = json.loads(registry.path.read_bytes()) | {"schema_version": "1.7", "licence": "MIT"}
    index["adapters"]["a"] |= {"owner": "me"}
    index["adapters"]["a"]["versions"][version] |= {"carbon": 3}
    for text in (json.dumps(index), json.dumps(index, indent=1)):
        registry.path.write_text(text)
        registry.tag("b", "best")
        registry.tag("a", "best")
        index["adapters"]["b"]["tags"] = index["adapters"]["a"]["tags"] = {"best": version}
        index["adapters"]["b"]["tags"] = {"best": registry.resolve("b")[1]}
        assert json.loads(registry.path.read_bytes()) == index


def test_a_file_with_a_line_cut_off_is_damaged_and_not_less(registry: Registry) -> None:
    for name in ("a", "b", "c"):
        add(registry.path, name, name)
    whole = registry.path.read_bytes()
    draw = random.Random(0)
    for cut in (draw.randrange(1, len(whole) - 2) for _ in range(50)):
        registry.path.write_bytes(whole[:cut])
        with pytest.raises(RegistryError, match="rebuild"):
            registry.adapters()
    registry.path.write_bytes(whole.replace(b'"number": 1', b'"number": x', 1))
    with pytest.raises(RegistryError, match="'a' is no entry"):
        registry.adapters()
    assert set(registry.rebuild()[0]) == {"a", "b", "c"}
    assert registry.path.read_bytes() == whole


def test_a_registry_and_its_store_move(registry: Registry, tmp_path: Path) -> None:
    faults.template(registry.path.parent / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    moved = Registry(tmp_path / "there" / "registry.json")
    assert doctor(moved) == []
    assert faults.snapshot(moved)
    assert str(tmp_path).encode() not in moved.path.read_bytes()


def fits(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    """Tell whether a value is as the parts of JSON Schema that ours uses say."""
    if "$ref" in schema:
        return fits(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    kind = {"object": dict, "string": str, "integer": int, "number": int | float}[schema["type"]]
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if not isinstance(value, dict):
        return bool(value >= schema.get("minimum", value))
    own, others = schema.get("properties", {}), schema.get("additionalProperties")
    names = schema.get("propertyNames", {}).get("pattern", "")
    return (
        len(value) >= schema.get("minProperties", 0)
        and all(key in value for key in schema.get("required", ()))
        and all(re.search(names, key) for key in value)
        and all(fits(part, own.get(key, others), whole) for key, part in value.items() if own.get(key, others))
    )


def test_the_published_schema_is_the_one_of_the_types() -> None:
    path = ROOT / "docs" / "registry.schema.json"
    assert path.read_text() == json_schema(), "python -m adapterkit.store.schema > docs/registry.schema.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, v: a.update(current="x"), "current must be a version of 16 hexadecimal digits, got 'x'"),
        (lambda a, v: a.update(current=f"{v}\n"), "current must be a version of 16 hexadecimal digits"),
        (lambda a, v: a.update(current="0" * 16), "'current' is '0000000000000000', which is no version of it"),
        (lambda a, v: a.update(tags={"abc": v}), "'abc' is no tag"),
        (lambda a, v: a.update(tags={"prod": "0" * 16}), "'prod' is '0000000000000000', which is no version of it"),
        (lambda a, v: a.update(folder="../a"), "folder must be a folder of the store, got '../a'"),
        (lambda a, v: a["versions"].update({"x": 3}), "'x' is no version of 16 hexadecimal digits"),
        (lambda a, v: a["versions"][v].pop("base"), r"versions\['\w+'\].base is missing"),
        (lambda a, v: a["versions"][v]["base"].update(name=3), r"versions\['\w+'\].base.name must be a string, got 3"),
        (lambda a, v: a["versions"][v].update(number=-1), r"versions\['\w+'\].number must be an integer >= 0, got -1"),
        (lambda a, v: a["versions"][v].update(metrics={"test": 3}), r"metrics\['test'\] must be an object, got 3"),
    ],
)
def test_an_entry_that_does_not_fit_is_named_with_its_path(registry: Registry, change: Any, message: str) -> None:
    version = add(registry.path, "a", "1")
    add(registry.path, "b", "2")
    index = json.loads(registry.path.read_bytes())
    change(index["adapters"]["a"], version)
    registry.path.write_text(json.dumps(index))
    with pytest.raises(RegistryError, match=f"'a' is no entry: .*{message}.*`adapt registry rebuild` makes it again"):
        registry.adapters()
    assert registry.resolve("b")[0] == "b"


def test_what_is_written_fits_the_published_schema(registry: Registry) -> None:
    schema = json.loads((ROOT / "docs" / "registry.schema.json").read_text())
    faults.template(registry.path.parent)
    index = json.loads(registry.path.read_bytes())
    assert fits(index, schema, schema)
    version = index["adapters"]["a"]["current"]
    for place, key, value in (
        (index, "schema_version", "2.0"),
        (index["adapters"], "a/b", index["adapters"]["b"]),
        (index["adapters"]["a"], "current", "x"),
        (index["adapters"]["a"]["tags"], "abc", version),
        (index["adapters"]["a"]["versions"][version], "number", -1),
        (index["adapters"]["a"]["versions"][version], "bytes", "3"),
        (index["adapters"]["new"], "folder", "../old"),
    ):
        before = dict(place)
        place[key] = value
        assert not fits(index, schema, schema), key
        place.clear()
        place.update(before)
    assert fits(index, schema, schema)
