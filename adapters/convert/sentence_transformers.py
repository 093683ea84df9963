"""Write an adapter for sentence similarity as a folder that SentenceTransformer loads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..errors import AdapterError
from ..io.atomic import json_bytes, new_folder
from ..tasks import SentenceSimilarity
from .merge import check_folder, merge_base

_MODULES = "sentence_transformers.models"
_IDENTITY = "torch.nn.modules.linear.Identity"


def check_vectors(adapter: Adapter) -> SentenceSimilarity:
    """Return the adapter's task; raises `AdapterError` where it isn't sentence similarity."""
    if not isinstance(adapter.task, SentenceSimilarity):
        raise AdapterError(f"SentenceTransformer loads vectors of texts, and this adapter is for {adapter.task.name}")
    return adapter.task


def write_sentence_transformers(base: Base, adapter: Adapter, folder: str | os.PathLike[str]) -> Path:
    """Write the adapter and its base as one SentenceTransformer; return where.

    Its modules are the transformer, the pooling, the head's linear map where it was trained, and the normalisation.
    Raises `AdapterError` where `folder` isn't empty, or the adapter is for another task or can't be merged.
    """
    task, place = check_vectors(adapter), check_folder(folder)
    with new_folder(place) as beside:
        weight = merge_base(base, adapter, beside)["map.weight"]
        width = len(weight)
        modules = [("Transformer", "", {}), ("Pooling", "1_Pooling", _pooling(task, width))]
        if weight.any():
            modules.append(("Dense", "2_Dense", _dense(width)))
        if task.normalize != "no":
            modules.append(("Normalize", f"{len(modules)}_Normalize", {}))
        for kind, name, config in modules:
            if config:
                (beside / name).mkdir()
                (beside / name / "config.json").write_bytes(json_bytes(config))
            if kind == "Dense":
                save_file({"linear.weight": _with_identity(weight)}, beside / name / "model.safetensors")
        listed = [
            {"idx": i, "name": str(i), "path": name, "type": f"{_MODULES}.{kind}"}
            for i, (kind, name, _) in enumerate(modules)
        ]
        settings = {"max_seq_length": task.max_seq_length, "do_lower_case": False}
        (beside / "modules.json").write_bytes(json_bytes(listed))
        (beside / "sentence_bert_config.json").write_bytes(json_bytes(settings))
        (beside / "config_sentence_transformers.json").write_bytes(json_bytes({"similarity_fn_name": "cosine"}))
    return place


def _pooling(task: SentenceSimilarity, width: int) -> dict[str, Any]:
    modes = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
    return {
        "word_embedding_dimension": width,
        **{f"pooling_mode_{key}": mode == task.pooling for key, mode in modes.items()},
    }


def _dense(width: int) -> dict[str, Any]:
    return {"in_features": width, "out_features": width, "bias": False, "activation_function": _IDENTITY}


def _with_identity(weight: Tensor) -> Tensor:
    """Return the head's map as one linear map: a vector is added to its product."""
    width = len(weight)
    both: Tensor = torch.eye(width, dtype=torch.float64) + weight.double().cpu() * width**-0.5
    return both.float()
