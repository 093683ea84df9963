"""A batch without padding has the hidden states of a padded one, for every family that can be packed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapterkit import Base, Pool
from adapterkit.pool import expansion, packing
from adapterkit.pool.layout import Layout
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import TEXTS, alone, classes
from tests.helpers.families import EVERY, NOT_PACKED
from tests.helpers.pooled import mix, near

CPU = torch.device("cpu")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[int]]:
    """Return a function that makes all passes packed, or none, and returns the tokens of packed blocks from then on."""

    def choose(packed: bool) -> list[int]:
        tokens: list[int] = []
        original = packing.run_packed

        def counting(layout: Layout, *args: Any) -> Any:
            tokens.append(layout.tokens)
            return original(layout, *args)

        monkeypatch.setattr(packing, "has_padding", lambda lengths: packed and len(set(lengths)) > 1)
        monkeypatch.setattr(expansion, "run_packed", counting)
        return tokens

    return choose


def compared(pool: Pool) -> bool:
    """Return whether rows of up to 64 tokens can be packed, which is compared before passes are counted."""
    base = pool._routed
    return {base.packing.equals_padded(length, base._hidden_states) for length in (16, 32, 64)} == {True}


def rows_of(adapters: Any) -> list[tuple[str, str]]:
    rows = [(text, name) for text in TEXTS for name in adapters]
    random.Random(0).shuffle(rows)
    return rows


@pytest.mark.parametrize("family", EVERY)
def test_every_family_but_those_named_is_packed_with_equal_outputs(
    family: str, tiny_folder: Callable[..., Path], passes: Callable[[bool], list[int]]
) -> None:
    base = Base.load(str(tiny_folder(family)))
    adapters = mix(base)
    rows = rows_of(adapters)
    outputs, blocks = [], []
    for packed in (False, True):
        with Pool(base, adapters, batch_size=16) as pool:
            can_pack = compared(pool)
            tokens = passes(packed)
            outputs.append(pool.outputs([text for text, _ in rows], adapter_of_each=[name for _, name in rows]))
            blocks.append(len(tokens))
    assert can_pack == (family not in NOT_PACKED)
    assert not blocks[0]
    assert bool(blocks[1]) == can_pack
    near(outputs[1], outputs[0], base)
    wanted = {name: dict(zip(TEXTS, alone(base, adapter), strict=True)) for name, adapter in adapters.items()}
    for (text, name), logits in zip(rows, outputs[1], strict=True):
        near(logits, wanted[name][text], base, name)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["bottleneck", "dora", "ia3", "bitfit", "prefix"])
def test_adapters_of_each_kind_of_patch_have_equal_outputs_packed(
    strategy: str, tiny_base: Base, passes: Callable[[bool], list[int]]
) -> None:
    """Few rows of each are stacked by length; the blocks of a prefix, which reads its attention, aren't packed."""
    name, options = ("lora", {"use_dora": True}) if strategy == "dora" else (strategy, {})
    adapters = {
        f"{strategy}{i}": made.adapter(tiny_base, classes(3), name, seed=i, std=0.2, **options) for i in range(4)
    }
    adapters["lora"] = made.adapter(tiny_base, classes(3), "lora", seed=9, std=0.2)
    rows = rows_of(adapters)
    wanted = {name: dict(zip(TEXTS, alone(tiny_base, adapter), strict=True)) for name, adapter in adapters.items()}
    with Pool(tiny_base, adapters, batch_size=8) as pool:
        assert compared(pool)
        tokens = passes(True)
        together = pool.outputs([text for text, _ in rows], adapter_of_each=[name for _, name in rows])
        padded = {name: pool._cache.get([name])[0].padded_blocks for name in adapters}
        tokens.clear()
        pool.outputs(TEXTS, f"{strategy}0")
    assert {name for name, blocks in padded.items() if blocks} == (
        {*adapters} - {"lora"} if strategy == "prefix" else set()
    )
    assert bool(tokens) == (strategy != "prefix")
    for (text, name), logits in zip(rows, together, strict=True):
        near(logits, wanted[name][text], tiny_base, name)


def test_windows_of_attention_and_embeddings_of_layers_are_equal_packed(
    tmp_path: Path, passes: Callable[[bool], list[int]]
) -> None:
    base = Base.load(str(tiny.make("modernbert", tmp_path, local_attention=6, global_attn_every_n_layers=2)))
    texts = [" ".join(TEXTS), *TEXTS]
    with Pool(base) as pool:
        assert compared(pool)
        for layer in range(4):
            assert not passes(False)
            expected = pool.embed(texts, layer=layer)
            tokens = passes(True)
            tolerance.assert_near(pool.embed(texts, layer=layer), expected, tolerance.of_base(base))
            assert len(tokens) == layer


