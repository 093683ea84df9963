"""The comparison of two adapters, value by value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adapterkit import Adapter
from adapterkit.adapter.diff import compare


def adapter_of(tensors: dict[str, Tensor], patches: dict[str, str] | None = None, **parts: Any) -> Adapter:
    stated = {module: {"kind": kind} for module, kind in (patches or {}).items()}
    return Adapter({"patches": stated, **parts}, tensors)


FIRST = {
    "same": torch.ones(2),
    "near": torch.tensor([3.0, 4.0]),
    "far": torch.tensor([0.0, 0.0, 0.0]),
    "cast": torch.tensor([1.0, 2.0]),
    "shaped": torch.zeros(2, 3),
    "gone": torch.zeros(5),
}
SECOND = {
    "same": torch.ones(2),
    "near": torch.tensor([3.0, 4.5]),
    "far": torch.tensor([0.0, -7.0, 1.0]),
    "cast": torch.tensor([1.0, 2.0], dtype=torch.float16),
    "shaped": torch.zeros(3, 2),
    "new": torch.zeros(1),
}


def test_tensors_differ_by_their_largest_value_norm_type_or_shape() -> None:
    comparison = compare(adapter_of(FIRST), adapter_of(SECOND))
    assert comparison.tensors == {
        "near": {"max_abs": 0.5, "relative": pytest.approx(0.1)},  # 0.5 of the norm of (3, 4)
        "far": {"max_abs": 7.0, "relative": None},  # of nothing
        "cast": {"max_abs": 0.0, "relative": 0.0, "dtypes": ["float32", "float16"]},
        "shaped": {"shapes": [[2, 3], [3, 2]]},
        "gone": {"shapes": [[5], None]},
        "new": {"shapes": [None, [1]]},
    }
    assert comparison.tensor_names == ("cast", "far", "gone", "near", "new", "same", "shaped")
    assert comparison.nbytes == (4 * (2 + 2 + 3 + 2 + 6 + 5), 4 * (2 + 2 + 3 + 6 + 1) + 2 * 2)
    names = comparison.largest()
    assert set(names[:3]) == {"shaped", "gone", "new"}
    assert names[3:] == ["far", "near", "cast"]
    assert comparison.plain()["tensors_compared"] == 7
    assert comparison.plain()["bytes"] == list(comparison.nbytes)


def test_an_adapter_does_not_differ_from_itself() -> None:
    adapter = adapter_of(FIRST, {"a": "low-rank"}, task={"name": "x"})
    comparison = compare(adapter, adapter)
    assert (comparison.manifest, comparison.tensors, comparison.summary()) == ({}, {}, {})


def test_the_manifests_differ_by_path_and_patches_are_counted_by_kind() -> None:
    digests = ("a" * 64, "b" * 64)
    first = adapter_of(
        {},
        {"q": "low-rank", "v": "low-rank", "n": "replace"},
        base={"fingerprint": digests[0], "tensors": {"w": "0"}},
        strategy={"name": "lora", "options": {"r": 8, "lora_alpha": 16, "use_dora": False, "note": "", "bias": []}},
        metrics={"test": {"f1": 0.5, "n": 3}},
        other={"not": "compared"},
    )
    second = adapter_of(
        {},
        {"q": "replace"},
        base={"fingerprint": digests[1], "tensors": {"w": "1"}},
        strategy={"name": "layerwise", "options": {"layers": [0, 2]}},
        metrics={"test": {"f1": 0.75, "n": 4}},
        parameters=7,
    )
    comparison = compare(first, second)
    assert comparison.manifest == {
        "base.fingerprint": digests,
        "base.tensors.w": ("0", "1"),
        "strategy.name": ("lora", "layerwise"),
        "strategy.options.r": (8, None),
        "strategy.options.lora_alpha": (16, None),
        "strategy.options.use_dora": (False, None),
        "strategy.options.note": ("", None),
        "strategy.options.bias": ([], None),
        "strategy.options.layers": (None, [0, 2]),
        "metrics.test.f1": (0.5, 0.75),
        "metrics.test.n": (3, 4),
        "parameters": (None, 7),
    }
    assert comparison.plain()["manifest"]["strategy.name"] == ["lora", "layerwise"]
    assert comparison.patches == ({"low-rank": 2, "replace": 1}, {"replace": 1})
    assert comparison.summary() == {
        "base.fingerprint": ("a" * 12 + "…", "b" * 12 + "…"),
        "metrics.test.f1": (0.5, 0.75),
        "parameters": (None, 7),
        "strategy.name": ("lora", "layerwise"),
        "strategy.options": ("lora_alpha=16, r=8", "layers=0/2"),
    }
