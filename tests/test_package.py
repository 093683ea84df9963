"""The wheel and the sdist: which files they hold, and which extras they have; adapterkit-runtime requires no torch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.helpers.scripts import module

ROOT = Path(__file__).parent.parent
INSTALLS = module(ROOT / "release/installs.py")
SOURCE = module(ROOT / "release/runtime_source.py")
BUILD = "import sys; from setuptools.build_meta import build_sdist, build_wheel; build_wheel('.'); build_sdist('.')"
FOLDERS = {"adapters": "adapterkit", "plugins": "adapterkit/plugins", "cli": "adapterkit/cli"}
CODE = {".py", ".pyi", ".typed"}
DATA = ("adapterkit/demo/", "adapterkit/serving/page/", "adapterkit/report/template/")


def test_a_file_of_the_sources_is_in_the_wheel_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_one.py").touch()
    for name in ("pyproject.toml", "LICENSE", "MANIFEST.in", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    expected = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in files if ".dist-info/" not in name} == expected
    assert [name for name in files & expected if Path(name).suffix not in CODE and not name.startswith(DATA)] == []
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"{folder}/__init__.py" for folder in FOLDERS} | {"LICENSE", "README.md", "pyproject.toml"} <= packed
    assert not [name for name in packed if name.startswith("tests")]


def test_each_extra_that_a_message_names_exists() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {
        extra
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for extra in re.findall(r"(?:adapterkit\[|install\(['\"])(\w+)", path.read_text())
    }
    assert named
    assert named <= extras


def test_the_line_of_each_missing_extra_is_tried_on_the_installed_wheel() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras.keys() - {"dev"} == INSTALLS.EXTRAS.keys() | INSTALLS.BEHIND.keys()


def test_adapterkit_runtime_requires_what_answers_need_and_no_torch() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    light, full = (tomllib.loads(one)["project"] for one in (SOURCE.project(text), text))
    names = {re.split("[><=]", line)[0] for line in light["dependencies"]}
    assert names == {*SOURCE.LIGHT, "numpy", "onnxruntime", "tokenizers"}
    assert light["name"] == "adapterkit-runtime"
    assert light["version"] == full["version"]
    assert light["scripts"] == full["scripts"]
    assert light["optional-dependencies"] == {name: full["optional-dependencies"][name] for name in ("otel", "serve")}
    assert "entry-points" not in light


def test_a_changed_pyproject_is_noticed() -> None:
    with pytest.raises(SystemExit, match="0 places match"):
        SOURCE.project((ROOT / "pyproject.toml").read_text().replace('name = "adapterkit"', 'name = "other"'))
