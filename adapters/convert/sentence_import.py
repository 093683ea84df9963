"""Import a SentenceTransformer folder as an adapter: what its transformer and modules differ by from a base."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..adapter.adapter import Adapter
from ..base.base import Base
from ..errors import AdapterError
from ..io import tensors as tensorfile
from ..io.untrusted import parse_json, read_file
from ..modules import linear_maps, owners
from ..patches.low_rank import LowRank
from ..patches.patch import Patch
from ..patches.replace import Replace
from ..tasks import SentenceSimilarity

MODULES = "modules.json"
_READ = ("Transformer", "Pooling", "Dense", "Normalize")
_ROUNDINGS = 4  # of the largest weight, times the square root of the width: singular values below are rounding
_TEXTS = ("A text.", "Two of them, the second longer than the first one is.", "née 1,234")
_CLOSE = 1e-4  # of cosines and lengths


def is_sentence_folder(source: str) -> bool:
    """Return whether a path is a folder of SentenceTransformer without an adapter of PEFT."""
    return Path(source, MODULES).is_file() and not Path(source, "adapter_config.json").exists()


def imported_sentences(source: str, base: Base, options: Mapping[str, Any] | None = None) -> Adapter:
    """Return the difference of a SentenceTransformer folder to `base` as an adapter, compared by vectors of texts.

    Linear maps whose difference has a low rank become low-rank patches, other changed parameters are replaced. Raises
    `AdapterError` where the architecture, the tokenizer or a module differs in another way, or nothing does.
    """
    modules = _modules(source)
    trained = Base.load(source)
    if trained.sentence_pooling is None:
        raise AdapterError(f"'{source}' pools in another way than mean, cls or max")
    _check_comparable(source, trained, base)
    patches = _patches(base.model, trained.model)
    task = SentenceSimilarity(**{"text_column_name": ("anchor", "positive"), **(options or {})}).for_base(trained)
    task = _with_length(task, source, base)
    head = _head(source, modules, base)
    if not patches and not head:
        raise AdapterError(f"'{source}' has the vectors of base '{base.name}': there is no difference to import")
    with base.locked(), torch.random.fork_rng(devices=[]):
        model = task.model(base)
        adapter = Adapter.make(base, model, patches, head, _about(source, trained.fingerprint, task))
    adapter.manifest["parameters"] = sum(tensor.numel() for tensor in adapter.tensors.values())
    _check_vectors(source, trained, base, adapter, head)
    return adapter


# ---- modules


def _modules(source: str) -> dict[str, Path]:
    """Return the folders of the modules by kind. Raises `AdapterError` for a kind that has no counterpart."""
    try:
        listed = parse_json(read_file(Path(source, MODULES)))
        kinds = [str(module["type"]).rpartition(".")[2] for module in listed]
        folders = [Path(source, os.path.basename(str(module.get("path", "")))) for module in listed]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterError(f"{Path(source, MODULES)}: a list of modules was expected") from error
    if kinds != [kind for kind in _READ if kind in kinds]:
        raise AdapterError(
            f"'{source}' has the modules {', '.join(kinds)}; an adapter has each of {', '.join(_READ)} at most once, "
            "in this order"
        )
    return dict(zip(kinds, folders, strict=True))


def _head(source: str, modules: Mapping[str, Path], base: Base) -> dict[str, Tensor]:
    """Return the head's map that has the effect of a Dense module; none without one."""
    if (folder := modules.get("Dense")) is None:
        return {}
    try:
        config = parse_json(read_file(folder / "config.json"))
        stored = tensorfile.tensors(read_file(folder / "model.safetensors", most=1 << 30))
        weight = stored["linear.weight"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"'{source}': {folder.name} has no weights that can be read: {error}") from error
    width = base.model.config.hidden_size
    plain = str(config.get("activation_function", "")).endswith("Identity") and set(stored) == {"linear.weight"}
    if not plain or tuple(weight.shape) != (width, width):
        kind = config.get("activation_function")
        raise AdapterError(
            f"'{source}': a Dense module must be a map of {width} to {width} features without bias or activation, got "
            f"{tuple(weight.shape)}, {', '.join(sorted(stored))}, {kind}"
        )
    return {
        "head.map.weight": (weight.double() - torch.eye(width, dtype=torch.double)).mul(width**0.5).to(weight.dtype)
    }


def _with_length(task: SentenceSimilarity, source: str, base: Base) -> SentenceSimilarity:
    """Return the task with the number of tokens that the folder's transformer reads."""
    try:
        length = json.loads(Path(source, "sentence_bert_config.json").read_bytes()).get("max_seq_length")
    except (OSError, ValueError, AttributeError):
        length = None
    most = base.max_length or 1 << 30
    return replace(task, max_seq_length=min(length if type(length) is int and length >= 8 else most, most, 1 << 15))


