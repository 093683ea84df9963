"""Fold an adapter into a model that needs no adapterkit, and add low-rank adapters up to one."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers.utils import cached_file

from ..adapter.adapter import Adapter
from ..adapter.manifest import MANIFEST, TENSORS
from ..adapter.model_card import CARD, card
from ..adapter.peft_config import KEY_PREFIX
from ..base.added_tokens import as_plain
from ..base.base import Base
from ..base.word_vectors import WordVectorsConfig
from ..discovery import find
from ..errors import AdapterError, RegistryError, unknown
from ..io.atomic import new_folder, version_of
from ..patches.patch import LowRank, Patch, Replace
from ..store.registry import Registry
from ..store.version_files import entry_of

GENERATION = "generation_config.json"
SENTENCEPIECE = "tokenizer.model"
"""The vocabulary as SentencePiece writes it, which other tools read and tokenizers don't write again."""


def check_head(adapter: Adapter) -> None:
    """Raise `AdapterError` where no model of transformers' has such a head."""
    if "probe" in adapter.manifest:
        raise AdapterError(
            "the adapter's head is a probe, which transformers has no class for; train with --head model"
        )


def merge(base: Base, adapter: Adapter, folder: str | os.PathLike[str]) -> Path:
    """Write the adapter's model as a plain transformers checkpoint into `folder`, with its tokenizer; return where.

    `getattr(transformers, adapter.task.auto_class).from_pretrained(folder)` then says what the attached adapter says;
    replaced tensors are the adapter's to the bit, updates are rounded once to the base's dtype. What was written is
    read again and compared before it takes its place. Raises `AdapterError` where `folder` is there and not empty, a
    patch can't be folded, or the base isn't the adapter's or no architecture of transformers.
    """
    place = check_folder(folder)
    check_head(adapter)
    if base.quantization != "no":
        raise AdapterError(f"base '{base.name}' is held in {base.quantization}, and a plain model has whole numbers")
    if isinstance(base.model.config, WordVectorsConfig):
        raise AdapterError(f"base '{base.name}' is word vectors, which transformers can't load without adapterkit")
    adapter.check_base(base)
    base = adapter.on(base)
    with base.held():  # as the base is itself, before any patch is attached
        patches = adapter.patches(base)
        folded = _folded(base, patches)
    with _plain_words(place), adapter.attached(base) as model, new_folder(place) as beside:
        _check_untied(model, base, patches, folded)
        # not in T5's kind, whose output is scaled by this very setting; values that differ are told apart there, too
        apart = bool(adapter.manifest.get("untied", False)) and not model.config.is_encoder_decoder
        if apart:
            model.config.tie_word_embeddings = False
        state = as_plain(model, _state(model, folded, apart=apart))
        _write(base, model, state, beside)
        _check_written(base, adapter.task.auto_class, state, beside)
    return place


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the whole path of a folder that can be written: one that isn't there yet, or is empty.

    Raises `AdapterError` for any other.
    """
    place = Path(folder).resolve()
    if place == Path.cwd():
        raise AdapterError(f"'{folder}' is the folder you are in; give one that isn't there yet")
    try:
        there = sorted(file.name for file in place.iterdir())
    except FileNotFoundError:
        return place
    except OSError as error:
        raise AdapterError(f"'{folder}' can't be a folder for the model: {error.strerror}") from error
    if there:
        raise AdapterError(f"'{folder}' is there already and holds {', '.join(there[:6])}; give one that is empty")
    return place


def _folded(base: Base, patches: Mapping[str, Patch]) -> dict[int, Tensor]:
    """Return the tensors with which the base alone computes what it computes patched, by their parameters' ids."""
    folded: dict[int, Tensor] = {}
    for where, patch in patches.items():
        module = base.model.get_submodule(where)
        tensors = patch.fold(module)
        if tensors is None:
            raise AdapterError(
                f"'{where}': a patch of kind '{patch.kind}' can't be folded into a {type(module).__name__}, "
                "so there is no plain model of this adapter"
            )
        own = dict(module.named_parameters(recurse=False))
        for name, tensor in tensors.items():
            if name not in own or own[name].shape != tensor.shape:
                raise AdapterError(
                    f"'{where}': a patch of kind '{patch.kind}' folds to '{name}' {tuple(tensor.shape)}; a "
                    f"{type(module).__name__} has {', '.join(f'{n} {tuple(p.shape)}' for n, p in own.items())}"
                )
            folded[id(own[name])] = tensor.to(device=own[name].device, dtype=own[name].dtype)
    return folded


