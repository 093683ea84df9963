"""A graph whose weights stay in its file is the same graph, read by onnx and run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapterkit.errors import AdapterError
from adapterkit.runtime.graph_weights import without_weights
from adapterkit.runtime.protobuf import content_field, fields, number_field
from adapterkit.runtime.session import Session

onnx = pytest.importorskip("onnx")


def model() -> bytes:
    """Return a model of x @ a @ b + c, of which a and b are large."""
    draw = np.random.default_rng(0)
    values = {"a": draw.normal(size=(40, 30)), "b": draw.normal(size=(30, 20)), "c": draw.normal(size=(20,))}
    tensors = [onnx.numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items()]
    tensors.append(onnx.numpy_helper.from_array(np.arange(500), "unused"))  # int64: 4,000 bytes
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "a"], ["y"]),
        onnx.helper.make_node("MatMul", ["y", "b"], ["z"]),
        onnx.helper.make_node("Add", ["z", "c"], ["out"]),
    ]
    kinds = [("x", 40), ("out", 20)]
    x, out = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["rows", width]) for n, width in kinds)
    graph = onnx.helper.make_graph(nodes, "graph", [x], [out], tensors)
    data: bytes = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    return data


def test_the_large_tensors_are_named_by_their_places(tmp_path: Path) -> None:
    data = model()
    (tmp_path / "weights").write_bytes(data)
    small = without_weights(memoryview(data), "weights")
    read = onnx.ModelProto.FromString(small)
    external = [t.name for t in read.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert external == ["a", "b"]
    assert len(small) < len(data) - 4 * (40 * 30 + 30 * 20) + 300
    onnx.external_data_helper.load_external_data_for_model(read, str(tmp_path))
    whole = onnx.ModelProto.FromString(data)
    for tensor in read.graph.initializer:
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    assert read == whole


def test_answers_are_the_same_and_stay_when_the_file_is_deleted(tmp_path: Path) -> None:
    data, x = model(), np.random.default_rng(1).normal(size=(7, 40)).astype(np.float32)
    expected = Session(data, "whole").run({"x": x})["out"]
    for prepack in (True, False):
        file = tmp_path / "weights"
        file.write_bytes(data)
        small = without_weights(memoryview(data), file.name)
        session = Session(small, "small", weights=str(tmp_path), prepack=prepack)
        file.unlink()
        for _ in range(2):
            np.testing.assert_allclose(session.run({"x": x})["out"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"short"])
def test_a_file_that_lacks_the_weights_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "weights").write_bytes(content)
    small = without_weights(memoryview(model()), "weights")
    with pytest.raises(AdapterError, match=r"^small can't be loaded by onnxruntime: "):
        Session(small, "small", weights=str(tmp_path))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 20, (1 << 63) - 1])
def test_what_is_written_is_read(value: int) -> None:
    data = number_field(14, value) + content_field(200, b"x" * (value % 400))
    first, second = fields(memoryview(data))
    assert (first.number, first.value) == (14, value)
    assert (second.number, bytes(second.content)) == (200, b"x" * (value % 400))
    assert (first.start, first.stop, second.start, second.stop) == (0, first.stop, first.stop, len(data))
    with pytest.raises(ValueError, match="a number where a message was expected"):
        first.content  # noqa: B018
