"""What others install: found, chosen, and kept from doing harm; made, checked, installed and taken away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit import AdapterkitError, Base
from adapterkit.discovery import INTERFACES, MODALITIES, find_plugin, installed, strategy_class, unambiguous
from adapterkit.plugin_tools.install import install
from adapterkit.plugin_tools.scaffold import scaffold
from adapterkit.tasks import task_class
from adapterkit.testing.bench import task
from tests.helpers import random_adapters as made
from tests.helpers.cli import Adapt
from tests.helpers.files import STRANGERS

HEAD = """
from dataclasses import dataclass
from typing import ClassVar
from adapterkit import Strategy
"""


GOOD = """
@dataclass(frozen=True, kw_only=True)
class Good(Strategy):
    learning_rate: float = 1e-2
    def apply(self, base):
        return [p for name, p in base.named_parameters() if name.endswith("bias")]
"""


FAULTS = {
    "raises": ("raise ValueError('no\\nluck')", "can't be imported: ValueError: no luck"),
    "lacks": ("import no_such_module", "can't be imported: ModuleNotFoundError: No module named 'no_such_module'"),
    "exits": ("import sys; sys.exit(3)", "can't be imported: SystemExit: 3"),
    "ends": ("raise type('Odd', (BaseException,), {})()", "can't be imported: Odd:"),
    "odd-option": (HEAD + GOOD + "    odd: dict = None\n", "Good.odd: <class 'dict'> can't be a flag"),
    "unknown-option": (HEAD + GOOD + "    odd: 'Nothing.there' = None\n", "name 'Nothing' is not defined"),
    "literal": (
        "from typing import Literal" + HEAD + GOOD + "    odd: Literal[1, 2] = 1\n",
        "Good.odd: typing.Literal[1, 2] can't be a flag; use int, float, bool, str or a Literal of strings",
    ),
    "bare": (HEAD + "class Good(Strategy):\n    def apply(self, base): return []\n", "lacks @dataclass(frozen=True"),
    "plain": (HEAD + GOOD.replace("@dataclass(frozen=True, kw_only=True)", ""), "lacks @dataclass(frozen=True"),
    "later": (
        HEAD + GOOD + "    interface: ClassVar[int] = 7\n",
        f"is written for interface 7; this adapterkit supports interface {INTERFACES[0]}",
    ),
    "other": ("Good = dict", "is not a subclass of adapterkit.Strategy"),
    "missing": ("", "can't be imported: AttributeError"),
    "slow": ("import time; time.sleep(1.2)\n" + HEAD + GOOD, None),
    "torchy": ("import torch\n" + HEAD + GOOD, None),
    "prints": ("print('hello')\n" + HEAD + GOOD, None),
    "child": (HEAD + GOOD.replace("Good", "Parent") + "class Good(Parent): pass\n", None),
}
"""Modules by the name of their strategy, and what is said of them; None where they are good."""


def package(site: Path, distribution: str, name: str, code: str) -> None:
    """Put a package into a folder as pip would: a module that notes its import, and metadata."""
    module = distribution.replace("-", "_")
    note = f"open({str(site / 'imported')!r}, 'a').write({distribution!r} + chr(10))\n"
    (site / f"{module}.py").write_text(note + code)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[adapterkit.strategies]\n{name} = {module}:Good\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on the path with a package for each fault, and two that share a name."""
    (folder := tmp_path / "site").mkdir()
    for name, (code, _) in FAULTS.items():
        package(folder, f"{name}-package", name, code)
    for distribution in ("first-twin", "Second.Twin"):
        package(folder, distribution.replace(".", "-"), "twin", HEAD + GOOD)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for module in [name for name in sys.modules if (folder / f"{name}.py").exists()]:
        del sys.modules[module]


def imported(site: Path) -> str:
    return (site / "imported").read_text() if (site / "imported").exists() else ""


