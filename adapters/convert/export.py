"""Write an adapter for others: a folder for PEFT, a plain model for transformers, or one for llama.cpp's converter."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import transformers

from ..adapter.adapter import Adapter
from ..adapter.manifest import PEFT_CONFIG, TENSORS
from ..adapter.peft_config import why_not
from ..base.base import Base
from ..base.checkpoint import find_base, hub_id
from ..errors import AdapterError, file_errors_as
from ..io.atomic import json_bytes, write_folder
from .merge import check_folder, check_head, merge
from .peft_reader import TASK_CONFIG
from .sentence_transformers import check_vectors, write_sentence_transformers

FORMATS = ("peft", "merged", "gguf-ready", "sentence-transformers")
CAUSAL = "AutoModelForCausalLM"


def check(adapter: Adapter, form: str) -> None:
    """Raise `AdapterError` where the manifest shows that an adapter can't be written in a form."""
    if form == "sentence-transformers":
        check_vectors(adapter)
        return
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


def write_peft(
    adapter: Adapter, folder: str | os.PathLike[str], *, base: str | None = None, located: str | None = None
) -> Path:
    """Write an adapter as PEFT's into `folder`, with the base's tokenizer; return its path.

    `peft.PeftModel.from_pretrained(model, folder)` then computes what the adapter does. The base is named by `base`, or
    else by its id on the Hub, or else by the folder that it was loaded from, which `located` overrides. Where the task
    has labels, task_config.json is the base's config with them, for `transformers.AutoConfig`. Raises `AdapterError`
    where `folder` isn't empty, PEFT has no such adapter, or the base's tokenizer can't be loaded.
    """
    place = check_folder(folder)
    check(adapter, "peft")
    files = adapter.files()
    recorded = adapter.manifest["base"]
    path = find_base(base or located or recorded["name"])
    config = json.loads(files[PEFT_CONFIG])
    on_disk = os.path.exists(path)
    named = None if base else recorded.get("hub_id") or hub_id(path, recorded["name"])
    config["base_model_name_or_path"] = named or (os.path.abspath(path) if on_disk else path)
    with file_errors_as(AdapterError):
        write_folder(place, {PEFT_CONFIG: json_bytes(config), TENSORS: files[TENSORS], **_beside(adapter, path)})
    return place


def _beside(adapter: Adapter, path: str) -> dict[str, bytes]:
    """Return the files of the base's tokenizer and, where the task has labels, a config that names them.

    Its name isn't config.json: transformers looks for all weights of a model in a folder that has one.
    """
    revision = adapter.manifest["base"]["revision"] or "main"
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, revision=revision)
        config = transformers.AutoConfig.from_pretrained(path, revision=revision)
    except (OSError, ValueError) as error:
        first = next(iter(str(error).split("\n")))
        raise AdapterError(
            f"the tokenizer of base '{path}' can't be loaded, and belongs into the folder: {first}; --base names "
            "another place of the base"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    labelled = "id2label" in adapter.task.config()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        if labelled:
            _task_config(adapter, config, tokenizer).to_json_file(os.path.join(folder, TASK_CONFIG))
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def _task_config(adapter: Adapter, config: Any, tokenizer: Any) -> Any:
    """Return the config of a base with the settings of the task, such as its labels, and with a padding token."""
    task = adapter.task
    for key, value in task.config().items():
        setattr(config, key, value)
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    if task.auto_class and "probe" not in adapter.manifest:
        config.architectures = [getattr(transformers, task.auto_class)._model_mapping[type(config)].__name__]
    return config


def write_model(base: Base, adapter: Adapter, folder: str | os.PathLike[str], *, form: str = "merged") -> Path:
    """Write an adapter and its base as one plain model, as `merge` does; return where.

    As gguf-ready, it is one that llama.cpp's convert_hf_to_gguf.py reads: a causal language model of an architecture
    that has a GGUF, in safetensors, its tokenizer beside it. Raises `AdapterError` where it is none.
    """
    check(adapter, form)
    if form == "sentence-transformers":
        return write_sentence_transformers(base, adapter, folder)
    vocabulary = len(base.tokenizer)
    if form == "gguf-ready" and (rows := base.model.get_input_embeddings().num_embeddings) < vocabulary:
        raise AdapterError(
            f"the tokenizer of base '{base.name}' has {vocabulary} tokens, but its embeddings {rows} rows; llama.cpp "
            "needs a row for each"
        )
    return merge(base, adapter, folder)
