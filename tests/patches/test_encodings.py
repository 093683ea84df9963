"""Encoded tensors come back: to the bit where that is promised, by the arithmetic where not, and never from damage."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from torch import Tensor, nn

from adapterkit import Adapter, AdapterkitError, Base, LowRank, Patch, Pool, Replace
from adapterkit.convert.compress import NothingToGain, _low_rank, compress
from adapterkit.convert.merge import merge
from adapterkit.errors import AdapterError
from adapterkit.io.tensors import tensor_digest
from adapterkit.patches.encoded import Encoded, Exact, Factors, Sign
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, alone, classes, full, size
from tests.helpers.damage import refused, rewrite


def stored(adapter: Adapter, registry_folder: Path) -> Path:
    """Write an adapter's files, as the store has them, and return their folder."""
    registry_folder.mkdir(parents=True)
    for name, data in adapter.files().items():
        (registry_folder / name).write_bytes(data)
    return registry_folder


@pytest.mark.product
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_exact_comes_back_to_the_bit_on_every_family_and_dtype(
    family: str, dtype: torch.dtype, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_folder(family)
    if dtype != torch.float32:
        folder = tmp_path / "base"
        transformers.AutoModel.from_pretrained(tiny_folder(family), dtype=dtype).save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
    base = Base.load(str(folder))
    assert base.model.dtype == dtype
    adapter = full(base)
    encoded = compress(base, adapter, "exact")
    assert {patch["kind"] for patch in encoded.manifest["patches"].values()} == {"exact"}
    assert size(encoded) < size(adapter)
    again = Adapter.load(stored(encoded, tmp_path / "adapter")).decoded(base)
    assert again.tensors.keys() == adapter.tensors.keys()
    for name, tensor in adapter.tensors.items():
        assert again.tensors[name].dtype == tensor.dtype
        assert torch.equal(again.tensors[name], tensor), name
    assert base.changed_tensors() == []


def one_linear(rows: int = 20, width: int = 12) -> tuple[nn.Linear, dict[str, Tensor]]:
    torch.manual_seed(0)
    module = nn.Linear(width, rows)
    replaced = {name: p.detach() + 0.01 * torch.randn_like(p) for name, p in module.named_parameters()}
    return module, replaced


def test_signs_are_the_base_moved_by_each_rows_mean_difference() -> None:
    table = nn.Embedding(50, 12)
    new = table.weight.detach().clone()
    new[7:20] += 0.1 * torch.randn(13, 12)
    patch = Sign.compress({"weight": new}, table)
    delta = (new.double() - table.weight.double()).detach().numpy()
    wanted = table.weight.detach().double().numpy() + np.where(delta >= 0, 1, -1) * np.abs(delta).mean(1)[:, None]
    found = patch.replaced["weight"].double().numpy()
    np.testing.assert_allclose(found[7:20], wanted[7:20], rtol=1e-6)
    assert np.array_equal(np.delete(found, range(7, 20), 0), np.delete(table.weight.detach().numpy(), range(7, 20), 0))
    # 13 rows of 12 signs and a scale, and a bit for each of 50 rows
    assert sum(t.numel() * t.element_size() for t in patch.tensors().values()) == 13 * 2 + 13 * 4 + 7


def test_biases_beside_signs_are_exact() -> None:
    module, replaced = one_linear()
    patch = Sign.compress(replaced, module)
    assert set(patch.tensors()) == {"weight.sign", "weight.scale", "bias"}
    assert torch.equal(patch.replaced["bias"], replaced["bias"])


def test_a_low_rank_update_with_its_bias_is_the_linear_map_with_the_cut_difference() -> None:
    module, replaced = one_linear()
    patch = encode_patch(module, replaced, 4)
    assert isinstance(patch, LowRank)
    u, s, v = np.linalg.svd((replaced["weight"] - module.weight).detach().double().numpy())
    weight = module.weight.detach().double() + torch.from_numpy(u[:, :4] * s[:4] @ v[:4])
    x = torch.randn(5, 3, 12)
    wanted = nn.functional.linear(x.double(), weight, replaced["bias"].double())
    torch.testing.assert_close(patch.forward(module, x).double(), wanted, rtol=1e-4, atol=1e-5)
    folded = patch.fold(module)
    assert folded is not None
    torch.testing.assert_close(folded["weight"].double(), weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(folded["bias"], replaced["bias"])
    many = LowRank.stack([patch, patch]).outputs(x[:2], type(module).forward(module, x[:2]))
    torch.testing.assert_close(many, patch.forward(module, x[:2]))


def encode_patch(module: nn.Module, replaced: Mapping[str, Tensor], rank: int) -> Patch:
    return _low_rank(Replace(replaced), module, rank, map_only=True)


def test_a_conv1d_has_its_factors_the_other_way_round(tiny_folder: Callable[..., Path]) -> None:
    base = Base.load(str(tiny_folder("gpt2")))
    module = base.model.h[0].attn.c_attn
    delta = torch.randn(32, 2) @ torch.randn(2, 96)
    patch = encode_patch(module, {"weight": module.weight.detach() + delta}, 2)
    assert isinstance(patch, LowRank)
    assert (patch.A.shape, patch.B.shape) == ((2, 32), (96, 2))
    torch.testing.assert_close(patch.fold(module)["weight"], module.weight.detach() + delta, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "encoding"),
    [
        ("bert", "exact"),
        ("bert", "rank:3"),
        ("gpt2", "rank:3"),
        ("t5", "exact"),
        ("t5", "1bit"),
        ("deberta-v2", "bf16"),
    ],
)
def test_compressed_and_lora_adapters_share_a_batch_and_merge(
    family: str, encoding: str, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    base = Base.load(str(tiny_folder(family)))
    plain = full(base)
    adapters = {"small": compress(base, plain, encoding), "other": full(base, seed=1)}
    adapters |= {"lora": made.adapter(base, classes(2), "lora"), "half": compress(base, full(base, 2), "bf16")}
    assert size(adapters["small"]) < 0.8 * size(plain)
    said = {name: alone(base, adapter) for name, adapter in adapters.items()}
    with Pool(base, adapters) as pool, Pool(base, adapters, dtype=torch.bfloat16) as rough:
        together = pool.outputs([t for t in TEXTS for _ in adapters], adapter_of_each=[*adapters] * len(TEXTS))
        for i, name in enumerate(adapters):
            np.testing.assert_allclose(np.stack(together[i :: len(adapters)]), said[name], atol=2e-4)
            near = np.stack(rough.outputs(TEXTS, name))
            assert np.abs(near - said[name]).max() < 0.15 * np.abs(said[name]).max() + 0.02
    merge(base, adapters["small"], tmp_path / "merged")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    ids = base.tokenizer(TEXTS[0], return_tensors="pt")
    ids.pop("token_type_ids", None)
    with torch.no_grad():
        np.testing.assert_allclose(model(**ids).logits[0].numpy(), said["small"][0], atol=2e-4)
    assert base.changed_tensors() == []


def test_an_encoded_adapter_is_decoded_against_the_base_and_no_other(tiny_folder: Callable[..., Path]) -> None:
    base, other = (Base.load(str(tiny_folder("bert", seed))) for seed in (0, 1))
    encoded = compress(base, full(base), "exact")
    with pytest.raises(AdapterError, match="the adapter was trained on base"), encoded.attached(other):
        pass
    with pytest.raises(AdapterError, match=r"the base's tensor has SHA-256 \w{12}…, expected \w{12}…$"):
        encoded.patches(other)
    with pytest.raises(AdapterError, match="the adapter was trained on base"):
        compress(other, full(base), "exact")


def payload(patch: Encoded, change: Callable[[dict[str, Tensor]], None], module: nn.Module) -> str:
    """Return how a patch is refused whose tensors were changed."""
    tensors = {name: t.clone() for name, t in patch.tensors().items()}
    change(tensors)
    with pytest.raises(AdapterError) as caught:
        type(patch).load(tensors, patch.options(), module)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_exact_payload_with_any_byte_changed_is_refused_or_says_the_same() -> None:
    module, replaced = one_linear()
    patch = Exact.compress(replaced, module)
    refusals, size = 0, patch.tensors()["weight.exact"].numel()
    for i in range(size):
        tensors = {name: t.clone() for name, t in patch.tensors().items()}
        tensors["weight.exact"][i] ^= 0x10
        try:
            found = Exact.load(tensors, patch.options(), module)
        except AdapterError as error:
            refusals += "'weight' can't be decoded from exact: " in str(error)
        else:  # a bit of deflate's padding, which means nothing
            assert torch.equal(found.replaced["weight"], replaced["weight"])
    assert refusals >= size - 4


def bomb(count: int) -> Tensor:
    """Return four planes, each of so many megabytes once it is inflated, had anyone let it."""
    stream = zlib.compressobj(9)
    plane = b"".join(stream.compress(bytes(1 << 20)) for _ in range(count)) + stream.flush()
    return torch.frombuffer(bytearray(4 * (b"\1" + len(plane).to_bytes(8, "little") + plane)), dtype=torch.uint8)


def test_a_payload_never_decodes_to_more_than_the_modules_own_size() -> None:
    module, replaced = one_linear()
    patch, huge = Exact.compress(replaced, module), bomb(64)
    tracemalloc.start()
    try:
        assert "a plane must have 240 bytes, got 241" in payload(
            patch, lambda t: t.update({"weight.exact": huge}), module
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * huge.numel() + (1 << 20)


Change = Callable[[dict[str, Tensor]], Any]


@pytest.mark.parametrize(
    ("cls", "change", "said"),
    [
        (Exact, lambda t: t.pop("weight.rows"), "a plane must have 600 bytes"),
        (Exact, lambda t: t.update({"weight.rows": t["weight.rows"][:-1]}), r"50 bits were expected"),
        (Exact, lambda t: t["weight.rows"].fill_(255), "a plane must have 600 bytes"),
        (Exact, lambda t: t.update({"weight.more": t["weight.rows"]}), "1 parts were expected"),
        (Exact, lambda t: t.update({"weight": torch.zeros(50, 12)}), "1 parts were expected"),
        (Exact, lambda t: t.update({"wait.exact": t["weight.exact"]}), "'wait' is no parameter of Embedding"),
        (Sign, lambda t: t.pop("weight.scale"), "no part 'scale'"),
        (Sign, lambda t: t.update({"weight.sign": t["weight.sign"][:, :1]}), r"sign is \(13, 1\)"),
        (Sign, lambda t: t.update({"weight.scale": t["weight.sign"][:, 0]}), "scale is .* of torch.uint8"),
        (Sign, lambda t: t["weight.scale"].fill_(float("nan")), "it decodes to what is no finite number"),
        (Sign, lambda t: t.update({"weight": torch.zeros(50, 12, dtype=torch.uint8)}), "2 parts were expected"),
        (Factors, lambda t: t.update({"weight.left": t["weight.left"][:, :1]}), r"left is \(13, 1\)"),
        (Factors, lambda t: t.update({"weight.right": torch.zeros(9999, 12)}), r"left is .* but \(13, 12\)"),
        (Factors, lambda t: (t["weight.left"].fill_(3), t["weight.right"].fill_(3e38)), "no finite number"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(cls: type[Encoded], change: Change, said: str) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(50, 12)
    new = table.weight.detach().clone()
    new[7:20] += 0.1 * torch.randn(13, 12)
    patch = cls.compress({"weight": new}, table, rank=2)
    message = payload(patch, change, table)
    assert re.search(said, message), message


def test_options_that_do_not_fit_are_refused() -> None:
    module, replaced = one_linear()
    patch = Exact.compress(replaced, module)
    for options in (
        {},
        {"weight": None, "bias": None},
        {**patch.options(), "more": {}},
        {**patch.options(), "bias": {"sha256": tensor_digest(replaced["bias"])}},
        {**patch.options(), "bias": patch.options()["weight"]},
    ):
        with pytest.raises(AdapterError):
            Exact.load(patch.tensors(), options, module)


def test_whole_numbers_are_for_encoded_patches_alone(tiny_base: Base, tmp_path: Path) -> None:
    plain = stored(full(tiny_base), tmp_path / "plain")

    def whole(tensors: dict[str, Tensor]) -> None:
        name = next(iter(tensors))
        tensors[name] = torch.zeros(tensors[name].shape, dtype=torch.uint8)

    rewrite(plain, whole)
    assert "holds what is no finite number" in refused(plain, tiny_base)
    encoded = stored(compress(tiny_base, full(tiny_base), "1bit"), tmp_path / "encoded")

    def bad(tensors: dict[str, Tensor]) -> None:
        tensors[next(n for n in tensors if n.endswith(".scale"))][0] = float("inf")

    rewrite(encoded, bad)
    assert "holds what is no finite number" in refused(encoded, tiny_base)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("strategy", ["bitfit", "layerwise"])
def test_nothing_is_encoded_that_would_be_no_smaller(
    strategy: str, family: str, tiny_folder: Callable[..., Path]
) -> None:
    base = Base.load(str(tiny_folder(family)))
    adapter = made.adapter(base, classes(), strategy, **({"top": 1} if strategy == "layerwise" else {}))
    size = sum(t.nbytes for t in adapter.tensors.values())
    for encoding in ("exact", "1bit", "rank:2", "rank:1000"):
        try:
            encoded = compress(base, adapter, encoding)
        except NothingToGain:
            continue
        assert sum(t.nbytes for t in encoded.tensors.values()) < size
        again = compress(base, encoded, "bf16")  # of what it decodes to, whatever that is stored in
        assert {t.dtype for t in again.tensors.values() if t.is_floating_point()} == {torch.bfloat16}


@pytest.mark.parametrize("strategy", ["lora", "head-only"])
def test_what_replaces_nothing_has_nothing_to_compress_but_bf16(strategy: str, tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, classes(), strategy)
    for encoding in ("exact", "1bit", "rank:4"):
        with pytest.raises(AdapterError, match=f"^nothing to compress as {encoding}: it replaces nothing of the base"):
            compress(tiny_base, adapter, encoding)
    half = compress(tiny_base, adapter, "bf16")
    assert all(torch.equal(t, adapter.tensors[name].bfloat16()) for name, t in half.tensors.items())
    with pytest.raises(AdapterError, match=r"^nothing to compress as bf16: ([\d,]+) bytes of tensors would become \1$"):
        compress(tiny_base, half, "bf16")
    with pytest.raises(AdapterkitError, match=r"^no encoding named '2bit'; available: exact, bf16, 1bit"):
        compress(tiny_base, adapter, "2bit")


def test_an_encoded_adapter_can_be_encoded_otherwise(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, classes(), "layerwise", top=1)
    exact = compress(tiny_base, adapter, "exact")
    twice, once = (compress(tiny_base, one, "1bit") for one in (exact, adapter))
    assert all(torch.equal(t, once.tensors[name]) for name, t in twice.tensors.items())


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_a_low_rank_adapter_with_biases_and_norms_is_one_that_peft_loads(
    family: str, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    base = Base.load(str(tiny_folder(family)))
    adapter = compress(base, made.adapter(base, classes(3), "layerwise", layers="0,2"), "rank:2")
    folder = stored(adapter, tmp_path / "adapter")
    with torch.random.fork_rng():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=3)
    model.config.pad_token_id = tiny.PAD
    theirs = PeftModel.from_pretrained(model, folder).eval()
    said = alone(base, adapter)
    for text, wanted in zip(TEXTS, said, strict=True):
        ids = base.tokenizer(text, return_tensors="pt")
        ids.pop("token_type_ids", None)
        with torch.no_grad():
            np.testing.assert_allclose(theirs(**ids).logits[0].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_an_encoded_adapter_may_add_tokens(dtype: torch.dtype | None, tiny_base: Base) -> None:
    wide = tiny_base.with_tokens(["xyzzy"])
    plain = full(wide)
    encoded = compress(tiny_base, plain, "exact")
    assert "added_tokens" in encoded.manifest
    texts = ["a fine xyzzy", *TEXTS]
    with Pool(tiny_base, {"plain": plain, "encoded": encoded}, dtype=dtype) as pool:
        both = [np.stack(pool.outputs(texts, name)) for name in ("plain", "encoded")]
    assert np.array_equal(*both)
