"""The strategies of our own: what each trains, next to PEFT or to arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn

from adapterkit import AdapterkitError, Base, Plan, Registry, Watch, run
from adapterkit.discovery import strategy_class
from adapterkit.errors import AdapterError, StrategyError
from adapterkit.modules import attentions, blocks, linear_maps, lowest, norm_modules, sublayer_ends
from adapterkit.patches.bottleneck import Bottleneck
from adapterkit.patches.peft_layer import PeftLayer, config_class
from adapterkit.patches.prefix import Prefix
from adapterkit.testing import tiny
from adapterkit.training.fit import fitted
from tests.helpers import tolerance

FAMILIES = list(tiny.CONFIGS)


def inputs(base: Base) -> dict[str, torch.Tensor]:
    ids = torch.arange(5, 21).reshape(2, 8)
    return {"input_ids": ids, **({"decoder_input_ids": ids} if base.model.config.is_encoder_decoder else {})}


def said(model: Any, base: Base) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs(base)).last_hidden_state
    return found


def disturb(parameters: Any) -> None:
    """Give parameters random values, the same for the same shapes."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in parameters:
            p.copy_(torch.randn(p.shape) * 0.3)


def theirs(folder: Path, config: peft.PeftConfig) -> Any:
    """Return a base with what PEFT puts on it, at random values."""
    model = Base.load(str(folder)).model
    peft.inject_adapter_in_model(config, model)
    disturb(p for p in model.parameters() if p.requires_grad)
    return model.eval()


def ours(folder: Path, name: str, **options: Any) -> torch.Tensor:
    """Return what a base says with a strategy's patches, at the same random values."""
    base = Base.load(str(folder))
    strategy = strategy_class(name)(**options)
    with fitted(base, strategy) as fit:
        disturb(fit.trainable)
        made = strategy.patches(base.model)
        patches = {n: type(p).load(p.tensors(), p.options(), _own(base, n)) for n, p in made.items()}
    plain = Base.load(str(folder))
    for module, patch in patches.items():
        patch.attach(plain.model.get_submodule(module))
    return said(plain.model, plain)


def _own(base: Base, name: str) -> nn.Module:
    module = base.model.get_submodule(name)
    return getattr(module, "base_layer", module)


@pytest.mark.product
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_loras_patches_say_what_peft_says(
    family: str, options: dict[str, Any], tiny_folder: Callable[..., Path]
) -> None:
    folder = tiny_folder(family)
    base = Base.load(str(folder))
    names = [n for n in linear_maps(base.model) if n.startswith(tuple(blocks(base.model)))]
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=names, fan_in_fan_out=family == "gpt2", **options)
    model = theirs(folder, config)
    assert torch.equal(ours(folder, "lora", r=4, lora_alpha=8, **options), said(model, base))


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_update_that_starts_from_the_weight_starts_as_pefts(init: str, tiny_folder: Callable[..., Path]) -> None:
    folder = tiny_folder()
    model = Base.load(str(folder)).model
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query"], init_lora_weights=init)
    peft.inject_adapter_in_model(config, model)
    base = Base.load(str(folder))
    strategy = strategy_class("lora")(r=4, lora_alpha=8, target_modules=("query",), init_lora_weights=init)
    with fitted(base, strategy) as fit:
        start = [p.detach().clone() for p in fit.trainable]
        there = [p for p in model.parameters() if p.requires_grad]
        for a, b, c, d in zip(start[::2], start[1::2], there[::2], there[1::2], strict=True):
            assert a.shape == c.shape
            assert torch.allclose(b @ a, d @ c, atol=1e-5)
        patch = next(iter(strategy.patches(base.model).values()))
        assert {tuple(t.shape) for t in patch.tensors().values()} == {(8, 32), (32, 8)}


