"""Every kind of patch is loaded from its tensors as it was, computes its formula, and refuses anything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterkit.errors import AdapterError, StrategyError
from adapterkit.patches.bottleneck import Bottleneck
from adapterkit.patches.encoded import Exact, Factors, Sign
from adapterkit.patches.low_rank import Dora, LowRank
from adapterkit.patches.low_rank_init import INITIALISATIONS
from adapterkit.patches.patch import Held, Patch, Update
from adapterkit.patches.peft_layer import config_class, config_options
from adapterkit.patches.prefix import Prefix
from adapterkit.patches.replace import Replace
from adapterkit.patches.scaling import Bias, Scale
from tests.helpers import tolerance

WITHIN = tolerance.relative(8, 4)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape)


def low_rank(bias: bool = False, scale: float = 0.5) -> LowRank:
    return LowRank(drawn(3, 6), drawn(8, 3), scale, drawn(8) if bias else None)


def bottleneck(activation: str = "gelu") -> Bottleneck:
    return Bottleneck(drawn(4, 8), drawn(4), drawn(8, 4), drawn(8), activation)


def module_of(kind: str) -> Any:
    """Return a map of 6 features to 8: PyTorch's, or GPT-2's, whose weight is (inputs, outputs)."""
    module = nn.Linear(6, 8) if kind == "Linear" else Conv1D(8, 6)
    module.weight.data.normal_()
    module.bias.data.normal_()
    return module


def formulas(module: Any, x: Tensor) -> dict[str, tuple[Patch, Tensor]]:
    """Return patches of a linear map by name, and what each computes of `x`, written out."""
    weight, y = module.weight.detach(), module(x).detach()
    weight = weight if isinstance(module, nn.Linear) else weight.T
    plain, biased, small, other = low_rank(), low_rank(bias=True), bottleneck(), bottleneck("relu")
    magnitude = drawn(8).abs()
    dora = Dora.of(plain, magnitude, module)
    summed = weight + plain.scale * plain.B @ plain.A
    by, add, inner = drawn(8), drawn(8), drawn(6)
    gelu = torch.nn.functional.gelu(y @ small.down.T + small.down_bias)
    relu = (y @ other.down.T + other.down_bias).clamp(min=0)
    return {
        "low-rank": (plain, y + plain.scale * x @ plain.A.T @ plain.B.T),
        "low-rank with a bias": (biased, y + biased.scale * (x @ biased.A.T @ biased.B.T + biased.bias)),
        "dora": (dora, x @ (summed / summed.norm(dim=1, keepdim=True) * magnitude[:, None]).T + module.bias),
        "bottleneck": (small, y + gelu @ small.up.T + small.up_bias),
        "bottleneck relu": (other, y + relu @ other.up.T + other.up_bias),
        "scale of outputs": (Scale(by, "outputs"), y * by),
        "scale of inputs": (Scale(inner, "inputs"), (x * inner) @ weight.T + module.bias),
        "bias": (Bias(add), y + add),
        "replace": (Replace({"bias": add}), x @ weight.T + add),
    }


NAMES = list(formulas(nn.Linear(6, 8), torch.zeros(1, 2, 6)))


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("name", NAMES)
def test_a_patch_computes_its_formula_and_again_once_loaded(name: str, kind: str) -> None:
    torch.manual_seed(0)
    module, x = module_of(kind), drawn(2, 5, 6)
    patch, expected = formulas(module, x)[name]
    tolerance.assert_near(patch.forward(module, x), expected, WITHIN)
    again = type(patch).load(patch.tensors(), patch.options(), module)
    assert torch.equal(again.forward(module, x), patch.forward(module, x))
    assert again.tensors().keys() == patch.tensors().keys()
    assert dict(again.options()) == dict(patch.options())
    folded = patch.fold(module)
    if folded is not None:
        whole = {**dict(module.named_parameters()), **folded}
        tolerance.assert_near(torch.func.functional_call(module, whole, (x,)), expected, WITHIN)
    assert (folded is None) == name.startswith("bottleneck")


def test_a_patch_with_a_bias_is_not_folded_into_a_module_without_one() -> None:
    module = nn.Linear(6, 8, bias=False)
    assert low_rank(bias=True).fold(module) is None
    assert Bias(drawn(8)).fold(module) is None
    assert set(Scale(drawn(8), "outputs").fold(module)) == set(low_rank().fold(module) or ()) == {"weight"}


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "replace"])
def test_stacked_patches_compute_each_row_with_its_own(name: str, kind: str) -> None:
    torch.manual_seed(1)
    module, x = module_of(kind), drawn(3, 5, 6)
    patches: list[Any] = [formulas(module, x)[name][0] for _ in range(3)]
    stacked: Update = type(patches[0]).stack(patches)
    expected = torch.cat([patch.forward(module, x[i : i + 1]) for i, patch in enumerate(patches)])
    tolerance.assert_near(stacked.forward(module, x), expected, WITHIN)


def prefix() -> Prefix:
    return Prefix(drawn(2, 5, 3), drawn(2, 5, 3))


def test_a_prefix_adds_attention_to_its_keys_and_values_by_heads() -> None:
    torch.manual_seed(2)
    module, x = nn.Linear(6, 6), drawn(2, 4, 6)
    patch = prefix()
    added = []
    for head in range(2):
        queries = x[..., 3 * head : 3 * head + 3]
        added.append(torch.softmax(queries @ patch.keys[head].T / math.sqrt(3), -1) @ patch.values[head])
    expected = module(x) + torch.cat(added, -1)
    tolerance.assert_near(patch.forward(module, x), expected, WITHIN)
    again = Prefix.load(patch.tensors(), {}, module)
    assert torch.equal(again.forward(module, x), patch.forward(module, x))


LINEAR = nn.Linear(6, 8)
REFUSED: dict[str, tuple[type[Patch], Callable[[], dict[str, Tensor]], dict[str, Any], str]] = {
    "no scale": (LowRank, lambda: dict(low_rank().tensors()), {}, "lora_A.weight, lora_B.weight"),
    "more": (LowRank, lambda: {**low_rank().tensors(), "x": drawn(1)}, {"scale": 1.0}, "'x'"),
    "no B": (LowRank, lambda: {"lora_A.weight": drawn(3, 6)}, {"scale": 1.0}, "lora_A.weight"),
    "rank": (
        LowRank,
        lambda: {"lora_A.weight": drawn(3, 6), "lora_B.weight": drawn(8, 2)},
        {"scale": 1.0},
        r"lora_A \(3, 6\) and lora_B \(8, 2\)",
    ),
    "scale": (LowRank, lambda: dict(low_rank().tensors()), {"scale": math.inf}, "inf"),
    "bias": (
        LowRank,
        lambda: {**low_rank().tensors(), "lora_B.bias": drawn(6)},
        {"scale": 1.0},
        r"lora_B.bias.*\(6,\)",
    ),
    "no magnitude": (
        Dora,
        lambda: dict(low_rank().tensors()),
        {"scale": 1.0},
        r"lora_magnitude_vector.*\(0,\).*\(8,\)",
    ),
    "magnitude": (
        Dora,
        lambda: {**low_rank().tensors(), "lora_magnitude_vector": drawn(6)},
        {"scale": 1.0},
        r"lora_magnitude_vector.*\(6,\).*\(8,\)",
    ),
    "dora with a bias": (
        Dora,
        lambda: {**low_rank(bias=True).tensors(), "lora_magnitude_vector": drawn(8)},
        {"scale": 1.0},
        "bias",
    ),
    "keys alone": (Prefix, lambda: {"keys": drawn(2, 5, 3)}, {}, "keys"),
    "values' shape": (Prefix, lambda: {"keys": drawn(2, 5, 3), "values": drawn(2, 4, 3)}, {}, r"\(2, 4, 3\)"),
    "keys' width": (Prefix, lambda: {"keys": drawn(2, 5, 4), "values": drawn(2, 5, 4)}, {}, "6 features"),
    "option": (Prefix, lambda: dict(prefix().tensors()), {"n": 3}, "keys"),
    "activation": (Bottleneck, lambda: dict(bottleneck().tensors()), {"activation": "tanh"}, "activation"),
    "bottleneck's shape": (
        Bottleneck,
        lambda: {**bottleneck().tensors(), "up.bias": drawn(6)},
        {"activation": "relu"},
        "8 outputs",
    ),
    "of": (Scale, lambda: {"ia3_l": drawn(8, 1)}, {"of": "weights"}, "inputs or outputs"),
    "scale's shape": (Scale, lambda: {"ia3_l": drawn(8, 1)}, {"of": "inputs"}, r"\(8, 1\).*\(1, 6\)"),
    "bias's shape": (Bias, lambda: {"bias": drawn(6)}, {}, r"\(6,\).*\(8,\)"),
    "bias's option": (Bias, lambda: {"bias": drawn(8)}, {"a": 1}, "bias"),
    "parameter": (Replace, lambda: {"scale": drawn(8)}, {}, "weight, bias"),
    "parameter's shape": (Replace, lambda: {"bias": drawn(6)}, {}, r"\(6,\).*\(8,\)"),
}


@pytest.mark.parametrize(("kind", "tensors", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_tensors_or_options_of_another_form_are_an_error(
    kind: type[Patch], tensors: Callable[[], dict[str, Tensor]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        kind.load(tensors(), options, LINEAR)


@pytest.mark.parametrize("kind", [Exact, Sign, Factors])
def test_an_encoding_that_lacks_a_part_is_an_error_with_the_part(kind: Any) -> None:
    torch.manual_seed(3)
    module = nn.Linear(64, 32)
    moved = {"weight": module.weight.detach() + 0.01 * drawn(32, 2) @ drawn(2, 64)}
    patch = kind.compress(moved, module, rank=2)
    for name in patch.tensors():
        rest = {other: tensor for other, tensor in patch.tensors().items() if other != name}
        if rest:
            missing = "2 parts were expected" if name == "weight.sign" else f"no part '{name.partition('.')[2]}'"
            with pytest.raises(AdapterError, match=f"'weight' can't be decoded from .*{missing}"):
                kind.load(rest, patch.options(), module)
        with pytest.raises(AdapterError, match=r"'weight' can't be decoded from .*expected"):
            kind.load({**patch.tensors(), name: torch.zeros(1, 1, 1)}, patch.options(), module)


def test_the_rows_that_an_encoding_stores_are_those_that_differ() -> None:
    torch.manual_seed(5)
    module = nn.Linear(64, 20)
    moved = module.weight.detach().clone()
    moved[[3, 11]] += 0.01 * drawn(2, 64)
    patch = Sign.compress({"weight": moved}, module)
    mask = patch.mask("weight", module.weight)
    assert mask is not None
    assert mask.nonzero().flatten().tolist() == [3, 11]
    assert patch.mask("bias", module.bias) is None
    with pytest.raises(AdapterError, match=r"'bias' is of torch\.int64"):
        Exact.load({"bias": torch.zeros(20, dtype=torch.int64)}, {}, module)
    with pytest.raises(AdapterError, match="'x' is no parameter of Linear; it has weight, bias"):
        Exact.load({"x": torch.zeros(20)}, {}, module)
    with pytest.raises(AdapterError, match="options for 'bias', which isn't encoded"):
        Exact.load({"bias": torch.zeros(20)}, {"bias": {}}, module)


@pytest.mark.parametrize("scaling", [0.5, 2.0])
def test_pissa_is_the_best_approximation_of_its_rank_and_olora_of_the_first_columns(scaling: float) -> None:
    weight = torch.randn(7, 5, generator=torch.Generator().manual_seed(4))
    a, b = INITIALISATIONS["pissa"](weight, 2, scaling)
    u, s, v = np.linalg.svd(weight.double().numpy(), full_matrices=False)
    best = (u[:, :2] * s[:2]) @ v[:2]
    np.testing.assert_allclose(scaling * b.double().numpy() @ a.double().numpy(), best, atol=1e-5)
    tolerance.assert_near(a.norm(dim=1), b.norm(dim=0), WITHIN)  # of equal norms
    a, b = INITIALISATIONS["olora"](weight, 2, scaling)
    assert (a.shape, b.shape) == ((2, 5), (7, 2))
    tolerance.assert_near(b.T @ b, torch.eye(2), WITHIN)
    tolerance.assert_near((b @ a)[:, :2], weight[:, :2], WITHIN)


def test_a_held_patch_is_a_submodule_until_it_is_detached() -> None:
    base = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8))
    x, patch = drawn(2, 6), LowRank(nn.Parameter(drawn(3, 6)), nn.Parameter(drawn(8, 3)), 0.5)
    before = base(x)
    parameters = Held.attach(base[0], patch)
    assert {id(p) for p in parameters} == {id(t) for t in patch.parameters().values()}
    assert torch.equal(base[0](x), patch.forward(base[0], x))
    assert {name: held.patch for name, held in Held.of(base).items()} == {"0": patch}
    with pytest.raises(AdapterError):
        patch.attach(base[0])
    Held.of(base)["0"].detach(base[0])
    assert torch.equal(base(x), before)
    assert Held.of(base) == {}


LEFT_OUT = (
    *("LORA", "IA3", "ADALORA", "ADAPTION_PROMPT", "FROD", "POLY", "PVERA", "RANDLORA", "SHADOW", "TINYLORA"),
    *("TRAINABLE_TOKENS", "UNILORA", "VBLORA", "VERA", "XLORA"),
)


@pytest.mark.parametrize("peft_type", [*LEFT_OUT, "PREFIX_TUNING", "nothing"])
def test_a_method_of_peft_that_is_more_than_layers_is_refused(peft_type: str) -> None:
    with pytest.raises(StrategyError, match=f"no PEFT type named '{peft_type}'.*") as error:
        config_class(peft_type)
    assert not {f" {name}," for name in LEFT_OUT} & {f" {word}" for word in str(error.value).split()}


def test_options_of_peft_are_read_as_json_or_text() -> None:
    cls = config_class("loha")
    assert cls.__name__ == "LoHaConfig"
    options = config_options(cls, ["r=4", "alpha=0.5", "rank_pattern={}"])
    assert (options["r"], options["alpha"], options["rank_pattern"]) == (4, 0.5, {})
    for pair in ("r", "colour=red"):
        with pytest.raises(StrategyError, match=pair):
            config_options(cls, [pair])