@pytest.mark.parametrize(
    "command",
    [["--help"], ["strategies"], ["list"], ["run", "--help"], ["run", "--strategy", "layerwise", "--help"]],
    ids=" ".join,
)
def test_nothing_of_others_is_imported_for(command: list[str], site: Path, adapt: Adapt) -> None:
    done = adapt(*command)
    assert done.exit_code == 0, done.output
    assert imported(site) == ""


@pytest.mark.parametrize("command", [["--help"], ["strategies"]], ids=" ".join)
def test_torch_is_not_imported_with_plugins_beside(command: list[str], site: Path) -> None:
    code = f"from adapterkit.cli import main\nimport sys\ntry: main({command!r})\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'transformers'} & set(sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(site)}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert ("torchy-package" in said) == (command == ["strategies"])
    assert imported(site) == ""


def test_each_fault_is_listed_with_its_distribution_and_no_other_row_suffers(site: Path, adapt: Adapt) -> None:
    first = adapt("plugins", "list")
    shown = first.stdout
    assert "hello" in first.stderr
    assert "hello" not in shown
    assert "yes, in 1." in shown
    assert "can't be imported: SystemExit: 3" in shown
    done = adapt("plugins", "list", "--json")
    rows = {(row["name"], row["distribution"]): row for row in json.loads(done.stdout)}
    for name, (_, message) in FAULTS.items():
        row = rows.pop((name, f"{name}-package"))
        assert (row["fault"] is None) == (message is None), row
        assert (message or "") in (row["fault"] or ""), row
    for one, other in (("first-twin", "Second-Twin"), ("Second-Twin", "first-twin")):
        assert rows.pop(("twin", one))["fault"] == f"{other} provides the same name; use twin@{one}"
    assert rows
    assert {row["distribution"] for row in rows.values()} == {"adapterkit"}
    assert [row for row in rows.values() if row["fault"]] == []


def test_metadata_that_cannot_be_read_hides_no_others(site: Path, adapt: Adapt) -> None:
    (info := site / "garbled-1.0.dist-info").mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: garbled\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[adapterkit.strategies]\nno equals sign here\n")
    listed = adapt("strategies")
    assert listed.exit_code == 0, listed.output
    assert {"lora", "twin", "slow"} <= {line.split()[0] for line in listed.stdout.splitlines()}


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("name", [name for name, (_, message) in FAULTS.items() if message])
def test_a_broken_strategy_is_an_error_of_one_line_that_names_its_package(name: str, adapt: Adapt) -> None:
    done = adapt("run", "--strategy", name)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: '{name}' of {name}-package 1.0")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("raising", ["raise RuntimeError('no luck')", "raise SystemExit(0)"])