def test_loraplus_has_b_learn_faster_than_a(tiny_base: Base) -> None:
    strategy = strategy_class("lora")(loraplus_lr_ratio=16.0)
    with fitted(tiny_base, strategy) as fit:
        rates = strategy.rates(tiny_base.model)
        assert [rates.get(p, 1.0) for p in fit.trainable] == [1.0, 16.0] * (len(fit.trainable) // 2)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_ia3s_patches_say_what_peft_says(family: str, tiny_folder: Callable[..., Path]) -> None:
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as inner
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as targets

    folder = tiny_folder(family)
    more = {"target_modules": targets[family], "feedforward_modules": inner[family]}
    model = theirs(folder, peft.IA3Config(**more, fan_in_fan_out=family == "gpt2"))
    base = Base.load(str(folder))
    tolerance.assert_near(ours(folder, "ia3"), said(model, base), tolerance.of_base(base))


_PLAIN = "ADAMSS BEFT DEFT DELORA GLORA GRALORA HIRA LILY LN_TUNING LOHA LOKR OFT OSF PEANUT PSOFT SUPERTUNING"
METHODS = dict.fromkeys(_PLAIN.split(), "") | {
    "BOFT": "boft_block_size=8",
    "C3A": "block_size=16",
    "FOURIERFT": "n_frequency=50",
    "HRA": "r=4",
    "MISS": "r=4",
    "ROAD": "group_size=16",
    "SHIRA": "r=2",
    "WAVEFT": "n_frequency=50",
}


def test_every_method_of_pefts_that_can_be_chosen_is_tried() -> None:
    with pytest.raises(StrategyError) as caught:
        config_class("none")
    assert str(caught.value).endswith(": " + ", ".join(sorted(METHODS)))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_any_of_pefts_methods_trains_and_is_saved(
    method: str, small_csv: Path, tiny_folder: Callable[..., Path], registry: Registry
) -> None:
    options = {"peft_type": method, **({"peft_config": METHODS[method]} if METHODS[method] else {})}
    values = {"strategy": "peft", "base": str(tiny_folder()), "train_file": str(small_csv), "name": "any", **options}
    run(Plan.resolve({**values, "num_train_epochs": 1, "learning_rate": 1e-2}), registry)  # which compares the outputs
    manifest = registry.load("any").manifest
    assert {p["kind"] for p in manifest["patches"].values()} == {"peft"}
    assert {p["options"]["peft_type"] for p in manifest["patches"].values()} == {method}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peft_type": "LORA"}, "no PEFT type named 'LORA'"),
        ({"peft_type": "HIRO"}, "did you mean 'HIRA'"),
        ({"peft_config": ("ranks=3",)}, "peft_config=ranks=3 is not option=value of PEFT's HiraConfig"),
        ({"target_modules": ("nosuch",)}, "peft_type=HIRA: Target modules"),
    ],
)
def test_what_peft_does_not_have_is_said(options: dict[str, Any], message: str, tiny_base: Base) -> None:
    with pytest.raises(StrategyError, match=r"^[^\n]*$") as caught:
        strategy_class("peft")(**options).apply(tiny_base.model)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"peft_type": "LORA"},
        {"peft_type": "os"},
        {"peft_type": "HIRA", "auto_mapping": {"parent_library": "os"}},
        {"peft_type": "HIRA", "target_modules": ["it"]},
        {"peft_type": "HIRA", "r": [1]},
        {"peft_type": "HIRA", "r": "4"},
        {"r": 4},
    ],
)
def test_a_peft_patch_takes_nothing_but_a_methods_own_options(options: dict[str, Any]) -> None:
    with pytest.raises(AdapterError, match=r"^[^\n]*$"):
        PeftLayer.load({}, options, nn.Linear(4, 4))


def test_a_bottleneck_is_two_maps_of_the_output() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 4), torch.randn(2, 3, 6)
    patch = Bottleneck(torch.randn(5, 4), torch.randn(5), torch.randn(4, 5), torch.randn(4), "relu")
    y = linear(x)
    wanted = y + torch.relu(y @ patch.down.T + patch.down_bias) @ patch.up.T + patch.up_bias
    assert torch.allclose(patch.forward(linear, x), wanted, atol=1e-5)
    other = Bottleneck(*(torch.randn_like(t) for t in patch.tensors().values()), "relu")  # type: ignore[arg-type]
    both = Bottleneck.stack([patch, other]).forward(linear, x)
    assert torch.allclose(both[0], patch.forward(linear, x)[0], atol=1e-5)
    assert torch.allclose(both[1], other.forward(linear, x)[1], atol=1e-5)


