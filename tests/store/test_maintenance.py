"""The commands that look after a registry: what they print, what they change, and what they find."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

from adapterkit import Base, Registry
from adapterkit.store.maintenance import doctor
from adapterkit.store.publish import publish
from adapterkit.tasks import task_class
from tests.helpers import random_adapters as made
from tests.helpers.cli import Adapt


@pytest.fixture
def shop(registry: Registry, tiny_base: Base) -> Registry:
    """Register two versions of an adapter `mood` of equal shapes, and one `other`."""
    task = task_class("text-classification")(labels=("neg", "pos"))
    for name, seed in (("mood", 0), ("mood", 1), ("other", 2)):
        adapter = made.adapter(tiny_base, task, "lora", seed=seed, r=2 if name == "mood" else 4)
        adapter.manifest |= {
            "data": {"name": "d", "splits": {}},
            "training": {},
            "parameters": 1,
            "merged_from": [],
            "combination_type": "cat",
            "metrics": {"validation": {"accuracy": 0.5 + seed / 10, "n": 10, "intervals": {}}},
        }
        publish(registry, name, adapter)
    return registry


def test_show_lists_the_versions_and_takes_tags(shop: Registry, adapt: Adapt) -> None:
    first, second = shop.adapters()["mood"]["versions"]
    assert adapt("tag", f"mood@{first[:6]}", "prod").stdout == f"mood@prod is mood@{first}\n"
    shown = adapt("show", "mood@prod").stdout
    assert f"mood@{first} (version 1 of 2)" in shown
    rows = [re.split("  +", line.strip()) for line in shown.splitlines()]
    assert ["versions", "strategy", "measured"] in rows
    assert [first, "lora", "accuracy 0.500 (validation, 10)", "prod"] in rows
    assert [second, "lora", "accuracy 0.600 (validation, 10)", "current"] in rows
    assert json.loads(adapt("show", "mood@prod", "--json").stdout)["tags"] == {"prod": first}
    assert adapt("tag", "mood", "prod", "--delete").stdout == "mood@prod is no more\n"
    assert "no version of mood named 'prod'" in adapt("show", "mood@prod").stderr


def test_list_shows_what_matches(shop: Registry, adapt: Adapt) -> None:
    assert list(json.loads(adapt("list", "m*", "--json").stdout)) == ["mood"]
    assert list(json.loads(adapt("list", "--strategy", "lora", "--json").stdout)) == ["mood", "other"]
    assert adapt("list", "--task", "fill-mask").stdout == "no match among 2 adapters in registry.json\n"


def test_rollback_rename_remove_and_gc_say_what_they_did(shop: Registry, adapt: Adapt) -> None:
    first, second = shop.adapters()["mood"]["versions"]
    assert adapt("rollback", "mood").stdout == f"mood is mood@{first}\n"
    assert adapt("rename", "mood", "tone").stdout == "mood is tone now\n"
    said = adapt("remove", f"tone@{second}").stdout.splitlines()
    assert said == [
        f"removed    tone@{second}; current is tone@{first}",
        f"undo       adapt rollback tone {second}   (until adapt gc)",
    ]
    assert f"would go   store/mood/{second}: removed from tone" in adapt("gc", "--dry-run").stdout
    assert (shop.store / "mood" / second).is_dir()
    (gone,) = json.loads(adapt("gc", "--json").stdout)
    assert (gone["path"], gone["bytes"] > 1000) == (f"store/mood/{second}", True)
    assert not (shop.store / "mood" / second).exists()
    assert adapt("verify", "--all").stdout == "2 checked, nothing wrong\n"


def test_diff_says_by_how_much_tensors_differ(shop: Registry, adapt: Adapt) -> None:
    first, second = (f"mood@{version}" for version in shop.adapters()["mood"]["versions"])
    found = json.loads(adapt("diff", first, second, "--json").stdout)
    assert found["manifest"] == {"metrics.validation.accuracy": [0.5, 0.6]}
    ours, theirs = (shop.load(reference).tensors for reference in (first, second))
    assert found["tensors"].keys() == {name for name in ours if not torch.equal(ours[name], theirs[name])}
    for name, amount in found["tensors"].items():
        a, b = ours[name].double(), theirs[name].double()
        assert amount["max_abs"] == pytest.approx(torch.linalg.vector_norm(b - a, float("inf")).item())
        assert amount["relative"] == pytest.approx(torch.dist(a, b).item() / torch.linalg.vector_norm(a).item())
    assert json.loads(adapt("diff", first, first, "--json").stdout)["tensors"] == {}
    other = adapt("diff", "mood", "other")
    assert "strategy.options.r" in other.stdout
    assert "2x32 | 4x32" in other.stdout


def test_diff_fits_on_a_screen_unless_everything_is_requested(shop: Registry, adapt: Adapt) -> None:
    short, everything = adapt("diff", "mood", "other").stdout, adapt("diff", "mood", "other", "--verbose").stdout
    count = len({*shop.load("mood").tensors, *shop.load("other").tensors})
    assert len(short.splitlines()) <= 24
    assert re.search("[0-9a-f]{64}", short) is None
    assert "low-rank on" in short
    tensors = [line for line in everything.splitlines() if line.startswith("base_model.model.")]
    assert len(tensors) == len(json.loads(adapt("diff", "mood", "other", "--json").stdout)["tensors"])
    assert f"{len(tensors)} of {count} tensors differ, {count - len(tensors)} are equal" in short
    assert f"and {len(tensors) - 6} more tensors; --verbose lists all" in short


def test_diff_of_a_name_alone_compares_its_previous_version(shop: Registry, adapt: Adapt) -> None:
    first, second = (f"mood@{version}" for version in shop.adapters()["mood"]["versions"])
    assert adapt("diff", "mood").stdout == adapt("diff", first, second).stdout
    alone = adapt("diff", "other")
    assert alone.exit_code == 2
    assert "is the first version" in alone.stderr


def test_diff_counts_tensors_of_one_side_alone(shop: Registry, adapt: Adapt, tiny_base: Base) -> None:
    publish(shop, "head", made.adapter(tiny_base, shop.load("mood").task, "head-only"))
    ours, theirs = set(shop.load("mood").tensors), set(shop.load("head").tensors)
    printed = adapt("diff", "mood", "head").stdout
    assert ours - theirs
    assert f"{len(ours - theirs)} tensors only in the first: " in printed
    assert "only in the second" not in printed


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["adapter.json", "adapter_model.safetensors", "adapter_config.json", "README.md"])
def test_verify_finds_a_bit_that_flipped_in_any_file(file: str, shop: Registry, adapt: Adapt) -> None:
    folder = shop.folder(*shop.resolve("mood"))
    assert (folder / file).is_file()
    flip(folder / file)
    done = adapt("verify", "--all")
    assert done.exit_code == 1
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == [f"mood@{folder.name}/{file}"]
    assert adapt("verify", "other").exit_code == 0


def test_verify_finds_files_missing_and_too_many(shop: Registry, adapt: Adapt) -> None:
    folder = shop.folder(*shop.resolve("mood"))
    (folder / "adapter_config.json").unlink()
    (folder / "notes.txt").touch()
    (folder / "entry.json").write_text("{}")
    rows = json.loads(adapt("verify", "mood", "--json").stdout)
    assert {Path(row["where"]).name: row["what"] for row in rows} == {
        "adapter_config.json": "No such file or directory",
        "notes.txt": "is not part of the adapter",
        "entry.json": "is no entry: number is missing",
    }


def test_the_doctor_finds_everything_changes_nothing_and_mends_it_when_told(shop: Registry, adapt: Adapt) -> None:
    index = shop.path.read_bytes()
    folder = shop.folder(*shop.resolve("mood"))
    shop.rename("other", "lost")
    shop.path.write_bytes(index)
    flip(folder / "adapter_model.safetensors")
    half = folder.parent / f".{'ab' * 8}.c0d1e2_f.tmp"
    half.mkdir()
    (half / "half").write_bytes(b"x" * 10)
    shutil.rmtree(shop.store / "mood" / next(iter(shop.adapters()["mood"]["versions"])))
    (shop.store / "empty").mkdir()
    before = sorted(str(path) for path in shop.path.parent.rglob("*"))
    done = adapt("doctor", "--json")
    assert done.exit_code == 1
    kinds = sorted(row["kind"] for row in json.loads(done.stdout))
    assert kinds == ["damaged", "leftover", "leftover", "missing", "orphan"]
    assert sorted(str(path) for path in shop.path.parent.rglob("*")) == before
    assert shop.path.read_bytes() == index
    fixed = adapt("doctor", "--fix")
    assert (fixed.exit_code, fixed.stdout.splitlines()[-1]) == (0, "registry.json: nothing wrong")
    assert list(shop.adapters()) == ["lost"]
    assert folder.is_dir(), "damaged files stay until gc"
    assert adapt("doctor").stdout == "registry.json: nothing wrong\n"


@pytest.mark.parametrize("place", ["evil", "mood/link", "mood/{version}/link"])
def test_nothing_is_deleted_through_a_link(place: str, shop: Registry, adapt: Adapt, tmp_path: Path) -> None:
    """Not even what looks like our own leftovers: a registry may be cloned from anyone."""
    outside = tmp_path / "outside" / "deep"
    outside.mkdir(parents=True)
    kept = [outside.parent / ".notes.abcdefgh.tmp", outside / ".notes.abcdefgh.old", outside.parent / "000001-x.json"]
    for path in kept:
        path.write_text("precious")
    link = shop.store / place.format(version=shop.resolve("mood")[1])
    link.symlink_to(outside.parent, target_is_directory=True)
    for command in (("gc",), ("doctor", "--fix"), ("gc",), ("registry", "rebuild")):
        adapt(*command)
    assert all(path.read_text() == "precious" for path in kept)
    assert link.is_symlink()
    assert list(shop.adapters()) == ["mood", "other"]


def test_a_registry_that_is_not_there_is_not_made_by_looking_at_it(adapt: Adapt, tmp_path: Path) -> None:
    for command in (("gc", "--dry-run"), ("gc",), ("tag", "a", "b"), ("list",), ("doctor", "--fix"), ("remove", "a")):
        adapt(*command, "--registry", tmp_path / "typo" / "registry.json")
    assert not (tmp_path / "typo").exists()


def test_the_doctor_says_what_a_name_means_without_a_damaged_version(shop: Registry, adapt: Adapt) -> None:
    first, second = shop.adapters()["mood"]["versions"]
    take_out = "remove the version from registry.json; its files stay until adapt gc"
    for version, after in ((second, f"mood is then mood@{first}"), (first, "no version of mood is left")):
        flip(shop.folder("mood", version) / "adapter_model.safetensors")
        (fault,) = doctor(shop)
        assert fault.fix == f"{take_out}; {after}"
        assert adapt("doctor", "--fix").exit_code == 0
    assert "mood" not in shop.adapters()


def test_the_doctor_says_that_a_lock_is_held_or_holds_nothing(shop: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"
    command = [sys.executable, "-c", code, f"{shop.path}.lock"]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert "is locked by another process" in doctor(shop)[0].what
    holder.communicate(b"\n")
    assert doctor(shop) == []
    monkeypatch.setattr(filelock.FileLock, "_acquire", lambda self: setattr(self._context, "lock_file_fd", os.dup(0)))
    assert doctor(shop)[0].what == "does nothing on this file system"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["verify"], "which adapters? give names, or --all"),
        (["verify", "mod"], "no adapter named 'mod'; did you mean 'mood'?"),
        (["diff", "mood", "othr"], "no adapter named 'othr'; did you mean 'other'?"),
        (["tag", "mood", "abc"], "'abc' is no tag"),
        (["tag", "mood", "prd", "--delete"], "no tag of mood named 'prd'"),
        (["tag", "mood@zz", "best"], "no version of mood named 'zz'"),
        (["rollback", "other"], "is the first version, and there is no other"),
        (["rename", "other", "other"], "'other' has that name already"),
        (["rollback", "othr"], "no adapter named 'othr'; did you mean 'other'?"),
        (["rename", "mood", "other"], "there is an adapter 'other' already"),
        (["rename", "mood", "a/b"], "'a/b' is no adapter's name"),
        (["rename", "mod", "x"], "no adapter named 'mod'; did you mean 'mood'?"),
        (["remove", "mod"], "no adapter named 'mod'; did you mean 'mood'?"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(args: list[str], message: str, shop: Registry, adapt: Adapt) -> None:
    before = {path: path.read_bytes() for path in shop.path.parent.rglob("*") if path.is_file()}
    done = adapt(*args)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert {path: path.read_bytes() for path in shop.path.parent.rglob("*") if path.is_file()} == before


def test_the_shell_completes_names_versions_and_tags(shop: Registry) -> None:
    shop.tag("mood", "prod")
    env = {**os.environ, "_ADAPT_COMPLETE": "bash_complete", "ADAPT_REGISTRY": str(shop.path)}
    adapt = Path(sys.executable).with_name("adapt")
    for words, expected in (("adapt rollback ot", "other"), ("adapt diff mood@pr", "mood@prod")):
        more = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run([adapt], env={**env, **more}, capture_output=True, text=True, check=False)
        assert expected in [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_ten_thousand_adapters_are_listed_as_rows_and_found(shop: Registry, adapt: Adapt) -> None:
    index: dict[str, Any] = json.loads(shop.path.read_bytes())
    for number in range(10_000):
        index["adapters"][f"copy-{number:05}"] = {**index["adapters"]["mood"], "folder": "mood"}
    shop.path.write_text(json.dumps(index))
    lines = adapt("list").stdout.splitlines()
    assert len(lines) == 10_003
    assert lines[0].split() == ["name", "task", "strategy", "base", "size", "measured", "version"]
    assert len({line.index("text-classification") for line in lines[1:]}) == 1
