"""A strategy in a package of its own, installed by pip, works in every command without a line of the core changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import forked
from tests.helpers.files import ROOT


@pytest.fixture
def adapt(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Install the package into a folder of its own, and return `adapt` in an environment that has it."""
    source = shutil.copytree(ROOT / "tests" / "strangers" / "adapterkit-bitfit", tmp_path / "elsewhere")
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)
    env = {**os.environ, "PYTHONPATH": str(site)}

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "adapterkit.cli", *map(str, args)]
        return forked.run(command, env=env, cwd=tmp_path)

    return run


@pytest.mark.slow
def test_a_strangers_strategy_is_listed_takes_flags_trains_saves_loads_and_predicts(
    adapt: Callable[..., subprocess.CompletedProcess[str]], small_csv: Path, tiny_folder: Callable[..., Path]
) -> None:
    assert "adapterkit-bitfit" in adapt("strategies").stdout
    shown = adapt("run", "--strategy", "bitfit@adapterkit-bitfit", "--help").stdout
    shown = " ".join(shown.split())
    assert "--without" in shown
    assert "Leave out biases of modules whose name contains this" in shown
    assert "--lora-alpha" not in shown

    options = ["--strategy", "bitfit@adapterkit-bitfit", "--without", "LayerNorm", "--epochs", 1, "--name", "theirs"]
    options += ["--head-init", "random"]  # a solved head may be better than one epoch, and its start is saved
    done = adapt("run", "--base", tiny_folder(), "--train-file", small_csv, *options, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    manifest = json.loads(adapt("show", "theirs", "--json").stdout)
    assert manifest["strategy"] == {
        "name": "bitfit",
        "distribution": "adapterkit-bitfit",
        "version": "1.0",
        "options": {"learning_rate": 0.01, "without": "LayerNorm"},
    }
    learned = [f"{module}.{name}" for module, patch in manifest["patches"].items() for name in patch["tensors"]]
    assert learned
    assert all(name.endswith(".bias") and "LayerNorm" not in name for name in learned)
    assert report["adapter_bytes"] < 10_000
    assert json.loads(adapt("predict", "theirs", "lovely food", "--json").stdout)[0]["label"] in ("pos", "neg")