# ---- weights


def _check_comparable(source: str, trained: Base, base: Base) -> None:
    if (kind := trained.model.config.model_type) != base.model.config.model_type:
        raise AdapterError(f"'{source}' is a '{kind}' model, and base '{base.name}' a '{base.model.config.model_type}'")
    if trained.vocabulary_digest != base.vocabulary_digest:
        raise AdapterError(f"'{source}' has another tokenizer than base '{base.name}'")
    theirs, ours = ({n: tuple(p.shape) for n, p in b.model.named_parameters()} for b in (trained, base))
    if odd := sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)):
        shapes = f"{theirs.get(odd[0])}, but base '{base.name}' {ours.get(odd[0])}"
        raise AdapterError(f"'{source}': {len(odd)} tensors have other shapes, first '{odd[0]}' {shapes}")


def _patches(base: nn.Module, trained: nn.Module) -> dict[str, Patch]:
    """Return the difference of two models of one architecture as patches of the first by module."""
    values, places, maps = dict(trained.named_parameters()), owners(base), linear_maps(base)
    patches: dict[str, Patch] = {}
    replaced: dict[str, dict[str, Tensor]] = {}
    for name, p in base.named_parameters():
        if torch.equal(values[name], p):
            continue
        module, part = places[name]
        update = _low_rank(values[name].detach() - p.detach(), p) if module in maps and part == "weight" else None
        if update is not None and isinstance(maps[module], nn.Linear) and not _other_parts(base, values, module):
            patches[module] = update
        else:
            replaced.setdefault(module, {})[part] = values[name].detach().clone()
    return patches | {module: Replace(parts) for module, parts in replaced.items()}


def _other_parts(base: nn.Module, values: Mapping[str, Tensor], module: str) -> bool:
    """Return whether parameters of a module other than its weight differ: it has one patch."""
    parameters = base.get_submodule(module).named_parameters(recurse=False)
    return any(part != "weight" and not torch.equal(values[f"{module}.{part}"], p) for part, p in parameters)


def _low_rank(delta: Tensor, weight: Tensor) -> LowRank | None:
    """Return a difference as two factors where they are smaller than it; None where its rank is too high."""
    u, s, vh = torch.linalg.svd(delta.double(), full_matrices=False)
    rounding = _ROUNDINGS * torch.finfo(weight.dtype).eps * float(weight.abs().max()) * max(weight.shape) ** 0.5
    rank = int((s > rounding).sum())
    if not rank or rank * sum(weight.shape) > weight.numel() // 2:
        return None
    root = s[:rank].sqrt()
    a, b = root[:, None] * vh[:rank], u[:, :rank] * root
    return LowRank(a.to(weight.dtype).contiguous(), b.to(weight.dtype).contiguous(), 1.0)


def _check_vectors(source: str, trained: Base, base: Base, adapter: Adapter, head: Mapping[str, Tensor]) -> None:
    """Raise `AdapterError` where vectors of texts differ from those of the folder's own transformer and modules."""
    with torch.random.fork_rng(devices=[]):
        expected_model = adapter.task.model(trained)
    if head:
        expected_model.head.map.weight.data.copy_(head["head.map.weight"])
    expected = _vectors(adapter.task, expected_model, trained)
    with adapter.attached(base) as model:
        actual = _vectors(adapter.task, model, base)
    difference = float((actual - expected).norm(dim=-1).max() / expected.norm(dim=-1).max())
    if not difference <= _CLOSE:
        raise AdapterError(f"'{source}': vectors of the imported adapter differ by {difference:.2g}")


def _vectors(task: Any, model: Any, base: Base) -> Tensor:
    rows = {name: list(_TEXTS) for name in task.text_column_name[:1]}
    features = task.tokenize(rows, base.tokenizer, labelled=False)
    some = [{key: features[key][i] for key in features} for i in range(len(_TEXTS))]
    with torch.inference_mode():
        return torch.from_numpy(np.stack(task.outputs(model, task.collate(base.tokenizer, model)(some))))[:, 0]


def _about(source: str, digest: str, task: SentenceSimilarity) -> dict[str, Any]:
    return {
        "task": {"name": task.name, "options": task.recorded()},
        "strategy": {"name": "difference", "distribution": "sentence-transformers", "version": "", "options": {}},
        "training": {},
        "data": {"name": None, "splits": {}},
        "imported_from": {"source": source, "sha256": digest},
        "metrics": {"validation": {"n": 0, "intervals": {}}},  # none were measured
        "untied": False,
    }
