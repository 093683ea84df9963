"""Packages of strategies: built, installed into a new environment, and tested there."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tokenize
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Registry
from adapterkit.plugin_tools.scaffold import scaffold
from tests.helpers.files import EXAMPLE, STRANGERS


def test_a_strangers_bitfit_and_a_new_package_are_at_most_20_lines_of_code(tmp_path: Path) -> None:
    new = scaffold("bit-mine", tmp_path) / "adapterkit_bit_mine.py"
    for file in (STRANGERS / "adapterkit-bitfit" / "adapterkit_bitfit.py", new):
        assert 10 < lines_of_code(file) <= 20, file
    assert len((EXAMPLE / "adapterkit_norms.py").read_text().splitlines()) < 30


def lines_of_code(file: Path) -> int:
    """Count the lines of a file that hold more than a comment."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text()).readline)
    return len({n for t in tokens if t.type not in skipped for n in range(t.start[0], t.end[0] + 1)})


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the python of a new environment in which this adapterkit and what it needs can be imported."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for old in site.glob("setuptools*"):  # the environment of the tests has the one that builds
        shutil.rmtree(old)
    there = [path for path in sys.path if path.endswith("site-packages")]
    (site / "others.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in there))
    return folder / "bin" / "python"


def ran(*command: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {"PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}  # pip reads 0 as: without isolation
    return subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_wheel_of_the_example_is_used_from_a_fresh_environment(
    fresh: Path, tmp_path: Path, tiny_folder: Callable[..., Path], small_csv: Path
) -> None:
    source = shutil.copytree(EXAMPLE, tmp_path / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    built = ran(fresh, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, source, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    adapt = (fresh, "-m", "adapterkit.cli")
    (wheel,) = tmp_path.glob("*.whl")
    done = ran(*adapt, "plugins", "install", wheel, cwd=tmp_path)
    assert done.stdout == "installed  strategy norms of adapterkit-strategy-example 0.1.0\n", done.stderr
    rows = ["--base", tiny_folder(), "--train-file", small_csv, "--epochs", "1", "--name", "theirs"]
    trained = ran(*adapt, "run", "--strategy", "norms", "--no-values", *rows, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    manifest = Registry(tmp_path / "registry.json").load("theirs").manifest
    assert manifest["strategy"]["distribution"] == "adapterkit-strategy-example"
    assert all(module.endswith("LayerNorm") for module in manifest["patches"])
    gone = ran(*adapt, "plugins", "uninstall", "norms", cwd=tmp_path)
    assert gone.stdout == "adapterkit-strategy-example uninstalled, with strategy norms\n", gone.stderr
    assert "norms" not in ran(*adapt, "strategies", cwd=tmp_path).stdout


@pytest.mark.slow
def test_a_new_package_is_green_at_once(fresh: Path, tmp_path: Path) -> None:
    assert ran(fresh, "-m", "adapterkit.cli", "plugins", "new", "mine", cwd=tmp_path).returncode == 0
    folder = tmp_path / "adapterkit-mine"
    done = ran(fresh, "-m", "pip", "install", "--no-deps", "-e", ".", cwd=folder)
    assert done.returncode == 0, done.stderr
    tested = ran(fresh, "-m", "pytest", "-q", cwd=folder)
    assert tested.returncode == 0, tested.stdout
    assert "skipped" not in tested.stdout