def _check_untied(model: Any, base: Base, patches: Mapping[str, Patch], folded: Mapping[int, Tensor]) -> None:
    """Raise `AdapterError` where folding a patch of one module would change another, whose tensor is the same."""
    users = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    for where, patch in patches.items():
        if isinstance(patch, Replace):  # what it replaces is replaced wherever it is tied
            continue
        for name, p in base.model.get_submodule(where).named_parameters(recurse=False):
            if id(p) in folded and users[id(p)] > 1:
                raise AdapterError(
                    f"'{where}': its {name} is tied to another module's, which folding a patch of kind '{patch.kind}' "
                    "would change, too, so there is no plain model of this adapter"
                )


def _state(model: Any, folded: Mapping[int, Tensor], *, apart: bool) -> dict[str, Tensor]:
    """Return the tensors of a task model by name, the folded ones folded; of tied names, each its own if `apart`."""
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        value = folded.get(id(tensor), tensor).detach()
        state[name] = value.clone() if apart and id(tensor) in seen else value
        seen.add(id(tensor))
    return state


def _write(base: Base, model: Any, state: Mapping[str, Tensor], folder: Path) -> None:
    """Write config, tensors and tokenizer of a task model, and the base's own settings for generation."""
    model.save_pretrained(folder, state_dict=dict(state))
    for name in [SENTENCEPIECE, *([GENERATION] if model.can_generate() else [])]:
        own = cached_file(
            base.path, name, revision=base.revision or "main", _raise_exceptions_for_missing_entries=False
        )
        if own is not None:
            shutil.copyfile(own, folder / name)
    tokenizer = copy.deepcopy(base.tokenizer)
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:  # as no use has left it
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)


def _check_written(base: Base, auto_class: str, state: Mapping[str, Tensor], folder: Path) -> None:
    """Raise `AdapterError` where transformers reads from `folder` another model than the one of `state`."""
    auto = getattr(transformers, auto_class)
    model = auto.from_pretrained(folder, use_safetensors=True, trust_remote_code=base.trust_remote_code)
    read = model.state_dict()
    differ = [name for name in {**state, **read} if name not in state or name not in read]
    differ += [name for name in state if name in read and not torch.equal(read[name], state[name].to("cpu"))]
    if differ:
        raise AdapterError(
            f"transformers doesn't read a {type(model).__name__} of '{base.name}' as it writes it: {len(differ)} "
            f"tensors differ, first '{differ[0]}'; nothing was kept"
        )


