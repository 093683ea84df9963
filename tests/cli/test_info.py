"""adapt info: versions and hardware for a bug report, without names of adapters, hosts or the home folder."""

from __future__ import annotations

import json
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from adapterkit.workflows import environment
from tests.helpers.cli import Adapt


def test_versions_hardware_and_plugins_are_printed(adapt: Adapt) -> None:
    sections = json.loads(adapt("info", "--json").stdout)
    assert sections["system"]["adapterkit"] == version("adapterkit")
    assert sections["packages"]["torch"] == torch.__version__
    assert sections["hardware"]["precision"]
    assert "ruff" not in sections["packages"]
    lines = adapt("info").stdout.splitlines()
    assert len(lines) == sum(map(len, sections.values()))


def test_nothing_of_a_user_is_printed(adapt: Adapt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = adapt("info").stdout
    assert "~/cache" in text
    for private in (str(tmp_path), "hf_secret", socket.gethostname()):
        assert private not in text


def test_without_torch_the_distribution_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_runtime(name: str) -> str:
        if name != "adapterkit-runtime":
            raise environment.PackageNotFoundError(name)
        return "0.1.0"

    monkeypatch.setattr(environment, "version", only_runtime)
    assert environment.distribution_name() == "adapterkit-runtime"
