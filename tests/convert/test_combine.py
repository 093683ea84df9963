"""Adapters are combined as PEFT combines them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft.tuners.lora import LoraLayer
from torch import Tensor

from adapterkit import Adapter, Base, LowRank, Patch, Registry
from adapterkit.convert.combine import combine
from adapterkit.errors import AdapterError
from adapterkit.store.publish import publish
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import CLASSIFY, said, task_of, without_training
from tests.helpers.bases import same, state
from tests.helpers.merged import TYPES, check_merged

TARGETS = {
    "bert": (["query", "value"], ["value", "output.dense"]),
    "roberta": (["query", "value"], ["value", "output.dense"]),
    "gpt2": (["c_attn"], ["c_attn", "c_proj"]),
    "llama": (["q_proj", "v_proj"], ["v_proj", "down_proj"]),
}


def peft_model(base: Base, ranks: tuple[int, ...]) -> Any:
    """Return PEFT's model of the base with random adapters, one of each rank, on modules of which they share some."""
    fan = base.model.config.model_type == "gpt2"
    configs = [
        peft.LoraConfig(r=r, lora_alpha=3 * i + 2, target_modules=targets, fan_in_fan_out=fan)
        for i, (r, targets) in enumerate(zip(ranks, TARGETS[base.model.config.model_type], strict=False))
    ]
    model = peft.get_peft_model(transformers.AutoModel.from_pretrained(base.path), configs[0], adapter_name="0")
    for i, config in enumerate(configs[1:], start=1):
        model.add_adapter(str(i), config)
    torch.manual_seed(0)
    for name, p in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.2)
    return model.eval()


def layers(model: Any, adapter: str) -> dict[str, Any]:
    """Return PEFT's layers that an adapter has, by the base's own module names."""
    found = {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    return {name: layer for name, layer in found.items() if adapter in layer.lora_A}


def ours_of(base: Base, model: Any, adapter: str) -> Adapter:
    """Return PEFT's adapter as ours, with a random head."""
    patches: dict[str, Patch] = {
        name: LowRank(m.lora_A[adapter].weight, m.lora_B[adapter].weight, m.scaling[adapter])
        for name, m in layers(model, adapter).items()
    }
    return without_training(base, CLASSIFY, patches)


@pytest.mark.product
@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.2, -0.4)])
@pytest.mark.parametrize(
    ("combination_type", "ranks"), [("cat", (4, 2)), ("linear", (4, 4)), ("svd", (2, 4)), ("svd", (4, 4))]
)
@pytest.mark.parametrize("family", TARGETS)
def test_adapters_add_up_as_pefts_do(
    family: str, combination_type: str, ranks: tuple[int, int], weights: tuple[float, float], base_of: Any
) -> None:
    base = base_of(family)
    before = state(base)
    model = peft_model(base, ranks)
    adapters = [ours_of(base, model, name) for name in ("0", "1")]
    combined = combine(base, list(zip(adapters, weights, strict=True)), combination_type)
    model.add_weighted_adapter(["0", "1"], list(weights), "sum", combination_type=combination_type)
    theirs, ours = layers(model, "sum"), combined.patches(base)
    assert set(ours) == set(theirs)
    for name, patch in ours.items():
        assert isinstance(patch, LowRank)
        delta = patch.B @ patch.A * patch.scale
        delta = delta if isinstance(base.model.get_submodule(name), torch.nn.Linear) else delta.T
        torch.testing.assert_close(delta, theirs[name].get_delta_weight("sum"), atol=1e-5, rtol=1e-5)
    model.set_adapter("sum")
    ids = torch.arange(5, 21).reshape(2, 8)
    with combined.attached(base), torch.no_grad():
        found = base.model(input_ids=ids).last_hidden_state
        tolerance.assert_near(found, model(input_ids=ids).last_hidden_state, tolerance.of_base(base))
    assert same(state(base), before)


@pytest.mark.product
@pytest.mark.parametrize("combination_type", TYPES)
@pytest.mark.parametrize("family", TARGETS)
def test_peft_loads_a_combination_and_computes_the_same(
    family: str, combination_type: str, base_of: Callable[..., Base], registry: Registry
) -> None:
    base = base_of(family)
    model = peft_model(base, (4, 4) if combination_type == "linear" else (4, 2))
    parts = [(ours_of(base, model, "0"), 0.7), (ours_of(base, model, "1"), 0.6)]
    combined = combine(base, parts, combination_type)
    folder = registry.folder("ab", publish(registry, "ab", combined).version)
    plain_model = transformers.AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=2)
    theirs = peft.PeftModel.from_pretrained(plain_model, folder).eval()
    with registry.load("ab").attached(base) as ours:
        tolerance.assert_near(said(ours), said(theirs), tolerance.of_base(base))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == combined.manifest["strategy"]["options"]["r"]
    assert config["r"] == {"cat": 6, "linear": 4, "svd": 4}[combination_type]


def delta(base: Base, adapter: Adapter, module: str) -> Tensor:
    patch = adapter.patches(base)[module]
    assert isinstance(patch, LowRank)
    return patch.B.double() @ patch.A.double() * patch.scale


QUERY = "encoder.layer.0.attention.self.query"


def test_updates_are_summed_and_heads_averaged(bert: Base) -> None:
    a, b = (made.adapter(bert, CLASSIFY, "lora", seed=seed, std=0.2) for seed in (1, 2))
    combined = combine(bert, [(a, 2.0), (b, 1.0)])
    expected = 2 * delta(bert, a, QUERY) + delta(bert, b, QUERY)
    torch.testing.assert_close(delta(bert, combined, QUERY), expected, atol=1e-6, rtol=1e-6)
    for name in ("classifier.weight", "classifier.bias"):
        one, other, both = (x.tensors[f"base_model.model.{name}"] for x in (a, b, combined))
        torch.testing.assert_close(both, (2 * one + other) / 3)
    again = combine(bert, [(a, 2.0), (b, 1.0)])
    assert again.files() == combined.files()


