"""Check an ONNX file that may come from anyone: standard operators only, and no tensor outside of the file.

The file is walked as protobuf (https://protobuf.dev/programming-guides/encoding), field numbers as in onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import AdapterError

_STANDARD = ("", "ai.onnx")
_DEEPEST = 16  # graphs within graphs
_MODEL = {"opset": 8, "graph": 7, "functions": 25}
_TENSORS_OF_GRAPH, _SPARSE_OF_GRAPH, _NODES, _DOMAIN_OF_NODE, _ATTRIBUTES = 5, 15, 1, 7, 5
_TENSORS_OF_ATTRIBUTE, _GRAPHS_OF_ATTRIBUTE, _SPARSE_OF_ATTRIBUTE = (5, 10), (6, 11), (22, 23)
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check_graph(data: memoryview, name: str) -> None:
    """Raise `AdapterError` where a model has operators of another domain, or tensors in another file."""
    try:
        for field, value in _fields(data):
            if field == _MODEL["opset"]:
                _check_domain(_text(value, 1), name)
            elif field == _MODEL["functions"]:
                raise AdapterError(f"{name} defines functions; expected standard ONNX operators only")
            elif field == _MODEL["graph"]:
                _check_subgraph(_bytes(value), name, 0)
    except (ValueError, IndexError) as error:
        raise AdapterError(f"{name} is no ONNX file: {error}") from error


def _check_subgraph(graph: memoryview, name: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise AdapterError(f"{name} has graphs nested more than {_DEEPEST} deep")
    for field, value in _fields(graph):
        if field == _TENSORS_OF_GRAPH:
            _check_tensor(_bytes(value), name)
        elif field == _SPARSE_OF_GRAPH:
            raise AdapterError(f"{name} has sparse tensors, which no export has")
        elif field == _NODES:
            _check_node(_bytes(value), name, depth)


def _check_node(node: memoryview, name: str, depth: int) -> None:
    for field, value in _fields(node):
        if field == _DOMAIN_OF_NODE:
            _check_domain(bytes(_bytes(value)).decode(), name)
        elif field == _ATTRIBUTES:
            for kind, content in _fields(_bytes(value)):
                if kind in _TENSORS_OF_ATTRIBUTE:
                    _check_tensor(_bytes(content), name)
                elif kind in _GRAPHS_OF_ATTRIBUTE:
                    _check_subgraph(_bytes(content), name, depth + 1)
                elif kind in _SPARSE_OF_ATTRIBUTE:
                    raise AdapterError(f"{name} has sparse tensors, which no export has")


def _check_tensor(tensor: memoryview, name: str) -> None:
    for field, value in _fields(tensor):
        if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value):
            raise AdapterError(f"{name} has a tensor in another file; expected all tensors in the ONNX file itself")


def _check_domain(domain: str, name: str) -> None:
    if domain not in _STANDARD:
        raise AdapterError(f"{name} has operators of domain '{domain[:60]}'; expected standard ONNX operators only")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message. Raises `ValueError` or `IndexError` where it is damaged."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"wire type {kind} at byte {at}")
        size, at = _varint(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
        if at + size > len(data):
            raise ValueError(f"{size} bytes expected at byte {at} of {len(data)}")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {at}")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value


def _text(message: int | memoryview, number: int) -> str:
    """Return the text of a message's field, empty where it has none."""
    return next((bytes(_bytes(v)).decode() for field, v in _fields(_bytes(message)) if field == number), "")
