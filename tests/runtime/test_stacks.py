"""Stacks of low-rank updates: each row finds its adapter's, and batches of the same adapters share a stack."""

from __future__ import annotations

import numpy as np
import pytest

from adapterkit.runtime.adapters import ExportedAdapter
from adapterkit.runtime.stacks import Stack, Stacks
from tests.helpers.adapters import classes

MODULES = {"query": (5, 7), "value": (5, 6)}


def adapter(name: str, rank: int, modules: tuple[str, ...] = ("query", "value")) -> ExportedAdapter:
    """Return an adapter of random updates."""
    draw = np.random.default_rng(sum(map(ord, name)))
    factors = {
        module: (
            draw.standard_normal((MODULES[module][0], rank), np.float32),
            draw.standard_normal((rank, MODULES[module][1]), np.float32),
        )
        for module in modules
    }
    return ExportedAdapter(name, classes(2), "head", {}, factors)


def assert_updates(stack: Stack, adapters: list[ExportedAdapter | None]) -> None:
    for one in adapters:
        slot = stack.slots[one]
        for module, (inputs, outputs) in MODULES.items():
            product = stack.feeds[f"{module}.A"][slot] @ stack.feeds[f"{module}.B"][slot]
            left, right = (one.factors if one else {}).get(module, (np.zeros((inputs, 1)), np.zeros((1, outputs))))
            np.testing.assert_allclose(product, left @ right, atol=1e-6)


def test_each_adapter_has_its_update_and_none_has_zeros() -> None:
    several = [adapter("a", 2), adapter("b", 3, ("value",)), None]
    stack = Stacks(MODULES).of([several[1], several[2], several[0], several[1]])
    assert (stack.rank, len(stack.slots)) == (3, 3)
    assert_updates(stack, several)


def test_a_stack_is_used_again_where_it_has_all_adapters() -> None:
    stacks, several = Stacks(MODULES), [adapter(f"{i}", 2) for i in range(4)]
    first = stacks.of(several[:2])
    assert stacks.of([several[1], None]) is first
    second = stacks.of(several[1:])
    assert second is not first
    assert stacks.of(several) is second, "those of the last stack are in the next one"
    assert_updates(second, [*several, None])
    assert stacks.of([None, None]).rank == 0
    assert stacks.of(several) is second
    stacks.clear()
    assert stacks.of(several) is not second


def test_neither_ranks_nor_stacks_grow_without_need() -> None:
    stacks, wide, narrow = Stacks(MODULES), adapter("wide", 16), adapter("narrow", 2)
    assert stacks.of([wide]).rank == 16
    assert stacks.of([narrow]).rank == 2
    for i in range(100):
        one = adapter(f"n{i}", 2)
        stack = stacks.of([one])
        assert len(stack.slots) <= 33
        assert_updates(stack, [one])
    many = [adapter(f"m{i}", 2) for i in range(40)]
    assert_updates(stacks.of(many), many)
    assert len(stacks.of([many[0]]).slots) <= 33


def test_a_stack_above_max_bytes_is_not_held() -> None:
    numbers = sum(map(sum, MODULES.values()))
    several = [adapter(f"{i}", 2) for i in range(3)]
    two = 4 * numbers * 2 * 3  # bytes of two adapters and of none, at rank 2
    for most, again in ((two, True), (two - 1, False)):
        stacks = Stacks(MODULES, most)
        first = stacks.of(several[:2])
        assert_updates(first, [*several[:2], None])
        assert (stacks.of(several[:2]) is first) == again
        assert len(stacks.of(several[2:]).slots) == 2, "not with those of before, which would be too large"


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_batches_has_its_updates(seed: int) -> None:
    draw = np.random.default_rng(seed)
    some: list[ExportedAdapter | None] = [None, *(adapter(f"{i}", int(draw.integers(1, 9))) for i in range(50))]
    stacks = Stacks(MODULES)
    for _ in range(60):
        batch = [some[int(i)] for i in draw.integers(0, len(some), int(draw.integers(1, 40)))]
        assert_updates(stacks.of(batch), batch)