@contextlib.contextmanager
def _plain_words(place: Path) -> Iterator[None]:
    try:
        yield
    except (RegistryError, SafetensorError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise AdapterError(said if isinstance(error, RegistryError) else f"can't write '{place}': {said}") from error


@dataclass(frozen=True)
class _Part:
    """One adapter of a combination, its patches read."""

    name: str
    adapter: Adapter
    weight: float
    patches: Mapping[str, LowRank]

    @property
    def head(self) -> dict[str, Tensor]:
        return {name: self.adapter.tensors[f"{KEY_PREFIX}{name}"] for name in self.adapter.manifest["head"]}


def combine(
    base: Base,
    adapters: Sequence[tuple[Adapter, float]],
    combination_type: str = "cat",
    *,
    rank: int | None = None,
    names: Sequence[str] | None = None,
) -> Adapter:
    """Add low-rank adapters up to one, each times its weight, by the ways that PEFT's `add_weighted_adapter` names.

    `cat` is the exact sum, and the ranks add up; `svd` is the nearest to it of `rank`, by default the largest among
    them; `linear` adds the factors A and B instead of their products, so they need one rank. A module that only some
    adapters change gets what these give. Weights may be negative and needn't sum to 1. The updates are taken as they
    are weighted: with 1 and 1, both in full. Heads are averaged, the weights divided by their sum. The task's other
    options are those of the first adapter. `names`, NAME or NAME@VERSION, stand in errors and in the manifest.

    Raises `AdapterError` where the adapters aren't low-rank ones of this base with one task, its labels and its head.
    """
    if combination_type not in _WAYS:
        raise AdapterError(unknown("combination type", combination_type, _WAYS))
    if rank is not None and rank < 1:
        raise AdapterError(f"rank={rank}, but a rank is at least 1")
    if rank is not None and combination_type != "svd":
        raise AdapterError(f"rank={rank} is for combination type svd; that of {combination_type} follows from theirs")
    if not adapters:
        raise AdapterError("no adapters to combine; at least one was expected")
    names = names or [f"adapter {i}" for i in range(1, len(adapters) + 1)]
    parts = [_part(base, name, *given) for name, given in zip(names, adapters, strict=True)]
    for part in parts[1:]:
        _check_alike(parts[0], part)
    head = _average(parts)
    rank = rank or max(patch.A.shape[0] for part in parts for patch in part.patches.values())
    patches = {}
    for module in dict.fromkeys(module for part in parts for module in part.patches):
        patches[module] = _WAYS[combination_type](module, [part for part in parts if module in part.patches], rank)
    first = parts[0].adapter
    with first.attached(base) as model:
        combined = Adapter.make(base, model, patches, head, _about(parts, combination_type, patches))
    known = parts[0].adapter.manifest["base"]  # by the name that the adapters know it by
    combined.manifest["base"] |= {key: known[key] for key in ("name", "revision", "hub_id") if key in known}
    combined.manifest["parameters"] = sum(tensor.numel() for tensor in combined.tensors.values())
    return combined


def _part(base: Base, name: str, adapter: Adapter, weight: float) -> _Part:
    """Return an adapter as a part of a combination, or raise `AdapterError` where it can't be one."""
    if not math.isfinite(weight):
        raise AdapterError(f"'{name}' has the weight {weight}, and a finite number was expected")
    try:
        adapter.check_base(base)
        patches = adapter.patches(adapter.on(base))
    except AdapterError as error:
        raise AdapterError(f"'{name}': {error}") from error
    if "added_tokens" in adapter.manifest:
        raise AdapterError(f"'{name}' adds tokens to the tokenizer; only updates alone are added up")
    if not patches:
        raise AdapterError(f"'{name}' changes nothing but the head; only low-rank adapters are added up")
    low_rank = {}
    for module, patch in patches.items():
        if not isinstance(patch, LowRank):
            kind = f"a patch of kind '{patch.kind}' at '{module}'"
            raise AdapterError(f"'{name}' has {kind}; only low-rank adapters are added up")
        if patch.bias is not None:
            raise AdapterError(f"'{name}' has a bias beside its update at '{module}'; only updates alone are added up")
        low_rank[module] = patch
    return _Part(name, adapter, weight, low_rank)


def _check_alike(first: _Part, other: _Part) -> None:
    """Raise `AdapterError` where two adapters don't answer in the same way, so that their heads can't be averaged."""
    ours, theirs = first.adapter.task, other.adapter.task
    if ours.name != theirs.name:
        raise AdapterError(f"'{first.name}' is for {ours.name}, but '{other.name}' for {theirs.name}")
    if ours.config() != theirs.config():
        raise AdapterError(
            f"'{first.name}' tells {ours.summary()}, but '{other.name}' {theirs.summary()}; one order of one set of "
            "labels was expected"
        )
    heads = [{name: tuple(tensor.shape) for name, tensor in part.head.items()} for part in (first, other)]
    if heads[0] != heads[1] or len({part.adapter.manifest.get("untied", False) for part in (first, other)}) > 1:
        raise AdapterError(f"'{first.name}' has the head {heads[0]}, but '{other.name}' {heads[1]}")


def _average(parts: Sequence[_Part]) -> dict[str, Tensor]:
    """Return the weighted average of the heads."""
    total = math.fsum(part.weight for part in parts)
    heads = [part.head for part in parts]
    if heads[0] and total <= 0:
        given = ", ".join(f"{part.weight:g}" for part in parts)
        raise AdapterError(
            f"the weights {given} sum to {total:g}; heads are averaged by them, so more than 0 is needed"
        )
    return {
        name: _sum([head[name].double() * (part.weight / total) for head, part in zip(heads, parts, strict=True)]).to(t)
        for name, t in heads[0].items()
    }


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(0)


def _factors(parts: Sequence[_Part], module: str) -> tuple[Tensor, Tensor]:
    """Return A (ranks, inputs) and B (outputs, ranks) whose product is the weighted sum of the updates, in float64."""
    patches = [part.patches[module] for part in parts]
    scaled = [p.A.double() * (part.weight * p.scale) for p, part in zip(patches, parts, strict=True)]
    return torch.cat(scaled), torch.cat([p.B.double() for p in patches], dim=1)


def _cat(module: str, parts: Sequence[_Part], rank: int) -> LowRank:
    return _low_rank(parts[0].patches[module], *_factors(parts, module))


def _svd(module: str, parts: Sequence[_Part], rank: int) -> LowRank:
    a, b = _factors(parts, module)
    # B @ A is Q_b (R_b R_a') Q_a', so the small matrix in the middle has its singular values
    (q_a, r_a), (q_b, r_b) = torch.linalg.qr(a.mT), torch.linalg.qr(b)
    u, s, v = torch.linalg.svd(r_b @ r_a.mT)
    count = min(rank, len(s))
    return _low_rank(parts[0].patches[module], (q_a @ v.mT[:, :count]).mT, q_b @ (u[:, :count] * s[:count]))


def _linear(module: str, parts: Sequence[_Part], rank: int) -> LowRank:
    patches = [part.patches[module] for part in parts]
    ranks = [p.A.shape[0] for p in patches]
    if len(set(ranks)) > 1:
        given = ", ".join(f"'{part.name}' has {r}" for part, r in zip(parts, ranks, strict=True))
        raise AdapterError(f"combination type linear needs one rank, and at '{module}' {given}; cat and svd take any")
    factors = [part.weight * p.scale for p, part in zip(patches, parts, strict=True)]
    roots = [math.sqrt(abs(factor)) for factor in factors]
    a = [p.A.double() * math.copysign(root, factor) for p, root, factor in zip(patches, roots, factors, strict=True)]
    return _low_rank(patches[0], _sum(a), _sum([p.B.double() * root for p, root in zip(patches, roots, strict=True)]))


_WAYS: dict[str, Callable[[str, Sequence[_Part], int], LowRank]] = {"cat": _cat, "linear": _linear, "svd": _svd}


def _low_rank(like: LowRank, a: Tensor, b: Tensor) -> LowRank:
    return LowRank(a.to(like.A).contiguous(), b.to(like.B).contiguous(), 1.0)  # as PEFT's: lora_alpha is r


def _about(parts: Sequence[_Part], combination_type: str, patches: Mapping[str, LowRank]) -> dict[str, Any]:
    """Return what a combination's manifest says beside its patches and head."""
    first, lora = parts[0].adapter.manifest, find("lora@adapterkit")
    r = max(patch.A.shape[0] for patch in patches.values())
    merged_from = []
    for part in parts:
        name, _, version = part.name.partition("@")
        version = version or version_of(part.adapter.files()[MANIFEST])
        about = {"name": name, "version": version, "weight": part.weight}
        mismatch = part.adapter.manifest["base"].get("mismatch")
        merged_from.append(about if mismatch is None else {**about, "base_mismatch": mismatch})
    return {
        "task": first["task"],
        "untied": first.get("untied", False),
        "strategy": {
            "name": lora.name,
            "distribution": lora.distribution,
            "version": lora.version,
            "options": {"r": r, "lora_alpha": r},
        },
        "training": {},
        "data": {"name": None, "splits": {}},
        "combination_type": combination_type,
        "merged_from": merged_from,
        "metrics": {"validation": {"n": 0, "intervals": {}}},  # none were measured
    }


def register(registry: Registry, name: str, adapter: Adapter) -> str:
    """Store a combination as the current version of `name` and return that version. Raises `RegistryError`."""
    m, files = adapter.manifest, adapter.files()
    entry = {**entry_of(m, len(files[TENSORS])), "best": adapter.task.best}
    return registry.add(name, {**files, CARD: card(name, files[MANIFEST])}, entry)
