"""Compare two adapters: options, data, metrics, patches and tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .adapter import Adapter

_PARTS = ("base", "task", "strategy", "training", "data", "metrics", "parameters")
_DETAIL = re.compile(r"base\.(tensors|config|prefix)\b|.*\.(intervals\..*|n)$")
"""Paths in the manifest that a summary leaves out: the base's tensors and settings, intervals and counts."""
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Comparison:
    """The differences of two adapters."""

    manifest: Mapping[str, tuple[Any, Any]]
    """Values that differ by their path in the manifest, such as `strategy.options.r`; None where one has none."""
    tensors: Mapping[str, Mapping[str, Any]]
    """Tensors that differ by name: `max_abs` and `relative`, the norm of the difference over that of the first (and
    `dtypes`, where those differ); or `shapes`, where those differ or one adapter lacks the tensor."""
    tensor_names: tuple[str, ...]  # of either adapter
    nbytes: tuple[int, int]  # of the tensors
    patches: tuple[Mapping[str, int], Mapping[str, int]]  # modules by kind of patch

    def plain(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "manifest": {path: list(pair) for path, pair in self.manifest.items()},
            "tensors": {name: dict(amount) for name, amount in self.tensors.items()},
            "tensors_compared": len(self.tensor_names),
            "bytes": list(self.nbytes),
        }

    def summary(self) -> dict[str, tuple[Any, Any]]:
        """Return the values of the manifest that a reader compares first.

        Digests are abbreviated, and options that only one of two strategies has are joined to one value.
        """
        rows = {path: (_short(a), _short(b)) for path, (a, b) in self.manifest.items() if not _DETAIL.match(path)}
        prefix = "strategy.options."
        if "strategy.name" in rows:
            apart = [path for path, pair in rows.items() if path.startswith(prefix) and None in pair]
            options: tuple[list[str], list[str]] = ([], [])
            for path, pair in ((path, rows.pop(path)) for path in apart):
                for listed, value in zip(options, pair, strict=True):
                    if value not in (None, False, [], ""):
                        listed.append(f"{path.removeprefix(prefix)}={_text(value)}")
            if any(options):
                rows["strategy.options"] = (", ".join(options[0]) or None, ", ".join(options[1]) or None)
        return dict(sorted(rows.items()))

    def one_sided(self) -> tuple[list[str], list[str]]:
        """Return the names of tensors that only the first adapter has, and those that only the second has."""
        shapes = {name: amount["shapes"] for name, amount in self.tensors.items() if "shapes" in amount}
        return [n for n, pair in shapes.items() if pair[1] is None], [
            n for n, pair in shapes.items() if pair[0] is None
        ]

    def largest(self) -> list[str]:
        """Return the names of tensors that differ: other shapes first, then by the largest absolute difference."""
        return sorted(self.tensors, key=lambda name: -self.tensors[name].get("max_abs", float("inf")))


def compare(first: Adapter, second: Adapter) -> Comparison:
    """Return the differences of two adapters; tensors are equal only where they are equal to the bit."""
    ours, theirs = (_flat({part: a.manifest[part] for part in _PARTS if part in a.manifest}) for a in (first, second))
    paths = sorted(path for path in {*ours, *theirs} if ours.get(path) != theirs.get(path))
    names = sorted({*first.tensors, *second.tensors})
    pairs = {name: (first.tensors.get(name), second.tensors.get(name)) for name in names}
    return Comparison(
        manifest={path: (ours.get(path), theirs.get(path)) for path in paths},
        tensors={name: amount for name, (a, b) in pairs.items() if (amount := _difference(a, b)) is not None},
        tensor_names=tuple(names),
        nbytes=(_nbytes(first), _nbytes(second)),
        patches=(_kinds(first), _kinds(second)),
    )


def _nbytes(adapter: Adapter) -> int:
    return sum(t.numel() * t.element_size() for t in adapter.tensors.values())


def _kinds(adapter: Adapter) -> Mapping[str, int]:
    return Counter(sorted(patch["kind"] for patch in adapter.manifest["patches"].values()))


def _short(value: Any) -> Any:
    return f"{value[:12]}…" if isinstance(value, str) and _DIGEST.fullmatch(value) else value


def _text(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested objects by path; lists are leaves."""
    if not isinstance(value, Mapping):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat |= _flat(part, f"{path}.{key}" if path else str(key))
    return flat


def _difference(a: torch.Tensor | None, b: torch.Tensor | None) -> dict[str, Any] | None:
    """Return how much two tensors differ, None where they are equal to the bit."""
    if a is None or b is None or a.shape != b.shape:
        return {"shapes": [None if t is None else list(t.shape) for t in (a, b)]}
    if a.dtype == b.dtype and torch.equal(a, b):
        return None
    delta, norm = b.double() - a.double(), float(a.double().norm())
    max_abs = float(delta.abs().max()) if delta.numel() else 0.0
    relative = float(delta.norm()) / norm if norm else None
    dtypes = {"dtypes": [str(t.dtype).removeprefix("torch.") for t in (a, b)]} if a.dtype != b.dtype else {}
    return {"max_abs": max_abs, "relative": relative, **dtypes}
