"""Combine several adapters into one, as PEFT does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..adapter.adapter import Adapter
from ..adapter.manifest import MANIFEST
from ..adapter.peft_config import KEY_PREFIX
from ..base.base import Base
from ..discovery import find_plugin
from ..errors import AdapterError, unknown
from ..io.atomic import version_of
from ..patches.low_rank import LowRank


@dataclass(frozen=True)
class _Part:
    """One adapter of a combination."""

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
    parts = [_part(base, name, *weighted) for name, weighted in zip(names, adapters, strict=True)]
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
    recorded = parts[0].adapter.manifest["base"]  # the name of the base in the adapters
    combined.manifest["base"] |= {key: recorded[key] for key in ("name", "revision", "hub_id") if key in recorded}
    combined.manifest["parameters"] = sum(tensor.numel() for tensor in combined.tensors.values())
    return combined


def _part(base: Base, name: str, adapter: Adapter, weight: float) -> _Part:
    """Return an adapter as a part of a combination; raises `AdapterError` where it isn't low-rank on this base."""
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
    """Raise `AdapterError` where two adapters differ in task, labels or head, so that heads can't be averaged."""
    ours, theirs = first.adapter.task, other.adapter.task
    if ours.name != theirs.name:
        raise AdapterError(f"'{first.name}' is for {ours.name}, but '{other.name}' for {theirs.name}")
    if ours.config() != theirs.config():
        raise AdapterError(
            f"'{first.name}' has {ours.summary()}, but '{other.name}' {theirs.summary()}; the same labels in the same "
            "order were expected"
        )
    heads = [{name: tuple(tensor.shape) for name, tensor in part.head.items()} for part in (first, other)]
    if heads[0] != heads[1] or len({part.adapter.manifest.get("untied", False) for part in (first, other)}) > 1:
        raise AdapterError(f"'{first.name}' has the head {heads[0]}, but '{other.name}' {heads[1]}")


def _average(parts: Sequence[_Part]) -> dict[str, Tensor]:
    """Return the weighted average of the heads."""
    total = math.fsum(part.weight for part in parts)
    heads = [part.head for part in parts]
    if heads[0] and total <= 0:
        weights = ", ".join(f"{part.weight:g}" for part in parts)
        raise AdapterError(
            f"the weights {weights} sum to {total:g}; heads are averaged by them, so more than 0 is needed"
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
        each = ", ".join(f"'{part.name}' has {r}" for part, r in zip(parts, ranks, strict=True))
        raise AdapterError(f"combination type linear needs one rank, and at '{module}' {each}; cat and svd take any")
    factors = [part.weight * p.scale for p, part in zip(patches, parts, strict=True)]
    roots = [math.sqrt(abs(factor)) for factor in factors]
    a = [p.A.double() * math.copysign(root, factor) for p, root, factor in zip(patches, roots, factors, strict=True)]
    return _low_rank(patches[0], _sum(a), _sum([p.B.double() * root for p, root in zip(patches, roots, strict=True)]))


_WAYS: dict[str, Callable[[str, Sequence[_Part], int], LowRank]] = {"cat": _cat, "linear": _linear, "svd": _svd}


def _low_rank(like: LowRank, a: Tensor, b: Tensor) -> LowRank:
    return LowRank(a.to(like.A).contiguous(), b.to(like.B).contiguous(), 1.0)  # as PEFT's: lora_alpha is r


def _about(parts: Sequence[_Part], combination_type: str, patches: Mapping[str, LowRank]) -> dict[str, Any]:
    """Return the manifest of a combination, apart from patches and head."""
    first, lora = parts[0].adapter.manifest, find_plugin("lora@adapterkit")
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