def test_a_prefix_is_attention_to_learned_keys_and_values() -> None:
    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.query(x), None

    attention, x = Attention(), torch.randn(2, 3, 6)
    keys, values = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    found, nothing = Prefix(keys, values).forward(attention, x)
    wanted = attention(x)[0].clone()
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        shares = (x[..., part] @ keys[head].T / 3**0.5).softmax(-1)
        wanted[..., part] += shares @ values[head]
    assert nothing is None
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_found_in_every_family(family: str, tiny_folder: Callable[..., Path]) -> None:
    model = Base.load(str(tiny_folder(family))).model
    decodes, count = model.config.is_encoder_decoder, len(blocks(model))
    assert len(sublayer_ends(model)) == 2 * count  # of attention and feed-forward layer
    assert len(attentions(model)) == (9 if decodes else count)  # a decoder looks at the encoder, too
    assert len(norm_modules(model)) >= count
    assert lowest(model)


# ---- layerwise


def groups(base: Base, **options: Any) -> list[int]:
    """Return how many parameters each group that learns has, lowest first."""
    strategy = strategy_class("layerwise")(**options)
    return [sum(p.numel() for p in group) for group in strategy.groups(base.model)]


def test_layerwise_takes_any_set_of_layers(tiny_base: Base) -> None:
    block = [sum(p.numel() for p in b.parameters()) for b in blocks(tiny_base.model).values()]
    below = sum(p.numel() for p in lowest(tiny_base.model))
    assert groups(tiny_base) == block[1:]
    assert groups(tiny_base, bottom=1) == block[:1]
    assert groups(tiny_base, bottom=1, top=1) == [block[0], block[2]]
    assert groups(tiny_base, layers="0,2", embeddings=True) == [below, block[0], block[2]]
    assert groups(tiny_base, norms=True) == [64, 128, 128, 128]
    assert groups(tiny_base, norms=True, top=1) == [64, 128, 128, block[2]]


def test_gradual_unfreezing_adds_a_block_an_epoch(tiny_base: Base) -> None:
    strategy = strategy_class("layerwise")(top=3, unfreezing="gradual")
    with fitted(tiny_base, strategy):
        each = [list(b.parameters()) for b in blocks(tiny_base.model).values()]
        for epoch, wanted in ((1, each[2:]), (2, each[1:]), (3, each), (4, each)):
            learning = list(strategy.on_epoch(tiny_base.model, epoch))
            assert [id(p) for p in learning] == [id(p) for group in wanted for p in group]


def test_blocks_freeze_from_the_bottom_up_as_their_gradients_settle(tiny_base: Base) -> None:
    strategy = strategy_class("layerwise")(top=3, freezing="auto")
    each = [list(b.parameters()) for b in blocks(tiny_base.model).values()]

    def learn(norms: list[float]) -> None:
        for group, norm in zip(each, norms, strict=True):
            for p in group:
                p.grad = None
            if norm:
                group[0].grad = torch.zeros_like(group[0])
                group[0].grad.view(-1)[0] = norm
        strategy.on_step(tiny_base.model)

    def learning(epoch: int) -> list[int]:
        ids = {id(p) for p in strategy.on_epoch(tiny_base.model, epoch)}
        return [i for i, group in enumerate(each) if id(group[0]) in ids]

    with fitted(tiny_base, strategy):
        assert learning(1) == [0, 1, 2]
        learn([10.0, 10.0, 10.0])
        assert learning(2) == [0, 1, 2]  # there is nothing to compare with yet
        learn([9.9, 5.0, 1.0])  # changes by 1 %, 50 % and 90 %
        assert learning(3) == [1, 2]
        learn([0.0, 4.9, 0.9])
        assert learning(4) == [1, 2]  # a lone block below the highest has none to be compared with
        for group in each:
            for p in group:
                p.grad = None
    assert "settling" not in dict(tiny_base.model.named_buffers())


