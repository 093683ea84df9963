"""Run ONNX graphs by onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import AdapterError, OptionError
from ..io.private_copy import PrivateCopy


class Session:
    """One graph, ready to run; threads may share it."""

    def __init__(self, data: bytes | PrivateCopy, name: str, *, threads: int | None = None) -> None:
        """Load a graph from the content of its file; `name` is for errors. Raises `AdapterError` for an invalid one."""
        try:
            import onnxruntime
        except ImportError as error:
            raise OptionError("the ONNX runtime needs onnxruntime: pip install 'adapterkit[runtime]'") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, and nothing is printed
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        try:
            source = data if isinstance(data, bytes) else data.path or bytes(data.data)  # of bytes it keeps a copy
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception for each status, without a common class
            raise AdapterError(f"{name} can't be loaded by onnxruntime: {_first_line(error)}") from error
        self.name = name
        self.inputs: dict[str, list[Any]] = {i.name: list(i.shape) for i in self._session.get_inputs()}
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name; feeds that the graph doesn't take are ignored.

        Raises `AdapterError` where a feed is missing or of another shape than the graph takes.
        """
        if missing := [name for name in self.inputs if name not in feeds]:
            raise AdapterError(f"{self.name} takes '{missing[0]}', which this export has no value for")
        try:
            values = self._session.run(None, {name: feeds[name] for name in self.inputs})
        except Exception as error:
            raise AdapterError(f"{self.name} can't be run: {_first_line(error)}") from error
        return dict(zip(self.outputs, values, strict=True))


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
