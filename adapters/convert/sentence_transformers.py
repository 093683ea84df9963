"""Write vectors of texts, or a linear probe of texts, as a folder that SentenceTransformer loads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..errors import AdapterError
from ..io.atomic import json_bytes, new_folder
from ..modules import blocks
from ..probe.model import Form
from ..tasks import SentenceSimilarity, Task, TextClassification
from .merge import check_folder, merge_base

_MODULES = "sentence_transformers.models"
_IDENTITY = "torch.nn.modules.linear.Identity"
_VECTOR = "sentence_embedding"
_FIRST_TOKEN = "cls_token_embeddings"
"""What `Pooling` puts before its other modes: the scores of the layers before, since no module adds two tensors."""


@dataclass(frozen=True)
class _Module:
    """A module of sentence-transformers: its class, and the content of its folder."""

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def check_vectors(adapter: Adapter) -> None:
    """Raise `AdapterError` where SentenceTransformer has no modules for an adapter."""
    task = adapter.task
    if isinstance(task, SentenceSimilarity):
        return
    probed = adapter.manifest.get("probe")
    if not isinstance(task, TextClassification) or probed is None:
        head = "" if probed or not isinstance(task, TextClassification) else " with a head of transformers"
        raise AdapterError(
            f"SentenceTransformer loads vectors of texts and linear probes of them, and this adapter is for "
            f"{task.name}{head}"
        )
    form = Form.of(probed)
    if len(task.text_column_name) > 1 or task.reads_windows:
        texts = "pairs of texts" if len(task.text_column_name) > 1 else "texts in windows"
        raise AdapterError(f"--format sentence-transformers has no probe of {texts}; --format onnx has")
    if form.pooling == "cls" and len(form.layers) > 1:
        raise AdapterError(
            "--format sentence-transformers has no probe of the first token of several layers; --format onnx has"
        )


def write_sentence_transformers(base: Base, adapter: Adapter, folder: str | os.PathLike[str]) -> Path:
    """Write the adapter and its base as one SentenceTransformer; return where.

    For sentence similarity its modules are the transformer, the pooling, the head's linear map where it was trained,
    and the normalisation; `encode` returns vectors. For a probe they are the transformer, the pooling and the linear
    map; `encode` returns logits, (texts, labels). Raises `AdapterError` where `folder` isn't empty, or the adapter is
    for another task or can't be merged.
    """
    check_vectors(adapter)
    task, place = adapter.task, check_folder(folder)
    depth = len(blocks(base.model))
    with new_folder(place) as beside:
        head = merge_base(base, adapter, beside)
        if isinstance(task, SentenceSimilarity):
            modules = _vector_modules(task, head["map.weight"])
        else:
            modules = _probe_modules(
                Form.of(adapter.manifest["probe"]), head["score.weight"], head["score.bias"], depth
            )
            _configure(beside, task, hidden=any(module.kind == "WeightedLayerPooling" for module in modules))
        _write_modules(modules, beside, task.max_seq_length)
    return place


def _write_modules(modules: Sequence[_Module], folder: Path, max_seq_length: int) -> None:
    names = [f"{i}_{module.kind}" if i else "" for i, module in enumerate(modules)]
    for name, module in zip(names, modules, strict=True):
        if module.config:
            (folder / name).mkdir()
            (folder / name / "config.json").write_bytes(json_bytes(module.config))
        if module.tensors:
            tensors = {key: tensor.detach().float().cpu().contiguous() for key, tensor in module.tensors.items()}
            save_file(tensors, folder / name / "model.safetensors")
    listed = [
        {"idx": i, "name": str(i), "path": name, "type": f"{_MODULES}.{module.kind}"}
        for i, (name, module) in enumerate(zip(names, modules, strict=True))
    ]
    settings = {"max_seq_length": max_seq_length, "do_lower_case": False}
    (folder / "modules.json").write_bytes(json_bytes(listed))
    (folder / "sentence_bert_config.json").write_bytes(json_bytes(settings))
    (folder / "config_sentence_transformers.json").write_bytes(json_bytes({"similarity_fn_name": "cosine"}))


def _configure(folder: Path, task: Task, *, hidden: bool) -> None:
    """Add the names of the labels to the transformer's config, and whether it returns the states of all layers."""
    path = folder / "config.json"
    config = {**json.loads(path.read_bytes()), **task.config()}
    path.write_bytes(json_bytes({**config, "output_hidden_states": True} if hidden else config))


def _vector_modules(task: SentenceSimilarity, weight: Tensor) -> list[_Module]:
    width = len(weight)
    modules = [_Module("Transformer"), _pooling(width, task.pooling)]
    if weight.any():
        modules.append(_dense(_with_identity(weight)))
    return [*modules, *([_Module("Normalize")] if task.normalize != "no" else [])]


def _probe_modules(form: Form, weight: Tensor, bias: Tensor, depth: int) -> list[_Module]:
    """Return the modules of a probe of texts: each layer's linear map, added to the scores of the layers before it."""
    assert form.pooling is not None
    outputs, width = len(weight), weight.shape[1] // len(form.layers)
    modules = [_Module("Transformer")]
    for i, (layer, part) in enumerate(zip(form.layers, weight.chunk(len(form.layers), dim=1), strict=True)):
        if form.layers != (depth,):
            modules.append(_layer(layer, depth, width))
        if i:  # the scores so far pass through, and the layer's are added to them
            modules.append(_pooling(width, "cls", form.pooling))
            weights, biases = torch.cat([torch.eye(outputs, dtype=part.dtype), part], 1), None
        else:
            modules.append(_pooling(width, form.pooling))
            weights, biases = part, bias
        last = layer == form.layers[-1]
        modules.append(_dense(weights, biases, to=_VECTOR if last else _FIRST_TOKEN))
    return modules


def _layer(layer: int, depth: int, width: int) -> _Module:
    """Return a mean of the hidden states from `layer` on whose weight is that layer's alone."""
    weights = torch.zeros(depth + 1 - layer)
    weights[0] = 1
    config = {"word_embedding_dimension": width, "layer_start": layer, "num_hidden_layers": depth}
    return _Module("WeightedLayerPooling", config, {"layer_weights": weights})


def _pooling(width: int, *poolings: str) -> _Module:
    modes = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean"}
    flags = {f"pooling_mode_{key}": mode in poolings for key, mode in modes.items()}
    return _Module("Pooling", {"word_embedding_dimension": width, **flags})


def _dense(weight: Tensor, bias: Tensor | None = None, *, to: str = _VECTOR) -> _Module:
    config: dict[str, Any] = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bias is not None}
    config["activation_function"] = _IDENTITY
    if to != _VECTOR:
        config["module_output_name"] = to
    return _Module("Dense", config, {"linear.weight": weight, **({} if bias is None else {"linear.bias": bias})})


def _with_identity(weight: Tensor) -> Tensor:
    """Return the head's map as one linear map: a vector is added to its product."""
    width = len(weight)
    both: Tensor = torch.eye(width, dtype=torch.float64) + weight.double().cpu() * width**-0.5
    return both.float()
