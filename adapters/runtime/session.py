"""Run ONNX graphs by onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import AdapterError, OptionError

_SLOWER = ["SkipLayerNormFusion"]
"""Optimizations of onnxruntime that are slower than what they replace, by a twentieth of a pass of MiniLM."""


def import_onnxruntime() -> ModuleType:
    """Return onnxruntime. Raises `OptionError` where it isn't installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise OptionError("the ONNX runtime needs onnxruntime: pip install 'adapterkit[runtime]'") from error
    module: ModuleType = onnxruntime
    return module


class Session:
    """One graph, ready to run; threads may share it."""

    def __init__(
        self,
        data: bytes,
        name: str,
        *,
        weights: str | None = None,
        threads: int | None = None,
        prepack: bool = True,
    ) -> None:
        """Load a graph from the content of its file; `name` is for errors. Raises `AdapterError` for an invalid one.

        `weights` is the folder of the file that the graph names, which may be deleted afterwards. Without `prepack` it
        is loaded sooner, and each run takes longer.
        """
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, and nothing is printed
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        # as fast without it, and the cores are free for others
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if weights is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", weights)
        if not prepack:
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
            )
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