def test_a_base_is_not_packed_where_its_attention_is_its_own_or_its_hidden_states_differ(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        output, weights = packing.attention(module, query, key, value, mask, **options)
        return output * (1.01 if query.shape[2] == 1 else 1), weights

    for change in ({"config": "eager"}, {"attention": other}, {}):
        with Pool(tiny_base) as pool, monkeypatch.context() as patched:
            base = pool._routed
            if "config" in change:
                base.model.config._attn_implementation = change["config"]
            if "attention" in change:
                from transformers import AttentionInterface

                patched.setattr(packing, "register", lambda: AttentionInterface.register(packing.ATTENTION, other))
            assert base.packing.equals_padded(12, base._hidden_states) == (not change)
            assert (base.model.config._attn_implementation == packing.ATTENTION) == (not change)
    packing.register()


def test_a_length_that_cannot_be_packed_leaves_shorter_ones_packed(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch, passes: Callable[[bool], list[int]]
) -> None:
    with Pool(tiny_base) as pool:
        base = pool._routed
        expected = pool.embed(TEXTS)
        tokens = passes(True)
        tolerance.assert_near(pool.embed(TEXTS), expected, tolerance.of_base(tiny_base))
        monkeypatch.setattr(packing.Packing, "_differs_by_rounding", lambda *_: False)
        assert not base.packing.equals_padded(64, base._hidden_states)
        tokens.clear()
        tolerance.assert_near(pool.embed(TEXTS), expected, tolerance.of_base(tiny_base))
        assert tokens


def test_a_base_in_bf16_is_packed_within_its_rounding(tiny_base: Base, passes: Callable[[bool], list[int]]) -> None:
    adapters = mix(tiny_base)
    rows = rows_of(adapters)
    outputs = []
    for packed in (False, True):
        with Pool(tiny_base, adapters, dtype="bfloat16") as pool:
            assert compared(pool)
            tokens = passes(packed)
            outputs.append(pool.outputs([text for text, _ in rows], adapter_of_each=[name for _, name in rows]))
            assert bool(tokens) == packed
    for a, b in zip(*outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05)


def test_passes_with_little_padding_are_not_packed() -> None:
    assert not packing.has_padding([8] * 64)
    assert not packing.has_padding([8, 2])  # 6 tokens of padding
    assert packing.has_padding([32, *[16] * 15])
    assert not packing.has_padding([512, *[500] * 15])  # less than a twentieth


# ---- the layout


def test_packed_tokens_are_the_rows_without_their_padding() -> None:
    layout = Layout((2, 3, 2), 4, CPU)
    x = torch.arange(3 * 4 * 2.0).view(3, 4, 2)
    packed = layout.packed(x)
    assert packed[:, 0, 0].tolist() == [0, 2, 8, 10, 12, 16, 18]
    assert layout.padded(packed)[..., 0].tolist() == [[0, 2, 0, 0], [8, 10, 12, 0], [16, 18, 0, 0]]
    positions = layout.packed(torch.arange(4)[None])
    assert positions.flatten().tolist() == [0, 1, 0, 1, 2, 0, 1]
    groups = {group.length: (group.rows, group.tokens) for group in layout.groups}
    assert groups[3] == ((1,), slice(2, 5))
    assert groups[2][0] == (0, 2)
    assert groups[2][1].tolist() == [0, 1, 5, 6]  # type: ignore[union-attr]
    assert layout.select([0, 1]) == slice(0, 5)
    assert layout.subset([2, 1]).starts == (0, 2, 5)


def test_a_mask_is_dropped_where_it_hides_padding_alone() -> None:
    layout = Layout((2, 3), 3, CPU)  # groups of 2 and of 3 tokens
    padding = torch.tensor([[True, True, False], [True, True, True]])[:, None, None]
    causal = torch.ones(3, 3, dtype=torch.bool).tril() & padding
    assert [layout.mask(padding, i) for i in (0, 1)] == [None, None]
    assert [layout.mask(causal, i) for i in (0, 1)] == ["causal", "causal"]
    added = torch.zeros(2, 1, 3, 3).masked_fill(~causal, torch.finfo(torch.float32).min)
    assert [layout.mask(added, i) for i in (0, 1)] == ["causal", "causal"]
    window = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=torch.bool) & padding
    assert layout.mask(window, 0) == "causal"
    kept = layout.mask(window, 1)
    assert isinstance(kept, torch.Tensor)
    assert torch.equal(kept, window[1:])
    biases = torch.randn(1, 1, 3, 3)
    biased = layout.mask(biases, 0)
    assert isinstance(biased, torch.Tensor)
    assert torch.equal(biased, biases[..., :2, :2])


def test_rows_of_similar_lengths_are_stacked_where_there_are_many_lengths() -> None:
    few = Layout((2, 3, 2), 4, CPU).stacks([0, 1, 2])
    assert [rows for rows, _ in few] == [[1], [0, 2]]
    lengths = (3, 9, 10, 8, 2, 7)
    layout = Layout(lengths, 10, CPU)
    stacks = layout.stacks(range(6))
    assert [rows for rows, _ in stacks] == [[1, 2, 3, 5], [0], [4]]
    x = torch.randn(layout.tokens, 1, 4)
    for rows, stacked in stacks:
        tokens = x[layout.select(rows)]
        by_row = stacked.by_row(tokens)
        assert by_row.shape == (len(rows), max(lengths[row] for row in rows), 4)
        for one, row in zip(by_row, rows, strict=True):
            assert torch.equal(one[: lengths[row]], x[layout.select([row]), 0])
        assert torch.equal(stacked.by_token(by_row), tokens)
