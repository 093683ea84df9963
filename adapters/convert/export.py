"""Write an adapter for others: a folder for PEFT, a plain model for transformers, or one for llama.cpp's converter."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..adapter.adapter import Adapter
from ..adapter.manifest import PEFT_CONFIG, TENSORS
from ..adapter.peft_config import why_not
from ..base.base import Base
from ..base.checkpoint import find_base
from ..errors import AdapterError, file_errors_as
from ..io.atomic import json_bytes, write_folder
from .merge import check_folder, check_head, merge

FORMATS = ("peft", "merged", "gguf-ready")
CAUSAL = "AutoModelForCausalLM"


def check(adapter: Adapter, form: str) -> None:
    """Raise `AdapterError` where the manifest shows that an adapter can't be written in a form."""
    check_head(adapter, plain=form != "peft")
    if form == "peft" and (why := why_not(adapter.manifest)) is not None:
        raise AdapterError(f"PEFT can't have this adapter: {why}; --format merged writes a plain model")
    if form == "gguf-ready":
        from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

        kind, auto_class = adapter.manifest["base"]["model_type"], adapter.task.auto_class
        if auto_class != CAUSAL:
            raise AdapterError(
                f"GGUF is for causal language models, and this adapter does {adapter.task.name}; --format merged "
                "writes a plain model"
            )
        if kind not in GGUF_CONFIG_MAPPING:
            supported = ", ".join(sorted(set(GGUF_CONFIG_MAPPING) - {"general", "tokenizer"}))
            raise AdapterError(f"no GGUF of a '{kind}' model is known to transformers; supported: {supported}")


def write_peft(adapter: Adapter, folder: str | os.PathLike[str], *, base: str | None = None) -> Path:
    """Write an adapter as PEFT's into `folder`, which names its base by `base` or where it was; return where.

    `peft.PeftModel.from_pretrained(model, folder)` then computes what the adapter does. Raises `AdapterError` where
    `folder` is there and not empty, or PEFT has no such adapter.
    """
    place = check_folder(folder)
    check(adapter, "peft")
    files = adapter.files()
    config = json.loads(files[PEFT_CONFIG])
    path = find_base(base or config["base_model_name_or_path"])
    config["base_model_name_or_path"] = os.path.abspath(path) if os.path.exists(path) else path
    with file_errors_as(AdapterError):
        write_folder(place, {PEFT_CONFIG: json_bytes(config), TENSORS: files[TENSORS]})
    return place


def write_model(base: Base, adapter: Adapter, folder: str | os.PathLike[str], *, form: str = "merged") -> Path:
    """Write an adapter and its base as one plain model, as `merge` does; return where.

    As gguf-ready, it is one that llama.cpp's convert_hf_to_gguf.py reads: a causal language model of an architecture
    that has a GGUF, in safetensors, its tokenizer beside it. Raises `AdapterError` where it is none.
    """
    check(adapter, form)
    vocabulary = len(base.tokenizer)
    if form == "gguf-ready" and (rows := base.model.get_input_embeddings().num_embeddings) < vocabulary:
        raise AdapterError(
            f"the tokenizer of base '{base.name}' has {vocabulary} tokens, but its embeddings {rows} rows; llama.cpp "
            "needs a row for each"
        )
    return merge(base, adapter, folder)