def test_options_that_raise_when_they_are_checked_are_an_error_that_names_their_package(
    raising: str, tmp_path: Path, adapt: Adapt, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[..., Path]
) -> None:
    package(tmp_path, "picky-package", "picky", HEAD + GOOD + f"    def __post_init__(self):\n        {raising}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "picky_package", raising=False)
    for command in (["run", "--strategy", "picky"], ["plugins", "show", "picky", "--base", tiny_folder()]):
        done = adapt(*command)
        assert done.exit_code == 2, done.output
        assert done.stderr.startswith("Error: 'picky' of picky-package 1.0 failed: ")
        assert "(picky_package.py:" in done.stderr
        assert done.stderr.count("\n") == 1


def test_two_with_one_name_are_told_apart_by_their_package(
    site: Path, adapt: Adapt, tiny_folder: Callable[..., Path], small_csv: Path
) -> None:
    with pytest.raises(AdapterkitError, match=r"provided by Second-Twin 1\.0 and first-twin 1\.0; use twin@Second"):
        find_plugin("twin")
    rows = ["--base", tiny_folder(), "--train-file", small_csv, "--epochs", 1]
    done = adapt("run", "--strategy", "twin@second.twin", *rows, "--name", "chosen")
    assert done.exit_code == 0, done.output
    assert imported(site) == "Second-Twin\n"
    stored = json.loads(adapt("show", "chosen", "--json").stdout)["strategy"]
    assert (stored["name"], stored["distribution"], stored["version"]) == ("twin", "Second-Twin", "1.0")
    version = json.loads(adapt("list", "--json").stdout)["chosen"]["version"]
    assert "strategy: twin@second.twin" in Path(f"store/chosen/{version}/run.yaml").read_text()
    assert adapt("plan", "--strategy", "twin@first-twin", *rows).exit_code == 0
    assert "did you mean 'twin@first-twin'" in adapt("run", "--strategy", "twin@frist-twin").stderr
    assert adapt("run", "--strategy", "").stderr.count("twin") == 1
    listed = adapt("list", "--strategy", "twin@second.twin")
    assert (listed.exit_code, listed.stderr.count("\n")) == (2, 1)
    assert "expected a name without its package, as in --strategy twin" in listed.stderr


@pytest.mark.usefixtures("site")
def test_a_comparison_takes_both_of_two_with_one_name() -> None:
    names = unambiguous(installed())
    assert {"twin@first-twin", "twin@Second-Twin", "lora"} <= set(names)
    assert "twin" not in names


def test_two_modalities_of_one_name_are_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner in ("first-eyes", "second-eyes"):
        package(tmp_path, owner, "pixel_values", "")
        points = tmp_path / f"{owner.replace('-', '_')}-1.0.dist-info" / "entry_points.txt"
        points.write_text(points.read_text().replace("strategies", "modalities"))
    monkeypatch.syspath_prepend(str(tmp_path))
    message = r"provided by first-eyes 1\.0 and second-eyes 1\.0; choose one with ADAPTERKIT_PLUGINS=first-eyes"
    with pytest.raises(AdapterkitError, match=message):
        find_plugin("pixel_values", MODALITIES)


def test_a_strategy_called_lora_leaves_the_default_ours(
    tmp_path: Path, adapt: Adapt, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "their-lora", "lora", HEAD + GOOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "--lora-alpha" in adapt("run", "--help").stdout
    assert "use lora@adapterkit or lora@their-lora" in adapt("run", "--strategy", "lora").stderr


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("", set()),
        ("slow", {"slow"}),
        ("SECOND_twin, torchy-package", {"twin", "torchy"}),
        ("twin@first-twin", {"twin"}),
        ("twin@torchy-package", set()),
    ],
)
def test_the_environment_restricts_what_is_used(
    chosen: str, names: set[str], monkeypatch: pytest.MonkeyPatch, adapt: Adapt
) -> None:
    own = {found.name for found in installed() if found.distribution == "adapterkit"}
    assert len(installed()) == len(own) + len(FAULTS) + 2
    monkeypatch.setenv("ADAPTERKIT_PLUGINS", chosen)
    assert {found.name for found in installed()} == own | names
    with pytest.raises(AdapterkitError, match=r"'raises' of raises-package 1\.0 is disabled by ADAPTERKIT_PLUGINS="):
        find_plugin("raises")
    rows = {row["name"]: row["fault"] for row in json.loads(adapt("plugins", "list", "--json").stdout)}
    assert rows["raises"] == "disabled by ADAPTERKIT_PLUGINS"


