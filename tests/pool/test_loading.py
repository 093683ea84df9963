"""Adapters are loaded on demand, evicted within a budget, and follow their registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from adapterkit import Adapter, AdapterkitError, Base, Pool, Registry, predict
from adapterkit.errors import PoolError
from adapterkit.pool.adapter_cache import AdapterCache
from adapterkit.tasks import task_class
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, classes
from tests.helpers.pooled import add, mix, near, same


@pytest.fixture
def stocked(tiny_base: Base, registry: Registry) -> Iterator[tuple[Base, Registry, dict[str, Adapter]]]:
    adapters = {f"a{i}": made.adapter(tiny_base, classes(2 + i % 3), "lora", seed=i) for i in range(8)}
    for name, adapter in adapters.items():
        add(registry, name, adapter)
    yield tiny_base, registry, adapters
    assert tiny_base.changed_tensors() == []


def test_adapters_are_read_when_asked_for_and_dropped_by_use(
    stocked: tuple[Base, Registry, dict[str, Adapter]],
) -> None:
    base, registry, adapters = stocked
    size = sum(t.nbytes for t in adapters["a2"].tensors.values())
    with Pool.from_registry(registry.path, max_bytes=3 * size) as pool:
        assert pool.names() == sorted(adapters)
        assert pool.base.fingerprint == base.fingerprint
        assert pool.stats().loaded == 0
        pool.pin("a0")
        for name in ("a1", "a2", "a1", "a3", "a1", "a0"):
            same(pool.predict(TEXTS, name), predict(base, adapters[name], TEXTS))
        stats = pool.stats()
        assert (stats.hits, stats.misses, stats.evictions) == (3, 4, 1)
        assert set(pool._cache.loaded) == {f"{n}@{registry.resolve(n)[1]}" for n in ("a0", "a1", "a3")}
        assert stats.bytes == sum(t.nbytes for n in ("a0", "a1", "a3") for t in adapters[n].tensors.values())
        assert stats.rows == {"a1": 15, "a2": 5, "a3": 5, "a0": 5}
        found = pool.annotate(TEXTS)  # more than fit at once
        for name, adapter in adapters.items():
            same(found[name], predict(base, adapter, TEXTS))
        assert pool.stats().bytes <= 3 * size
        assert f"a0@{registry.resolve('a0')[1]}" in pool._cache.loaded
        pool.pin("a0", pinned=False)
        pool.unload("a0")
        assert f"a0@{registry.resolve('a0')[1]}" not in pool._cache.loaded


def test_a_new_version_is_answered_from_at_once(stocked: tuple[Base, Registry, dict[str, Adapter]]) -> None:
    base, registry, adapters = stocked
    newer = made.adapter(base, classes(2), "full", seed=99)
    with Pool(base, registry=registry) as pool:
        old = registry.resolve("a0")[1]
        same(pool.predict(TEXTS, "a0"), predict(base, adapters["a0"], TEXTS))
        add(registry, "a0", newer)
        same(pool.predict(TEXTS, "a0"), predict(base, newer, TEXTS))
        same(pool.predict(TEXTS, f"a0@{old}"), predict(base, adapters["a0"], TEXTS))


def test_folders_and_adapters_in_memory(stocked: tuple[Base, Registry, dict[str, Adapter]]) -> None:
    base, registry, adapters = stocked
    folder = registry.folder(*registry.resolve("a1"))
    with Pool(str(base.path), {"mine": adapters["a0"], "stored": folder}) as pool:
        found = pool.annotate(TEXTS[0])
    same(found["mine"], predict(base, adapters["a0"], TEXTS[:1])[0])
    same(found["stored"], predict(base, adapters["a1"], TEXTS[:1])[0])


def test_mistakes_are_said_in_a_line(
    stocked: tuple[Base, Registry, dict[str, Adapter]], tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    base, registry, adapters = stocked
    with Pool(base, registry=registry, max_bytes=10_000) as pool:
        with pytest.raises(AdapterkitError, match="no adapter named 'a00'; did you mean 'a0'"):
            pool.predict(TEXTS, "a00")
        with pytest.raises(PoolError, match="a name for each of 5 texts, got 2"):
            pool.predict(TEXTS, adapter_of_each=["a0", "a1"])
        with pytest.raises(PoolError, match="which adapter"):
            pool.predict(TEXTS)
        with pytest.raises(PoolError, match=r"'a0' has [\d,]+ bytes, but max_bytes=10,000"):
            pool.predict(TEXTS, "a0")
        assert pool.predict([], "a0") == []
    with pytest.raises(PoolError, match="the pool is closed"):
        pool.predict(TEXTS, "a0")
    other = Base.load(str(tiny_folder("bert", 1)))
    with Pool(other, registry=registry) as pool, pytest.raises(AdapterkitError, match="'a0': the adapter was trained"):
        pool.predict(TEXTS, "a0")
    with pytest.raises(AdapterkitError, match="the adapter was trained on base"):
        Pool(other, adapters)
    assert other.serving == 0
    add(registry, "b0", made.adapter(other, classes()))
    with pytest.raises(PoolError, match=r"registry\.json has adapters of 2 bases: .*; choose the base with base="):
        Pool.from_registry(registry.path)
    with pytest.raises(PoolError, match=r"registry\.json has no adapters; choose the base with base="):
        Pool.from_registry(tmp_path / "empty" / "registry.json")


def test_a_base_that_is_served_is_not_trained_on(tiny_base: Base, small_csv: Path, registry: Registry) -> None:
    from adapterkit import Plan, run

    plan = Plan.resolve({"dataset": str(small_csv), "base": tiny_base.path, "strategy": "full", "num_train_epochs": 1})
    with Pool(tiny_base), pytest.raises(AdapterkitError, match="an open pool answers from base"):
        run(plan, registry, base=tiny_base)
    run(plan, registry, base=tiny_base)


def test_an_adapter_can_be_attached_while_a_pool_is_open(tiny_base: Base) -> None:
    adapters = mix(tiny_base)
    with Pool(tiny_base, adapters) as pool:
        before = pool.outputs(TEXTS, "layerwise-4")
        with adapters["full-3"].attached(tiny_base):
            np.testing.assert_array_equal(before, pool.outputs(TEXTS, "layerwise-4"))


def test_the_budget_holds_while_adapters_are_read(
    stocked: tuple[Base, Registry, dict[str, Adapter]], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, registry, adapters = stocked
    size = max(sum(t.nbytes for t in a.tensors.values()) for a in adapters.values())
    with Pool(base, registry=registry, max_bytes=3 * size) as pool:
        held: list[int] = []
        load = AdapterCache._load
        monkeypatch.setattr(
            AdapterCache, "_load", lambda self, *args: (load(self, *args), held.append(self.stats().bytes))[0]
        )
        for names in (["a0", "a1", "a2"], ["a3", "a4", "a5", "a6", "a7"], ["a0", "a7"]):
            pool.annotate(TEXTS, names)
        assert max(held) <= 3 * size
        pool.pin("a0")
        pool.pin("a1")
        pool.pin("a2")
        with pytest.raises(
            PoolError, match=r"'a3' has [\d,]+ bytes, but max_bytes=[\d,]+ and [\d,]+ bytes of the pool are pinned"
        ):
            pool.predict(TEXTS, "a3")
        add(registry, "a0", adapters["a5"])
        pool.pin("a0", pinned=False)  # of whatever version
        pool.predict(TEXTS, "a3")
    with pytest.raises(
        PoolError, match=r"'a[12]' has [\d,]+ bytes, but max_bytes=[\d,]+ and [\d,]+ bytes of the pool are"
    ):
        Pool(base, adapters, max_bytes=size + 100)
    assert base.serving == 0


def test_a_registry_opens_its_base(stocked: tuple[Base, Registry, dict[str, Adapter]], tmp_path: Path) -> None:
    base, registry, adapters = stocked
    wanted = predict(base, adapters["a0"], TEXTS)
    for source in (registry, registry.path, str(registry.path)):
        with Pool(source) as pool:
            assert pool.base.fingerprint == base.fingerprint
            same(pool.predict(TEXTS, "a0"), wanted)
    with Pool(registry.path, base=base) as pool:
        assert pool.base is base
        assert repr(pool).startswith(f"<Pool on {base.name}: 0 adapters loaded, 0 B>")
        assert repr(pool.stats()) == "<Stats 0 hits, 0 misses, 0 evictions; 0 loaded, 0 B; 0 rows of 0 adapters>"
    with pytest.raises(PoolError, match="two bases"):
        Pool(base, base=base)
    with pytest.raises(PoolError, match="two registries"):
        Pool(registry, registry=registry)


def test_a_dtype_is_given_by_its_name_too(tiny_base: Base) -> None:
    adapters = {"a": made.adapter(tiny_base, classes())}
    with Pool(tiny_base, adapters, dtype="float64", device="cpu") as named, Pool(tiny_base, adapters) as plain:
        assert named._routed.dtype == torch.float64
        near(named.outputs(TEXTS, "a"), plain.outputs(TEXTS, "a"), tiny_base)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a0@", "a@b", "", "two words", "-a"])
def test_a_name_is_one_that_could_be_registered(name: str, stocked: tuple[Base, Registry, dict[str, Adapter]]) -> None:
    base, registry, adapters = stocked
    with pytest.raises(AdapterkitError, match=f"'{name}' is no adapter's name: letters, digits, - and _"):
        Pool(base, {name: adapters["a0"]})
    assert base.serving == 0
    if name != "a@b":  # a version that isn't there
        with Pool(base, registry=registry) as pool, pytest.raises(AdapterkitError, match=f"'{name}' is no adapter's"):
            pool.predict(TEXTS, name)


def test_an_adapter_is_counted_once_a_request(tiny_base: Base, tmp_path: Path) -> None:
    base = Base.load(str(tiny.make("gpt2", tmp_path / "base", head="AutoModelForCausalLM")))
    task = task_class("text-generation")(text_column_name=("text",), max_new_tokens=2)
    with Pool(base, {"a": made.adapter(base, task)}) as words, Pool(tiny_base, mix(tiny_base)) as others:
        names = others.names()
        for pool, ask, expected in (
            (words, lambda: words.generate(TEXTS, "a"), 1),
            (others, lambda: others.outputs(TEXTS, adapter_of_each=names[:5]), 5),
            (others, lambda: others.predict(TEXTS, names[0]), 1),
        ):
            before = pool.stats()
            ask()
            after = pool.stats()
            assert (after.hits - before.hits, after.misses - before.misses) == (expected, 0)


def test_the_registry_is_read_once_however_often_it_is_asked(
    stocked: tuple[Base, Registry, dict[str, Adapter]], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, registry, adapters = stocked
    read: list[int] = []
    whole = Registry.adapters
    monkeypatch.setattr(Registry, "adapters", lambda self: (read.append(1), whole(self))[1])
    with Pool(base, registry=registry) as pool:
        for _ in range(3):
            pool.predict([TEXTS[0]] * len(adapters), adapter_of_each=list(adapters))
        assert len(read) <= 1
