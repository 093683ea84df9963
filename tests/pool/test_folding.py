"""An adapter that answers whole batches alone is folded into copies of the weights that it changes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from adapterkit import Base, Pool, Registry
from adapterkit.pool import folding
from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, alone, classes
from tests.helpers.pooled import add, near


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fold adapters in their first batch."""
    monkeypatch.setattr(folding, "_LEAST_TOKENS", 0)


def loaded(pool: Pool, name: str = "a") -> Any:
    return pool._cache.get([name])[0]


def folded_bytes(pool: Pool) -> int:
    folded = folding._folded(loaded(pool))
    assert folded is not None
    return folded.nbytes


@pytest.mark.parametrize(
    ("strategy", "options", "folds"),
    [
        ("lora", {}, True),
        ("lora", {"use_dora": True}, True),
        ("ia3", {}, True),
        ("bitfit", {}, None),  # its biases are replaced tensors or folded ones, by module
        ("layerwise", {"top": 1}, False),
        ("bottleneck", {}, False),
        ("head-only", {}, False),
    ],
)
def test_outputs_are_equal_folded_alone_and_among_others(
    strategy: str, options: dict[str, Any], folds: bool | None, tiny_base: Base
) -> None:
    adapter = made.adapter(tiny_base, classes(3), strategy, std=0.2, **options)
    adapters = {"a": adapter, "b": made.adapter(tiny_base, classes(3), "lora", seed=1, std=0.2)}
    wanted = {name: alone(tiny_base, one) for name, one in adapters.items()}
    with Pool(tiny_base, adapters) as pool:
        for _ in range(2):
            near(np.stack(pool.outputs(TEXTS, "a")), wanted["a"], tiny_base)
        folded = loaded(pool).folded
        assert folds is None or bool(folded) == folds
        if folds:
            assert 0 < folded.nbytes == pool._routed.folding.nbytes <= folding._size(loaded(pool))
        together = pool.outputs(TEXTS, adapters=["a", "b"])
        for name in adapters:
            near(np.stack([outputs[name] for outputs in together]), wanted[name], tiny_base)
        near(np.stack(pool.outputs(TEXTS, "b")), wanted["b"], tiny_base)
    assert tiny_base.changed_tensors() == []


def test_the_least_recently_used_weights_are_dropped_where_they_exceed_the_limit(tiny_base: Base) -> None:
    adapters = {name: made.adapter(tiny_base, classes(), seed=i) for i, name in enumerate("abc")}
    with Pool(tiny_base, adapters) as pool:
        size = folded_bytes(pool)
        pool._routed.folding.max_bytes = 2 * folding._size(loaded(pool))
        for name in "abac":
            pool.predict(TEXTS, name)
        assert [name for name in adapters if loaded(pool, name).folded] == ["a", "c"]
        assert pool._routed.folding.nbytes == 2 * size
        pool._routed.folding.limit(size)
        assert [name for name in adapters if loaded(pool, name).folded] == ["c"]
        pool._routed.folding.limit(size - 1)
        near(np.stack(pool.outputs(TEXTS, "a")), alone(tiny_base, adapters["a"]), tiny_base)
        assert pool._routed.folding.nbytes == 0


def test_folded_weights_use_what_adapters_leave_of_max_bytes(tiny_base: Base, registry: Registry) -> None:
    for i, name in enumerate("ab"):
        add(registry, name, made.adapter(tiny_base, classes(), seed=i))
    with Pool(registry, base=tiny_base) as pool:
        nbytes, size, at_most = loaded(pool).nbytes, folded_bytes(pool), folding._size(loaded(pool))
    with Pool(registry, base=tiny_base, max_bytes=2 * nbytes + at_most) as pool:
        for names, count in (("a", 1), ("b", 1), ("a", 1)):
            for name in names:
                pool.predict(TEXTS, name)
            assert pool._routed.folding.nbytes == count * size
            assert pool.stats().bytes + pool._routed.folding.nbytes <= 2 * nbytes + at_most
    with Pool(registry, base=tiny_base, max_bytes=2 * nbytes) as pool:
        pool.predict(TEXTS, "a")
        assert pool._routed.folding.nbytes <= nbytes


def test_a_new_version_has_weights_of_its_own_and_old_ones_are_freed(tiny_base: Base, registry: Registry) -> None:
    versions = [made.adapter(tiny_base, classes(), seed=i, std=0.3) for i in range(2)]
    with Pool(registry, base=tiny_base) as pool:
        for adapter in versions:
            add(registry, "a", adapter)
            near(np.stack(pool.outputs(TEXTS, "a")), alone(tiny_base, adapter), tiny_base)
            assert loaded(pool).folded
        freed = weakref.ref(loaded(pool).folded)
        pool.unload("a")
        gc.collect()
        assert freed() is None
        assert pool._routed.folding.nbytes == 0


def test_adapters_of_few_tokens_are_not_folded(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = sum(map(len, tiny_base.tokenizer(TEXTS)["input_ids"]))
    monkeypatch.setattr(folding, "_LEAST_TOKENS", 2 * tokens)
    with Pool(tiny_base, {"a": made.adapter(tiny_base, classes())}) as pool:
        pool.predict(TEXTS, "a")
        assert not loaded(pool).folded
        pool.predict(TEXTS, "a")
        assert loaded(pool).folded
