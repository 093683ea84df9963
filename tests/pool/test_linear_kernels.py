"""Linear maps by float16 or int8 weights, against the arithmetic that they stand for and the base's own weights."""

from __future__ import annotations

import copy
import gc
import statistics
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapterkit import Base, Pool
from adapterkit.errors import PoolError
from adapterkit.pool import folding, linear_kernels
from adapterkit.pool.linear_kernels import FastLinear, Float16Weight, Forms, Int8Weight, LinearKernels, unsupported
from adapterkit.pool.rows import ReplacedTensors
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import TEXTS, classes
from tests.helpers.families import EVERY, NOT_PACKED
from tests.helpers.pooled import mix

CPU = torch.device("cpu")
KINDS = [
    pytest.param(
        kind, marks=pytest.mark.skipif(unsupported(kind, CPU, torch.float32) is not None, reason=f"no {kind} here")
    )
    for kind in linear_kernels.KINDS
]


def linear(outputs: int = 24, inputs: int = 40, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


def rounded_to_int8(layer: nn.Linear, x: Tensor) -> Tensor:
    """Return the map of inputs and weights rounded as `Int8Weight` says, in float64."""
    scales = layer.weight.abs().amax(1, keepdim=True).double() / 127
    weight = (layer.weight.double() / scales).round() * scales
    least, greatest = min(0.0, float(x.min())), max(0.0, float(x.max()))
    step = (greatest - least) / 127
    zero = round(-least / step)
    levels = ((x.double() / step).round() + zero).clamp(0, 127)
    y = (levels - zero) * step @ weight.mT
    return y if layer.bias is None else y + layer.bias.double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_that_of_rounded_weights(kind: str, bias: bool) -> None:
    layer, x = linear(bias=bias), torch.randn(3, 20, 40)
    with torch.inference_mode():
        if kind == "int8":
            y, expected = Int8Weight(layer.weight, layer.bias, 0)(x), rounded_to_int8(layer, x)
            # a value in the middle between two levels may be rounded either way in float32
            steps = (float(x.max()) - float(x.min())) / 127 * float(layer.weight.abs().max())
            assert float((y.double() - expected).abs().max()) <= 2 * steps
            assert float((y.double() - expected).abs().median()) <= tolerance.relative(40) * float(expected.abs().max())
        else:
            y = Float16Weight(layer.weight, layer.bias, 0)(x)
            expected = nn.functional.linear(x, layer.weight.half().float(), layer.bias)
            tolerance.assert_near(y, expected, tolerance.relative(40))
    assert y.shape == (3, 20, 24)
    assert not torch.equal(y, layer(x)), "the weights weren't rounded"


@pytest.mark.skipif(unsupported("int8", CPU, torch.float32) is not None, reason="no int8 here")
@pytest.mark.parametrize("x", [torch.zeros(2, 40), torch.full((2, 40), 3.0), torch.full((2, 40), -3.0)], ids=repr)
def test_inputs_of_one_value(x: Tensor) -> None:
    layer = linear()
    y = Int8Weight(layer.weight, layer.bias, 0)(x)
    tolerance.assert_near(y, rounded_to_int8(layer, x) if x.any() else layer.bias.expand(2, -1), 1e-5)


@pytest.mark.skipif(unsupported("int8", CPU, torch.float32) is not None, reason="no int8 here")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_input_that_is_no_number_is_none_afterwards(value: float) -> None:
    x = torch.ones(2, 3, 40)
    x[0, 0, 0] = value
    y = Int8Weight(linear().weight, None, 0)(x)
    assert (y.shape, bool(y.isnan().all())) == ((2, 3, 24), True)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "t5"])
