"""Check an ONNX file that may come from anyone: standard operators only, and no tensor outside of the file.

Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from ..errors import AdapterError
from .protobuf import Field, fields

_STANDARD = ("", "ai.onnx")
_DEEPEST = 16  # graphs within graphs
_MODEL = {"opset": 8, "graph": 7, "functions": 25}
_TENSORS_OF_GRAPH, _SPARSE_OF_GRAPH, _NODES, _DOMAIN_OF_NODE, _ATTRIBUTES = 5, 15, 1, 7, 5
_TENSORS_OF_ATTRIBUTE, _GRAPHS_OF_ATTRIBUTE, _SPARSE_OF_ATTRIBUTE = (5, 10), (6, 11), (22, 23)
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check_graph(data: memoryview, name: str) -> None:
    """Raise `AdapterError` where a model has operators of another domain, or tensors in another file."""
    try:
        for field in fields(data):
            if field.number == _MODEL["opset"]:
                _check_domain(_domain(field), name)
            elif field.number == _MODEL["functions"]:
                raise AdapterError(f"{name} defines functions; expected standard ONNX operators only")
            elif field.number == _MODEL["graph"]:
                _check_subgraph(field.content, name, 0)
    except (ValueError, IndexError) as error:
        raise AdapterError(f"{name} is no ONNX file: {error}") from error


def _check_subgraph(graph: memoryview, name: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise AdapterError(f"{name} has graphs nested more than {_DEEPEST} deep")
    for field in fields(graph):
        if field.number == _TENSORS_OF_GRAPH:
            _check_tensor(field.content, name)
        elif field.number == _SPARSE_OF_GRAPH:
            raise AdapterError(f"{name} has sparse tensors, which no export has")
        elif field.number == _NODES:
            _check_node(field.content, name, depth)


def _check_node(node: memoryview, name: str, depth: int) -> None:
    for field in fields(node):
        if field.number == _DOMAIN_OF_NODE:
            _check_domain(field.text, name)
        elif field.number == _ATTRIBUTES:
            for part in fields(field.content):
                if part.number in _TENSORS_OF_ATTRIBUTE:
                    _check_tensor(part.content, name)
                elif part.number in _GRAPHS_OF_ATTRIBUTE:
                    _check_subgraph(part.content, name, depth + 1)
                elif part.number in _SPARSE_OF_ATTRIBUTE:
                    raise AdapterError(f"{name} has sparse tensors, which no export has")


def _check_tensor(tensor: memoryview, name: str) -> None:
    for field in fields(tensor):
        if field.number == _EXTERNAL_DATA or (field.number == _DATA_LOCATION and field.value):
            raise AdapterError(f"{name} has a tensor in another file; expected all tensors in the ONNX file itself")


def _check_domain(domain: str, name: str) -> None:
    if domain not in _STANDARD:
        raise AdapterError(f"{name} has operators of domain '{domain[:60]}'; expected standard ONNX operators only")


def _domain(opset: Field) -> str:
    """Return the domain of a set of operators, empty where it has none."""
    return next((field.text for field in fields(opset.content) if field.number == 1), "")
