"""An ONNX file without its weights, which stay in the file that they are in: onnxruntime maps them instead of copying.

Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from .protobuf import content_field, fields, number_field

_GRAPH, _TENSOR = 7, 5
_DTYPE, _RAW_DATA, _EXTERNAL_DATA, _LOCATION = 2, 9, 13, 14
_FLOAT32, _EXTERNAL = 1, 1
_LEAST_BYTES = 1024  # of a tensor that is worth a place in another file


def without_weights(data: memoryview, file: str) -> bytes:
    """Return the model in `data`, the content of `file`, with its large float32 tensors named by their place in it.

    Raises `ValueError` or `IndexError` where it is damaged.
    """
    parts: list[bytes] = []
    for field in fields(data):
        if field.number != _GRAPH:
            parts.append(bytes(data[field.start : field.stop]))
            continue
        graph, begin = field.content, field.stop - len(field.content)
        inner = [
            _moved(part.content, begin + part.stop - len(part.content), file)
            if part.number == _TENSOR
            else bytes(graph[part.start : part.stop])
            for part in fields(graph)
        ]
        parts.append(content_field(_GRAPH, b"".join(inner)))
    return b"".join(parts)


def _moved(tensor: memoryview, begin: int, file: str) -> bytes:
    """Return the field of a tensor, which begins at byte `begin` of the file."""
    values = {field.number: field for field in fields(tensor)}
    raw, dtype = values.get(_RAW_DATA), values.get(_DTYPE)
    if raw is None or dtype is None or dtype.value != _FLOAT32 or len(raw.content) < _LEAST_BYTES:
        return content_field(_TENSOR, bytes(tensor))
    size = len(raw.content)
    place = {"location": file, "offset": str(begin + raw.stop - size), "length": str(size)}
    parts = [bytes(tensor[field.start : field.stop]) for field in fields(tensor) if field.number != _RAW_DATA]
    parts += [
        content_field(_EXTERNAL_DATA, content_field(1, key.encode()) + content_field(2, value.encode()))
        for key, value in place.items()
    ]
    return content_field(_TENSOR, b"".join(parts) + number_field(_LOCATION, _EXTERNAL))