def test_a_single_adapter_is_scaled(bert: Base) -> None:
    adapter = made.adapter(bert, CLASSIFY, "lora", std=0.2)
    for combination_type in TYPES:
        half = combine(bert, [(adapter, 0.5)], combination_type)
        torch.testing.assert_close(delta(bert, half, QUERY), 0.5 * delta(bert, adapter, QUERY), atol=1e-6, rtol=1e-6)
        key = "base_model.model.classifier.weight"
        torch.testing.assert_close(half.tensors[key], adapter.tensors[key])


def test_svd_is_the_nearest_sum_of_its_rank(bert: Base) -> None:
    parts = [(made.adapter(bert, CLASSIFY, "lora", seed=seed, std=0.2), 0.5) for seed in (1, 2)]
    u, s, v = torch.linalg.svd(delta(bert, combine(bert, parts), QUERY))
    for rank in (1, 3):
        cut = combine(bert, parts, "svd", rank=rank)
        assert {patch.A.shape[0] for patch in cut.patches(bert).values() if isinstance(patch, LowRank)} == {rank}
        expected = u[:, :rank] * s[:rank] @ v[:rank]
        torch.testing.assert_close(delta(bert, cut, QUERY), expected, atol=1e-6, rtol=1e-6)
    whole = combine(bert, parts, "svd", rank=1000)
    assert whole.manifest["strategy"]["options"]["r"] == 16
    torch.testing.assert_close(
        delta(bert, whole, QUERY), delta(bert, combine(bert, parts), QUERY), atol=1e-6, rtol=1e-6
    )


def test_a_combination_says_what_it_is_made_of(bert: Base) -> None:
    a, b = (made.adapter(bert, CLASSIFY, "lora", seed=seed) for seed in (1, 2))
    manifest = combine(bert, [(a, 0.7), (b, -0.3)], names=["a@0123456789abcdef", "b"]).manifest
    assert manifest["merged_from"][0] == {"name": "a", "version": "0123456789abcdef", "weight": 0.7}
    assert manifest["merged_from"][1]["weight"] == -0.3
    assert len(manifest["merged_from"][1]["version"]) == 16
    assert manifest["strategy"]["name"] == "lora"
    assert manifest["strategy"]["options"] == {"r": 16, "lora_alpha": 16}
    assert manifest["base"] == a.manifest["base"]


def test_a_language_models_adapters_add_up_without_a_head(base_of: Callable[..., Base], tmp_path: Path) -> None:
    base, task = base_of("gpt2", "text-generation"), task_of("text-generation")
    parts = [(made.adapter(base, task, "lora", seed=seed), weight) for seed, weight in ((1, 1.0), (2, -1.0))]
    combined = combine(base, parts)
    assert combined.manifest["head"] == []
    check_merged(base, combined, tmp_path / "out")


def mistakes(base: Base, other: Base) -> dict[str, tuple[list[tuple[Adapter, float]], dict[str, Any], str]]:
    lora = made.adapter(base, CLASSIFY)
    swapped = made.adapter(base, task_of("text-classification", labels=("pos", "neg")))
    tokens = made.adapter(base, task_of("token-classification"))
    rank = made.adapter(base, CLASSIFY, "lora", r=2)
    full, head = (made.adapter(base, CLASSIFY, strategy) for strategy in ("full", "head-only"))
    foreign = made.adapter(other, CLASSIFY)
    bodiless = made.adapter(base, CLASSIFY)
    bodiless.manifest["head"].remove("classifier.bias")
    one = (lora, 1.0)
    return {
        "none": ([], {}, "no adapters to combine; at least one was expected"),
        "type": ([one], {"combination_type": "ties"}, "no combination type named 'ties'; known: cat, linear, svd"),
        "rank": ([one], {"combination_type": "svd", "rank": 0}, "rank=0, but a rank is at least 1"),
        "rank of cat": ([one], {"rank": 4}, "rank=4 is for combination type svd; that of cat follows"),
        "weight": ([one, (lora, float("nan"))], {}, "'adapter 2' has the weight nan, and a finite number"),
        "weights": ([one, (lora, -1.0)], {}, "the weights 1, -1 sum to 0; heads are averaged by them"),
        "base": ([one, (foreign, 1.0)], {}, "'adapter 2': the adapter was trained on base"),
        "kind": ([one, (full, 1.0)], {}, "'adapter 2' has a patch of kind 'replace' at 'embeddings"),
        "no patch": ([(head, 1.0), one], {}, "'adapter 1' changes nothing but the head"),
        "task": ([one, (tokens, 1.0)], {}, "'adapter 1' is for text-classification, but 'adapter 2' for token-cl"),
        "labels": (
            [one, (swapped, 1.0)],
            {},
            "has 2 labels: neg, pos, but 'adapter 2' 2 labels: pos, neg; the same labels",
        ),
        "head": ([one, (bodiless, 1.0)], {}, r"has the head \{'classifier.bias': \(2,\), .*, but 'adapter 2' \{"),
        "ranks": ([one, (rank, 1.0)], {"combination_type": "linear"}, "needs one rank, .* 'adapter 1' has 8, 'ad"),
    }


def test_what_does_not_add_up_is_said_in_a_line(bert: Base, base_of: Callable[..., Base]) -> None:
    before = state(bert)
    for parts, options, message in mistakes(bert, base_of("roberta")).values():
        with pytest.raises(AdapterError, match=message) as caught:
            combine(bert, parts, **options)
        assert "\n" not in str(caught.value)
    assert same(state(bert), before)