def test_a_strangers_task_and_kind_of_patch_are_found(
    tmp_path: Path, adapt: Adapt, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[..., Path], small_csv: Path
) -> None:
    for name in ("adapterkit-stars", "adapterkit-shift"):
        _installed(STRANGERS / name, tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert task_class("stars").name == "stars"
    options = ["--task", "stars", "--tolerance", 0, "--strategy", "shift", "--epochs", 1, "--name", "theirs"]
    done = adapt("run", "--base", tiny_folder(), "--train-file", small_csv, *options)
    assert done.exit_code == 0, done.output
    assert "near" in done.stdout
    manifest = json.loads(adapt("show", "theirs", "--json").stdout)
    assert {patch["kind"] for patch in manifest["patches"].values()} == {"shift"}
    assert manifest["task"]["options"]["tolerance"] == 0
    assert json.loads(adapt("predict", "theirs", "lovely food", "--json").stdout)[0]["label"] in ("pos", "neg")
    monkeypatch.setenv("ADAPTERKIT_PLUGINS", "")
    assert "task 'stars' of adapterkit-stars 1.0 is disabled" in adapt("run", "--task", "stars").stderr


def test_a_kind_of_patch_that_is_not_installed_is_told_with_the_package_that_trained_it(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, task())
    adapter.manifest["strategy"] = {"name": "swing", "distribution": "swing-package", "version": "1.0"}
    for patch in adapter.manifest["patches"].values():
        patch["kind"] = "swing"
    said = r"no kind of patch named 'swing'; .*; the adapter was trained with strategy 'swing' of swing-package 1\.0"
    with pytest.raises(AdapterkitError, match=said):
        adapter.patches(tiny_base)


def _installed(source: Path, site: Path) -> None:
    """Install a package into a folder of its own."""
    copy = shutil.copytree(source, site.parent / "source" / source.name)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--upgrade"]
    subprocess.run([*command, "--target", str(site), str(copy)], check=True)


# ---- looking, making, checking


def test_show_tells_the_options_and_what_would_learn(adapt: Adapt, tiny_folder: Callable[..., Path]) -> None:
    shown = json.loads(adapt("plugins", "show", "layerwise", "--base", tiny_folder(), "--json").stdout)
    assert {"learning_rate", "top", "layers"} <= {option["name"] for option in shown["options"]}
    assert shown["trains"]["blocks"] == [1, 2]
    each = 4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32  # attention, feed-forward, two norms
    assert shown["trains"]["parameters"] == 2 * each
    assert shown["trains"]["bytes"] == 4 * 2 * each
    assert "nothing of the base" in adapt("plugins", "show", "head-only", "--base", tiny_folder()).stdout


def test_check_ends_with_1_where_a_rule_is_broken(
    adapt: Adapt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "numbers-package", "numbers", HEAD + GOOD + "    layers: tuple[int, ...] = (0, 1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("adapterkit.testing.rules.RULES", _cheap())
    done = adapt("plugins", "check", "numbers", "--base", "bert,gpt2")
    assert done.exit_code == 1
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "bert, gpt2: outputs equal to the bit" in lines["applying"]
    assert "failed" in lines["options"]
    assert "was written as" in lines["options"]
    found = json.loads(adapt("plugins", "check", "layerwise", "--base", "gpt2", "--json").stdout)
    assert {(o["family"], o["state"]) for o in found} == {("gpt2", "kept")}
    assert (
        "no family of tiny bases named 'brt'; did you mean 'bert'?"
        in adapt("plugins", "check", "lora", "--base", "brt").stderr
    )


def _cheap() -> Any:
    from adapterkit.testing import RULES

    return [rule for rule in RULES if rule.name in ("applying", "removing", "options", "copies")]


@pytest.mark.parametrize("name", ["Bit", "bit_fit", "", "-x", "x-", "../x", "é", "bit fit", "x" * 65])
def test_a_new_package_needs_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterkitError, match="a strategy's name has lower-case letters"):
        scaffold(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_package_takes_no_ones_place(tmp_path: Path) -> None:
    with pytest.raises(AdapterkitError, match="strategy 'lora' of adapterkit"):
        scaffold("lora", tmp_path)
    (tmp_path / "adapterkit-mine").mkdir()
    with pytest.raises(AdapterkitError, match="exists; choose another name"):
        scaffold("mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["adapterkit-mine"]


def test_what_pip_says_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapt: Adapt) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(AdapterkitError, match="pip install: Could not find a version that satisfies") as caught:
        install(["adapterkit-no-such-plugin"])
    assert "\n" not in str(caught.value)
    assert "expected a package, got pip's option '--user'" in adapt("plugins", "install", "--", "--user").stderr
    assert "'lora' comes with adapterkit" in adapt("plugins", "uninstall", "lora").stderr
    for name in ("torch", "adapterkit"):
        assert f"no plugin named '{name}'" in adapt("plugins", "uninstall", name).stderr
    assert strategy_class("lora")
