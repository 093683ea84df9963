"""Exports that are damaged, of another base, or hostile are refused in one line."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adapterkit.errors import AdapterError, AdapterkitError, PoolError
from adapterkit.io.atomic import sha256
from adapterkit.runtime import OnnxPool
from adapterkit.runtime.graph_check import check_graph
from adapterkit.runtime.graph_weights import without_weights
from tests.helpers.adapters import TEXTS
from tests.runtime.conftest import Export

NAME = "classes-lora"


@pytest.fixture
def folder(export: Export, tmp_path: Path) -> Path:
    shutil.copytree(export.folder, tmp_path / "copy")
    return tmp_path / "copy"


def refused(folder: Path) -> str:
    """Return the message with which an export is refused, one line."""
    with pytest.raises(AdapterkitError) as caught:
        OnnxPool(folder).predict(TEXTS, NAME)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "export.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and its digest, as a hostile author would."""
    (folder / name).write_bytes(data)
    edit(folder, lambda m: m["files"].update({name: {"sha256": sha256(data), "bytes": len(data)}}))


def test_a_changed_byte_in_any_file_is_noticed(folder: Path) -> None:
    record = json.loads((folder / "export.json").read_text())["adapters"][NAME]
    for name in ("base.onnx", "tokenizer.json", record["head"], record["tensors"]):
        data = (folder / name).read_bytes()
        middle = len(data) // 2
        (folder / name).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        assert f"{name} is damaged or was edited: its SHA-256 is" in refused(folder)
        (folder / name).write_bytes(data[:-1])
        assert f"{name} is damaged: {len(data) - 1} bytes, expected {len(data)}" in refused(folder)
        (folder / name).unlink()
        assert f"{name} can't be read: No such file" in refused(folder)
        (folder / name).symlink_to("/dev/zero")
        assert f"{name} can't be read" in refused(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(data)
    OnnxPool(folder).predict(TEXTS, NAME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=2), "it has format version 2"),
        (lambda m: m["base"].pop("fingerprint"), "base.fingerprint is missing"),
        (lambda m: m["files"].pop("base.onnx"), r"files\['base.onnx'\] is missing"),
        (lambda m: m["adapters"][NAME].update(tensors="../x"), "a file in the export's folder, got '../x'"),
        (lambda m: m["adapters"][NAME].update(tensors="/etc/passwd"), "a file in the export's folder"),
        (lambda m: m["adapters"][NAME].update(modules=["other"]), "'other', for which the graph has no input"),
        (lambda m: m["adapters"][NAME]["task"].update(name="none"), "no task named 'none'"),
        (lambda m: m.update(adapters=[]), "adapters must be an object"),
    ],
)
def test_manifests(folder: Path, change: Callable[[dict], None], message: str) -> None:
    edit(folder, change)
    with pytest.raises(AdapterkitError, match=message):
        OnnxPool(folder).predict(TEXTS, NAME)


def test_no_export(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"is no export: it has no export\.json"):
        OnnxPool(tmp_path)
    (tmp_path / "export.json").write_text("{")
    with pytest.raises(AdapterError, match="is not an export's manifest"):
        OnnxPool(tmp_path)


def test_another_base(export: Export) -> None:
    OnnxPool(export.folder, fingerprint=export.base.fingerprint)
    with pytest.raises(PoolError, match=r"is an export of base .* expected a base of fingerprint 0000"):
        OnnxPool(export.folder, fingerprint="0" * 64)


def test_factors_and_heads_of_other_shapes(folder: Path) -> None:
    manifest = json.loads((folder / "export.json").read_text())
    own, others = manifest["adapters"][NAME], manifest["adapters"]["entities-lora"]
    replace_file(folder, own["tensors"], (folder / others["tensors"]).read_bytes())
    assert "heads/0.onnx takes 'bert.pooler.dense.weight', which this export has no value for" in refused(folder)
    replace_file(folder, own["tensors"], (folder / manifest["adapters"]["number-lora"]["tensors"]).read_bytes())
    assert "heads/0.onnx can't be run: " in refused(folder)
    replace_file(folder, own["tensors"], (folder / manifest["adapters"]["classes-probe"]["tensors"]).read_bytes())
    assert "the factors of 'encoder.layer.0.attention.self.query' are (0,) and (0,), expected (32, r)" in refused(
        folder
    )


def test_hostile_graphs(folder: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / "base.onnx")

    def written(change: Callable[[object], None]) -> str:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        change(copy)
        replace_file(folder, "base.onnx", copy.SerializeToString())
        return refused(folder)

    def outside(copy: object) -> None:
        tensor = copy.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../etc/passwd")

    def in_a_branch(copy: object) -> None:
        branch = onnx.helper.make_graph([], "branch", [], [])
        tensor = branch.initializer.add(name="x", data_type=1)
        tensor.external_data.add(key="location", value="/etc/passwd")
        node = copy.graph.node.add(op_type="If")
        node.attribute.append(onnx.helper.make_attribute("then_branch", branch))

    def custom(copy: object) -> None:
        copy.graph.node[0].domain = "com.example"

    def imports(copy: object) -> None:
        copy.opset_import.add(domain="com.microsoft", version=1)

    def functions(copy: object) -> None:
        copy.functions.add(name="f", domain="")

    assert "has a tensor in another file" in written(outside)
    assert "has a tensor in another file" in written(in_a_branch)
    assert "operators of domain 'com.example'" in written(custom)
    assert "operators of domain 'com.microsoft'" in written(imports)
    assert "defines functions" in written(functions)


def test_random_bytes_are_no_graph(export: Export) -> None:
    data = (export.folder / "base.onnx").read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data[: draw.randrange(len(data))])
        for _ in range(3):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with contextlib.suppress(AdapterError):  # any other error fails the test
            check_graph(memoryview(damaged), "base.onnx")
            with contextlib.suppress(ValueError, IndexError):
                without_weights(memoryview(damaged), "base.onnx")
            continue
        refused += 1
    assert refused > 30


@pytest.mark.parametrize("labels", [None, [], ["a"], ["a", "b", "c"]])
def test_a_head_has_an_output_for_each_label(labels: list[str] | None, folder: Path) -> None:
    def change(manifest: dict) -> None:
        options = manifest["adapters"][NAME]["task"]["options"]
        del options["labels"]
        options.update({} if labels is None else {"labels": labels})

    edit(folder, change)
    assert f"adapter '{NAME}' has {len(labels or ())} labels, and its head 4" in refused(folder)


def test_every_tensor_belongs_to_a_module_of_the_manifest(folder: Path) -> None:
    edit(folder, lambda m: m["adapters"][NAME]["modules"].pop())
    assert f"belongs to no module that export.json lists for '{NAME}'" in refused(folder)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/nowhere doesn't exist" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert f"{tmp_path}/file is no folder" in refused(tmp_path / "file")
    assert "is no export: it has no export.json" in refused(tmp_path)
