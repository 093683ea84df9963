"""adapt predict --runtime onnx, list and show, with and without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, classes
from tests.helpers.cli import Adapt
from tests.helpers.pooled import add
from tests.helpers.without_torch import WITHOUT_TORCH
from tests.runtime.conftest import Export

PAIR = ["classes-lora", "classes-probe"]


def test_predict_finds_the_export_beside_the_registry(export: Export, adapt: Adapt) -> None:
    flags = ["--registry", export.registry.path, "--json"]
    onnx = json.loads(adapt("predict", ",".join(PAIR), *TEXTS[:2], *flags, "--runtime", "onnx").stdout)
    wanted = json.loads(adapt("predict", ",".join(PAIR), *TEXTS[:2], *flags, "--runtime", "torch").stdout)
    assert [list(row) for row in onnx] == [list(row) for row in wanted]
    for row, other in zip(onnx, wanted, strict=True):
        for name in PAIR:
            one, two = row[name], other[name]
            assert (one["label"] if isinstance(one, dict) else one) == (two["label"] if isinstance(two, dict) else two)


def test_an_export_is_enough(export: Export, adapt: Adapt, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text, "n": 1}) + "\n" for text in TEXTS))
    result = adapt("predict", "classes-lora", "--file", "rows.jsonl", "--export", export.folder, "--out", "out.jsonl")
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in answers] == TEXTS
    assert all(row["label"] in export.adapters["classes-lora"].task.labels for row in answers)


def test_flags_that_contradict(export: Export, adapt: Adapt) -> None:
    text = ["predict", "classes-lora", "a", "--export", export.folder]
    assert "--export" in adapt(*text, "--runtime", "torch").stderr
    assert "--device cpu is for --runtime torch" in adapt(*text, "--device", "cpu").stderr
    assert "--base x is for --runtime torch" in adapt(*text, "--base", "x").stderr
    assert "onnx doesn't exist; adapt export NAME" in adapt("predict", "a", "b", "--runtime", "onnx").stderr
    tagged = adapt("predict", "classes-lora@prod", "a", "--export", export.folder)
    assert "there is no registry.json, by which 'classes-lora@prod' would name a version" in tagged.stderr
    assert "no adapter named 'classes-lor'" in adapt("predict", "classes-lor", "a", "--export", export.folder).stderr


def test_other_versions_and_bases_than_the_registry_has(export: Export, adapt: Adapt, tmp_path: Path) -> None:
    shutil.copytree(export.registry.path.parent, tmp_path / "copy")
    registry = type(export.registry).at(tmp_path / "copy" / "registry.json")
    flags = ["--registry", registry.path, "--runtime", "onnx"]
    add(registry, "classes-lora", export.adapters["classes-rank-3"])
    message = adapt("predict", "classes-lora", "a", *flags).stderr
    assert "has version" in message
    assert "export it again: adapt export classes-lora" in message
    manifest = json.loads((tmp_path / "copy" / "onnx" / "export.json").read_text())
    manifest["base"]["fingerprint"] = "0" * 64
    (tmp_path / "copy" / "onnx" / "export.json").write_text(json.dumps(manifest))
    assert "is an export of base" in adapt("predict", "pair-lora", "a\tb", *flags).stderr


COMMANDS = """
for words in (["list"], ["show", "classes-lora", "--json"], ["predict", "classes-lora", "a film", "--runtime", "onnx"],
              ["predict", "classes-lora", "a film", "--runtime", "torch"]):
    try:
        main(words)
    except SystemExit as error:
        print("exit", error.code)
"""


def test_list_show_and_predict_without_torch(export: Export) -> None:
    env = {**os.environ, "ADAPT_REGISTRY": str(export.registry.path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + COMMANDS], capture_output=True, text=True, env=env, check=False
    )
    assert done.stdout.count("exit 0") == 3, done.stderr
    assert "classes-probe" in done.stdout
    assert '"problem_type": "single_label_classification"' in done.stdout
    assert done.stdout.endswith("exit 2\n")
    assert done.stderr.splitlines()[-1] == "Error: this needs torch, which is not installed: pip install adapterkit"


@pytest.mark.parametrize(("task", "why"), [("ia3", "no scale patches"), ("bottleneck", "no bottleneck patches")])
def test_what_is_not_there_is_refused_by_name(
    export: Export, adapt: Adapt, task: str, why: str, tmp_path: Path
) -> None:
    registry = type(export.registry).at(tmp_path / "registry.json")
    add(registry, "mine", made.adapter(export.base, classes(2), task))
    result = adapt("export", "mine", "--format", "onnx", "--to", "out")
    assert result.exit_code == 2
    assert f"adapter 'mine': --format onnx has {why}" in result.stderr
    assert not (tmp_path / "out").exists()
    assert "takes one adapter, got 2" in adapt("export", "mine", "mine", "--format", "peft", "--to", "out").stderr
