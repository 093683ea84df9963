"""One export of a tiny base, with adapters of every kind, by the command line."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from adapterkit import Adapter, Base, Registry
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.pooled import add
from tests.helpers.random_probes import probe
from tests.helpers.task_kinds import kinds

Rows = list[tuple[str, str]]
"""Texts, each with the name of an adapter."""


@dataclass
class Export:
    base: Base
    registry: Registry
    adapters: dict[str, Adapter]
    rows: Rows
    folder: Path


def adapters_of(base: Base) -> tuple[dict[str, Adapter], Rows]:
    """Return adapters of every task: updates of two ranks, a head alone, probes; and texts for each of them."""
    adapters: dict[str, Adapter] = {}
    rows: Rows = []
    for seed, (kind, (task, texts)) in enumerate(kinds().items()):
        of_kind = {"lora": made.adapter(base, task, "lora", seed=seed)}
        if kind in ("classes", "entities"):
            of_kind["rank-3"] = made.adapter(base, task, "lora", seed=seed + 10, r=3, target_modules=("query", "key"))
        if kind in ("classes", "questions", "choices"):
            of_kind["probe"] = probe(base, task, (0, 2), None if kind == "questions" else "mean", seed=seed)
        for form, adapter in of_kind.items():
            adapters[f"{kind}-{form}"] = adapter
            rows += [(text, f"{kind}-{form}") for text in texts]
    return adapters, rows


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Export adapters of every task on a BERT. It takes many seconds, so all tests and workers share it."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "export"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            tiny.make("bert", folder / "base", head="AutoModelForMaskedLM", num_hidden_layers=2)
        base = Base.load(str(folder / "base"))
        adapters, rows = adapters_of(base)
        registry = Registry.at(folder / "registry.json")
        if not (folder / "onnx").exists():
            _export(registry, adapters, folder / "onnx")
    mixed = list(itertools.chain(rows[::3], rows[1::3], rows[2::3]))
    return Export(base, registry, adapters, mixed, folder / "onnx")


def _export(registry: Registry, adapters: dict[str, Adapter], folder: Path) -> None:
    from adapterkit.cli import main

    for name, adapter in adapters.items():
        add(registry, name, adapter)
    flags = ["--format", "onnx", "--to", str(folder), "--registry", str(registry.path)]
    result = CliRunner().invoke(main, ["export", *adapters, *flags], prog_name="adapt")
    assert result.exit_code == 0, result.output
    assert f"{len(adapters)} adapters" in result.output