def test_float16_weights_are_those_of_a_base_that_was_rounded(
    family: str, tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if (reason := unsupported("float16-weights", CPU, torch.float32)) is not None:
        pytest.skip(reason)
    base, rounded = (Base.load(str(tiny_folder(family))) for _ in range(2))
    adapters = mix(base)
    rows = [(text, name) for text in TEXTS for name in adapters]
    monkeypatch.setattr(linear_kernels, "_FEW_TOKENS", float("inf"))
    names = {name for name, module in base.model.named_modules() if type(module) is nn.Linear}
    with torch.no_grad():
        for name, module in rounded.model.named_modules():
            if name in names:
                module.weight.copy_(module.weight.half().float())
    outputs = []
    for of, dtype in ((rounded, None), (base, "float16-weights"), (base, None)):
        with Pool(of, adapters, dtype=dtype, allow_base_mismatch=True) as pool:
            pool._routed.folding.max_bytes = 0
            outputs.append(pool.outputs([text for text, _ in rows], adapter_of_each=[name for _, name in rows]))
    tolerance.assert_near(outputs[1], outputs[0], tolerance.of_base(base))
    assert not tolerance.is_near(outputs[1], outputs[2], tolerance.of_base(base)), "no map used float16 weights"


@pytest.mark.product
@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("kind", KINDS)
def test_every_family_answers_nearly_as_in_float32(
    kind: str, family: str, tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Base.load(str(tiny_folder(family)))
    adapters = mix(base)
    monkeypatch.setattr(linear_kernels, "_FEWER_TOKENS", 0)
    with Pool(base, adapters) as pool:
        expected = pool.predict(TEXTS, adapters=list(adapters), all_scores=True)
    with Pool(base, adapters, dtype=kind) as pool:
        found = pool.predict(TEXTS, adapters=list(adapters), all_scores=True)
        packs = pool._routed.packing.equals_padded(32, pool._routed._hidden_states)
    assert packs == (family not in NOT_PACKED), "packing is compared by the base's own weights"
    scores = [
        [{s["label"]: s["score"] for s in row[name]} for row in rows for name in adapters] for rows in (found, expected)
    ]
    distances = [abs(a[label] - b[label]) for a, b in zip(*scores, strict=True) for label in b]
    assert statistics.mean(distances) < (0.05 if kind == "int8" else 0.0005)
    modules = list(base.model.modules())
    assert not any(isinstance(module, FastLinear) for module in modules), "the base itself was changed"


def test_short_and_long_inputs_take_their_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    class Noted(linear_kernels.Kernel):
        def __call__(self, x: Tensor) -> Tensor:
            called.append(f"up to {self.most_tokens}")
            return x

    monkeypatch.setattr(Forms, "_make", lambda self, weight, bias: [Noted(4), Noted(9)])
    layer = linear()
    model = nn.Sequential(layer)
    LinearKernels("int8").apply(model)
    for rows in (1, 4, 5, 9):
        layer(torch.zeros(rows, 40))
    assert called == ["up to 4", "up to 4", "up to 9", "up to 9"]
    plain = linear()
    x = torch.randn(10, 40)
    assert torch.equal(layer(x), plain(x)), "too many tokens"
    assert torch.equal(layer(torch.randn(0, 40)), torch.empty(0, 24))
    assert layer(x.double().float()).dtype == torch.float32
    called.clear()
    with linear_kernels.exact():
        assert torch.equal(layer(x[:1]), plain(x[:1]))
    twin = copy.copy(layer)
    twin.__dict__["_parameters"] = {**layer._parameters, "weight": nn.Parameter(2 * layer.weight)}
    tolerance.assert_near(twin(x[:1]) - layer.bias, 2 * (plain(x[:1]) - layer.bias), tolerance.relative(40))
    assert not called, "another weight in its place"
    twin.renew_forms()
    twin(x[:1])
    layer(x[:5])
    assert called == ["up to 4", "up to 9"]


def test_a_weight_beyond_float16_stays_as_it_is() -> None:
    layer = linear()
    with torch.no_grad():
        layer.weight[0, 0] = 1e5
    kernels, x = LinearKernels("float16-weights"), torch.randn(2, 40)
    expected = layer(x)
    kernels.apply(layer)
    assert layer.forms.kernels() == []  # type: ignore[attr-defined]
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_pack_a_weight_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    make = Forms._make
    monkeypatch.setattr(Forms, "_make", lambda self, w, bias: made.append(w) or make(self, w, bias))
    layer, x = linear(), torch.randn(2, 40)
    LinearKernels(kind).apply(layer)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: layer(x), range(64)))
    assert len(made) == 1
    assert all(torch.equal(y, results[0]) for y in results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "meta"}, "^no device named 'meta'"),
        ({"base": "bfloat16"}, "^dtype 'int8': int8 is for a base in float32, and this one is in bfloat16$"),
    ],
)
def test_what_can_not_be_computed_so_is_refused(options: dict[str, Any], message: str, tiny_base: Base) -> None:
    if options.pop("base", None):
        tiny_base.model.to(torch.bfloat16)
    with pytest.raises(PoolError, match=message):
        Pool(tiny_base, dtype="int8", **options)
    tiny_base.model.to(torch.float32)
    Pool(tiny_base).close()


def test_another_device_and_a_torch_without_the_kernels_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda")
    assert unsupported("int8", device, torch.float32) == "int8 is for CPUs, and the pool is on cuda"

    def none(self: Any, *args: Any) -> None:
        raise RuntimeError("Didn't find engine for operation")

    monkeypatch.setattr(Forms, "kernels", none)
    reason = unsupported("float16-weights", CPU, torch.float32)
    assert reason == f"torch {torch.__version__} has no float16-weights here: Didn't find engine for operation"
    monkeypatch.setattr(Forms, "kernels", lambda self: [lambda x: 2 * x @ self.weight.mT])
    assert unsupported("int8", CPU, torch.float32) == "this CPU computes wrong products in int8"


@pytest.mark.parametrize("kind", KINDS)
def test_folded_weights_have_other_forms_which_count_and_go_with_their_adapter(
    kind: str, tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_LEAST_TOKENS", 1)
    adapter = made.adapter(tiny_base, classes(), "lora", std=0.1)
    with Pool(tiny_base, {"it": adapter}) as plain, Pool(tiny_base, {"it": adapter}, dtype=kind) as pool:
        expected, found = (p.predict(TEXTS, "it", all_scores=True) for p in (plain, pool))
        loaded = pool._cache.get(["it"])[0]
        assert loaded.folded is not None
        twins = [p.twin for p in loaded.folded.patches.values() if isinstance(p, ReplacedTensors)]
        forms = [weakref.ref(twin.forms) for twin in twins if isinstance(twin, FastLinear)]
        assert forms
        assert all(form() is not None and form()._kernels for form in forms), "the folded weights were not used"
        assert pool._routed.folding.nbytes == plain._routed.folding.nbytes * 7 // 4
        for a, b in zip(found, expected, strict=True):
            assert {s["label"]: s["score"] for s in a} == pytest.approx({s["label"]: s["score"] for s in b}, abs=0.05)
        pool.unload("it")
        del loaded, twins
        gc.collect()
        assert not any(form() for form in forms)