class Heard(Watch):
    """Keeps the notes on the trunk."""

    def __init__(self) -> None:
        self.trunk: list[str] = []

    def note(self, topic: str, text: str) -> None:
        if topic == "trunk":
            self.trunk.append(text.partition(" run")[0])


def test_the_trunk_follows_what_learns(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    heard = Heard()
    values = {"base": tiny_base.path, "train_file": str(small_csv), "num_train_epochs": 3, "name": "thawing"}
    plan = Plan.resolve({**values, "strategy": "layerwise", "top": 3, "unfreezing": "gradual", "learning_rate": 1e-2})
    run(plan, registry, base=tiny_base, watch=heard)
    last = "not cached: the lowest block, or a layer below it, trains"
    assert heard.trunk[-3:] == ["2 of 3 blocks", "1 of 3 blocks", last]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("layerwise", {"top": 1, "layers": "1"}, "layers='1' excludes top=1"),
        ("layerwise", {"bottom": 4}, "bottom=4, but the base has 3 blocks"),
        ("layerwise", {"unfreezing": "gradual", "freezing": "auto"}, "exclude each other"),
        ("lora", {"use_dora": True, "init_lora_weights": "pissa"}, "use_dora and init_lora_weights=pissa"),
        ("lora", {"init_lora_weights": "pissa", "r": 33}, "r=33 exceeds the rank of a weight of shape (32, 32)"),
        ("lora", {"init_lora_weights": "orthogonal", "r": 3}, "needs an even r, got 3"),
        ("lora", {"loraplus_lr_ratio": 0.0}, "loraplus_lr_ratio must be finite and > 0, got 0.0"),
        ("lora", {"target_modules": ("word_embeddings",)}, "is not a linear module"),
        ("few-shot", {"top": 4}, "top=4, but the base has 3 blocks"),
        ("few-shot", {"batch_texts": 1}, "batch_texts must be >= 2, got 1"),
        ("bottleneck", {"bottleneck_dim": 0}, "bottleneck_dim must be >= 1, got 0"),
        ("bottleneck", {"target_modules": ("nosuch",)}, "target_modules=nosuch; the base has these linear modules"),
        ("prefix", {"num_virtual_tokens": 0}, "num_virtual_tokens must be >= 1, got 0"),
        ("ia3", {"target_modules": ("nosuch",)}, "target_modules=nosuch; the base has these linear modules"),
    ],
)
def test_options_that_do_not_fit_a_base_are_said_in_a_line(
    name: str, options: dict[str, Any], message: str, tiny_base: Base
) -> None:
    with (
        pytest.raises(AdapterkitError, match=r"^[^\n]*$") as caught,
        fitted(tiny_base, strategy_class(name)(**options)),
    ):
        pass
    assert message in str(caught.value)
    assert not tiny_base.changed_tensors()


def test_the_tensors_of_a_patch_that_does_not_fit_are_refused() -> None:
    linear = nn.Linear(4, 4)
    good = Bottleneck(torch.zeros(2, 4), torch.zeros(2), torch.zeros(4, 2), torch.zeros(4), "relu")
    assert json.dumps(dict(good.options()))
    for tensors, options in (
        ({**good.tensors(), "up.bias": torch.zeros(5)}, good.options()),
        (good.tensors(), {"activation": "eval"}),
        ({"down.weight": torch.zeros(2, 4)}, good.options()),
    ):
        with pytest.raises(AdapterError):
            Bottleneck.load(tensors, options, linear)
    with pytest.raises(AdapterError, match="expected \\(heads, n, features / heads\\)"):
        Prefix.load({"keys": torch.zeros(2, 3, 3), "values": torch.zeros(2, 3, 3)}, {}, nn.Sequential(linear))
