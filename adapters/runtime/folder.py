"""The folder of an export: each file is read once, hashed, and used from the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import AdapterError
from ..io.atomic import sha256
from ..io.private_copy import PrivateCopy
from ..io.tensors import places
from ..io.untrusted import read_file
from .graph_check import check_graph
from .graph_weights import without_weights
from .manifest import MANIFEST, MOST_MANIFEST, TOKENIZER, ExportManifest, parse_manifest
from .session import Session
from .tokenizer import ExportedTokenizer

_DTYPE = "F32"
FOLDER = "onnx"
"""The export that is looked for beside registry.json."""
HEAD = "head."
"""The prefix of the head's parameters among an adapter's tensors."""
T = TypeVar("T")


class ExportFolder:
    """The files of an export. Methods raise `AdapterError` where one is missing, damaged or not as in the manifest."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.manifest: ExportManifest = parse_manifest(
                read_file(self.path / MANIFEST, most=MOST_MANIFEST),
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            if not self.path.is_dir():
                kind = "is no folder" if self.path.exists() else "doesn't exist"
                raise AdapterError(
                    f"{self.path} {kind}; adapt export NAME --format onnx --to {self.path} writes an export"
                ) from error
            raise AdapterError(f"{self.path} is no export: it has no {MANIFEST}; adapt export --format onnx") from error
        except OSError as error:
            raise AdapterError(f"{self.path / MANIFEST} can't be read: {error.strerror}") from error
        except ValueError as error:
            raise AdapterError(f"{self.path / MANIFEST} is not an export's manifest: {error}") from error

    def read(self, name: str) -> bytearray:
        """Return the content of a file that the manifest names."""
        data = self._loaded(name, lambda path, size: read_file(path, size=size))
        self._check_digest(name, data)
        return data

    def session(self, name: str, *, threads: int | None, prepack: bool = True) -> Session:
        """Return an ONNX file of standard operators, all of whose tensors are in the file, ready to run."""
        return self.session_of(name, self.graph(name), threads=threads, prepack=prepack)

    def graph(self, name: str) -> PrivateCopy:
        """Return an ONNX file of standard operators, all of whose tensors are in the file."""
        copy = self._loaded(name, PrivateCopy)
        self._check_digest(name, copy.data)
        check_graph(copy.data, str(self.path / name))
        return copy

    def session_of(self, name: str, graph: PrivateCopy, *, threads: int | None, prepack: bool = True) -> Session:
        """Return what `graph` returned, ready to run, by weights that are mapped from it."""
        path = str(self.path / name)
        if graph.folder is None:
            return Session(bytes(graph.data), path, threads=threads, prepack=prepack)
        try:
            data = without_weights(graph.data, PrivateCopy.NAME)
            return Session(data, path, weights=graph.folder, threads=threads, prepack=prepack)
        except (ValueError, IndexError) as error:
            raise AdapterError(f"{path} is no ONNX file: {error}") from error
        finally:
            graph.delete()

    def _loaded(self, name: str, load: Callable[[Path, int], T]) -> T:
        folder = (self.path / name).parent
        if folder.is_symlink():
            raise AdapterError(f"{folder} is a link, and a folder was expected")
        try:
            return load(self.path / name, self.manifest.files[name].bytes)
        except OSError as error:
            raise AdapterError(f"{self.path / name} can't be read: {error.strerror}") from error
        except ValueError as error:
            raise AdapterError(f"{self.path / name} is damaged: {error}") from error

    def _check_digest(self, name: str, data: bytearray | memoryview) -> None:
        stated = self.manifest.files[name].sha256
        if (actual := sha256(data)) != stated:
            raise AdapterError(
                f"{self.path / name} is damaged or was edited: its SHA-256 is {actual[:12]}…, expected {stated[:12]}…"
            )

    def tokenizer(self) -> ExportedTokenizer:
        """Return the base's tokenizer."""
        try:
            return ExportedTokenizer(self.read(TOKENIZER), self.manifest.tokenizer)
        except ValueError as error:
            raise AdapterError(f"{self.path / TOKENIZER} is no tokenizer: {error}") from error

    def tensors(self, adapter: str) -> dict[str, np.ndarray]:
        """Return the tensors of an adapter in float32: `<module>.A`, `<module>.B` and `head.<parameter>`."""
        record = self.manifest.adapters[adapter]
        data = self.read(record.tensors)
        path = self.path / record.tensors
        try:
            by_name = places(data)
        except ValueError as error:
            raise AdapterError(f"{path}: not a safetensors file: {error}") from error
        tensors: dict[str, np.ndarray] = {}
        for name, place in by_name.items():
            if place.dtype != _DTYPE:
                raise AdapterError(f"{path}: '{name}' is {place.dtype}, expected {_DTYPE}")
            flat = np.frombuffer(data, np.float32, math.prod(place.shape), place.start)
            if not np.isfinite(flat).all():
                raise AdapterError(f"{path}: '{name}' holds what is no finite number")
            tensors[name] = flat.reshape(place.shape)
        for module in record.modules:
            self._check_factors(tensors, module, path)
        named = {f"{module}.{letter}" for module in record.modules for letter in "AB"}
        if others := sorted(name for name in tensors if not name.startswith(HEAD) and name not in named):
            raise AdapterError(f"{path}: '{others[0]}' belongs to no module that {MANIFEST} lists for '{adapter}'")
        return tensors

    def _check_factors(self, tensors: dict[str, np.ndarray], module: str, path: Path) -> None:
        inputs, outputs = self.manifest.modules[module]
        a, b = (tensors.get(f"{module}.{letter}", np.empty(0)).shape for letter in "AB")
        if len(a) != 2 or len(b) != 2 or (a[0], b[1]) != (inputs, outputs) or a[1] != b[0]:
            raise AdapterError(
                f"{path}: the factors of '{module}' are {a} and {b}, expected ({inputs}, r) and (r, {outputs})"
            )
