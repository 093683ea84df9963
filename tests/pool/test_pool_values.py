"""What a pool computes step by step, and the errors of its calls, value by value."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapterkit import Base, Pool, predict
from adapterkit.base.tokens import Tokens
from adapterkit.errors import PoolError
from adapterkit.patches.low_rank import LowRank
from adapterkit.pool import requests
from adapterkit.pool.context import PassContext, entered
from adapterkit.pool.requests import check_generation
from adapterkit.pool.routing import route, unrouted_twin
from adapterkit.pool.rows import ModulePatch, ReplacedTensors, Rows, join, put, take
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import TEXTS, classes

WITHIN = tolerance.relative(8, 3)
CPU = torch.device("cpu")

# ---- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_return_sequences": 2}, "num_return_sequences=2: generate returns one text"),
        ({"num_return_sequences": 0}, "num_return_sequences=0: generate returns one text"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate=True: generate returns one text"),
        ({"max_length": 9}, "max_length=9: use max_new_tokens"),
        ({"num_beam": 2}, "'num_beam'; did you mean 'num_beams'"),
        ({"num_beams": 0}, "num_beams must be an integer >= 1, got 0"),
        ({"num_beams": 1.5}, "num_beams must be an integer >= 1, got 1.5"),
        ({"max_new_tokens": "8"}, "max_new_tokens must be an integer >= 1, got '8'"),
    ],
)
def test_an_option_of_generate_that_yields_no_text_for_each_row_is_an_error(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PoolError, match=message):
        check_generation(options)


def test_options_of_generate_that_are_as_they_are_anyway_are_accepted() -> None:
    check_generation({"num_return_sequences": 1, "return_dict_in_generate": False, "num_beams": 1, "top_p": 0.5})


def test_what_cannot_be_embedded_or_named_is_an_error_with_its_type(tiny_base: Base) -> None:
    with Pool(tiny_base, {"a": made.adapter(tiny_base, classes())}) as pool:
        for rows, message in (([], "got none"), ([{"text": "x"}], "got dict")):
            with pytest.raises(PoolError, match=f"embed takes at least one text, {message}"):
                pool.embed(rows)
        for layer in (4, -1, 1.0):
            with pytest.raises(PoolError, match=f"layer={layer}, but the base has layers 0 to 3"):
                pool.embed(TEXTS, layer=layer)  # type: ignore[arg-type]
        with pytest.raises(PoolError, match="adapter must be one name, got tuple"):
            pool.predict(TEXTS, ("a",))  # type: ignore[arg-type]
        with pytest.raises(PoolError, match="'a' is for text-classification, which generates no text"):
            pool.generate(TEXTS, "a")
        assert pool.annotate(TEXTS[0], []) == {}


# ---- adapters


def test_the_first_stage_of_an_adapter_is_that_of_its_lowest_block(tiny_base: Base) -> None:
    adapters = {f"block-{k}": made.adapter(tiny_base, classes(), "layerwise", layers=str(k)) for k in range(3)}
    adapters["head"] = made.adapter(tiny_base, classes(), "head-only")
    with Pool(tiny_base, adapters) as pool:
        loaded = {name: pool._cache.get([name])[0] for name in adapters}
        stages = {name: adapter.first_stage for name, adapter in loaded.items()}
        assert stages == {"block-0": 1, "block-1": 2, "block-2": 3, "head": pool._routed.trace.last_stage}
        assert {name for name, adapter in loaded.items() if adapter.changes_base} == adapters.keys() - {"head"}
        blocks = [f"encoder.layer.{k}" for k in range(3)]
        separate = {name: set(adapter.separate_blocks) for name, adapter in loaded.items()}
        assert separate == {"block-0": {blocks[0]}, "block-1": {blocks[1]}, "block-2": {blocks[2]}, "head": set()}
        for name, adapter in adapters.items():
            assert loaded[name].nbytes == sum(t.numel() * 4 for t in adapter.tensors.values())


def test_embeddings_are_the_bases_hidden_states_pooled(tiny_base: Base) -> None:
    inputs = tiny_base.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = tiny_base.model(**inputs, output_hidden_states=True).hidden_states
    mask = inputs["attention_mask"].bool()[..., None]
    with Pool(tiny_base, batch_size=2) as pool:
        for layer, hidden in enumerate(states):
            expected = {
                "mean": (hidden * mask).sum(1) / mask.sum(1),
                "max": hidden.masked_fill(~mask, -torch.inf).amax(1),
                "cls": hidden[:, 0],
            }
            for pooling, vectors in expected.items():
                found = pool.embed(TEXTS, layer=layer, pooling=pooling)
                tolerance.assert_near(found, vectors, tolerance.of_base(tiny_base), f"{layer} {pooling}")
        tolerance.assert_near(pool.embed(TEXTS[1]), pool.embed(TEXTS)[1], tolerance.of_base(tiny_base))


# ---- routing


def adapter_of(patches: dict[nn.Module, ModulePatch]) -> Any:
    return SimpleNamespace(patches=patches, first_stage=0, separate_blocks=frozenset())


def low_rank(scale: float = 0.5) -> LowRank:
    return LowRank(torch.randn(2, 6), torch.randn(8, 2), scale)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("replaced", [1, 2, 6])
def test_each_row_is_computed_with_its_own_patch(replaced: int, bias: bool) -> None:
    """Rows of the base, of updates and of replaced weights, few and many of each, in any order."""
    torch.manual_seed(replaced)
    module = nn.Linear(6, 8, bias=bias)
    unrouted = unrouted_twin(module)
    weights = [torch.randn(8, 6) for _ in range(replaced)]
    biases = [torch.randn(8) if bias else None for _ in range(replaced)]
    tensors = [{"weight": w} if b is None else {"weight": w, "bias": b} for w, b in zip(weights, biases, strict=True)]
    updates = [low_rank(), low_rank(), low_rank(scale=2.0)]
    adapters = [adapter_of({module: ReplacedTensors(t, unrouted)}) for t in tensors]
    adapters += [adapter_of({module: ModulePatch(u, unrouted)}) for u in updates]
    order: list[Any] = [None, *adapters, None, *reversed(adapters), adapters[0]]
    x = torch.randn(len(order), 3, 6)
    expected = []
    for row, adapter in zip(x, order, strict=True):
        i = adapters.index(adapter) if adapter is not None else None
        y = module(row)
        if i is not None and i < replaced:
            y = nn.functional.linear(row, weights[i], biases[i])
        elif i is not None:
            update = updates[i - replaced]
            y = y + update.scale * row @ update.A.T @ update.B.T
        expected.append(y)
    with entered(PassContext(Rows(order, CPU))):
        tolerance.assert_near(route(module, unrouted, frozenset({(0,)}), x), torch.stack(expected), WITHIN)
        twice = route(module, unrouted, frozenset({(0,)}), x.repeat_interleave(2, 0))  # as beams and choices are
        tolerance.assert_near(twice, torch.stack(expected).repeat_interleave(2, 0), WITHIN)
    tolerance.assert_near(route(module, unrouted, frozenset(), x), module(x), WITHIN)


def test_rows_are_selected_written_and_joined_by_slice_or_index() -> None:
    rows = Rows([None] * 6, CPU)
    assert rows.select([2, 3, 4]) == slice(2, 5)
    index = rows.select([4, 1])
    assert isinstance(index, Tensor)
    x = torch.arange(12.0).view(6, 2)
    assert take(x, None) is x
    assert take(x, slice(1, 3)).tolist() == [[2, 3], [4, 5]]
    assert take(x, index).tolist() == [[8, 9], [2, 3]]
    assert put(x.clone(), index, -torch.ones(2, 2))[:, 0].tolist() == [0, -1, 4, 6, -1, 10]
    parts = [(slice(0, 2), (x[:2], [x[:2, 0]], "same")), (torch.tensor([3, 2]), (x[[3, 2]], [x[[3, 2], 0]], "same"))]
    joined = join(parts, 4)
    assert joined[0].tolist() == x[:4].tolist()
    assert joined[1][0].tolist() == x[:4, 0].tolist()
    assert joined[2] == "same"


# ---- batches


def example(*lengths: int) -> Any:
    texts = tuple((tuple(range(1, n + 1)), ()) for n in lengths)
    return SimpleNamespace(items=texts, lengths=lengths)


def test_batches_are_of_similar_lengths_and_hold_one_text_together() -> None:
    lengths = [5, 1, 3, 3, 3, 3, 2, 4]
    batches = [[e.lengths[0] for e in batch] for batch in requests._batches(map(example, lengths), 2)]
    assert batches == [[1, 2], [3, 3, 3, 3], [4, 5]]
    many = [len(batch) for batch in requests._batches([example(3)] * 19, 2)]
    assert many == [8, 8, 3]  # at most four times the size
    assert list(requests._batches([], 2)) == []
    by_longest = [e.items for batch in requests._batches([example(1, 6), example(5)], 1) for e in batch]
    assert by_longest == [example(5).items, example(1, 6).items]


@pytest.mark.parametrize("pad", [7, None])
def test_texts_are_padded_to_the_longest(pad: int | None) -> None:
    tokens = Tokens(None, SimpleNamespace(pad_token_id=pad))
    tensors = tokens.tensors([((3, 4, 5), (0, 0, 1)), ((6,), ())], CPU)
    assert {key: value.tolist() for key, value in tensors.items()} == {
        "input_ids": [[3, 4, 5], [6, pad or 0, pad or 0]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "token_type_ids": [[0, 0, 1], [0, 0, 0]],
    }
    tensors = tokens.tensors([((), ())], CPU)
    assert {key: value.tolist() for key, value in tensors.items()} == {
        "input_ids": [[pad or 0]],
        "attention_mask": [[0]],
    }
    assert tokens.tensors([((1, 2), ())], CPU)["input_ids"].tolist() == [[1, 2]]


def test_adapters_with_tokens_of_their_own_answer_beside_others(tiny_base: Base) -> None:
    torch.manual_seed(0)
    wider = {name: tiny_base.with_tokens([f"<{name}>", "<both>"]) for name in ("a", "b")}
    adapters = {name: made.adapter(base, classes(), "full", seed=ord(name)) for name, base in wider.items()}
    adapters["plain"] = made.adapter(tiny_base, classes(3))
    texts = ["a <a> film", "rude <both> staff", "so <b> so"]
    with Pool(tiny_base, adapters) as pool:
        found = pool.predict(texts, adapters=list(adapters))
        for name, adapter in adapters.items():
            expected = predict(tiny_base, adapter, texts)
            answers = [by_name[name] for by_name in found]
            assert answers == tolerance.near(expected, tolerance.of_base(tiny_base)), name
        bases = {name: pool._cache.get([name])[0].base for name in adapters}
    tokens = {name: base.base.added_tokens for name, base in bases.items()}
    assert tokens == {"plain": {}, **{name: base.added_tokens for name, base in wider.items()}}
