"""Rows of adapters of every strategy and patch kind in one batch equal each adapter by itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adapterkit import Adapter, Base, Bias, LowRank, Patch, Pool, Replace, Scale, predict
from adapterkit.errors import PoolError
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import TEXTS, alone, classes
from tests.helpers.families import EVERY
from tests.helpers.pooled import mix, near


@pytest.mark.parametrize("family", EVERY)
def test_a_batch_of_all_strategies_says_what_each_says_alone(family: str, tiny_folder: Callable[..., Path]) -> None:
    base = Base.load(str(tiny_folder(family)))
    adapters = mix(base)
    wanted = {name: alone(base, adapter) for name, adapter in adapters.items()}
    rows = [(text, name) for text in range(len(TEXTS)) for name in adapters]
    random.Random(0).shuffle(rows)
    with Pool(base, adapters) as pool:
        found = pool.outputs([TEXTS[text] for text, _ in rows], adapter_of_each=[name for _, name in rows])
    for (text, name), logits in zip(rows, found, strict=True):
        near(logits, wanted[name][text], base, name)
    assert base.changed_tensors() == []


@pytest.mark.slow
def test_the_real_base(minilm: Base) -> None:
    adapters = mix(minilm)
    wanted = {name: alone(minilm, adapter) for name, adapter in adapters.items()}
    with Pool(minilm, adapters, batch_size=16) as pool:
        for name, said in wanted.items():
            found = pool.outputs(TEXTS, name)
            near(found, said, minilm, name)
        rows = [(text, name) for name in adapters for text in range(len(TEXTS))]
        found = pool.outputs([TEXTS[text] for text, _ in rows], adapter_of_each=[name for _, name in rows])
        for (text, name), logits in zip(rows, found, strict=True):
            near(logits, wanted[name][text], minilm, name)
    assert minilm.changed_tensors() == []


# ---- how often a block is run


def test_heads_share_the_whole_base(tiny_base: Base, counted: list[int]) -> None:
    adapters = {f"h{i}": made.adapter(tiny_base, classes(2 + i), "head-only", seed=i) for i in range(8)}
    with Pool(tiny_base, adapters) as pool:
        counted.clear()
        answers = pool.annotate(TEXTS[:3])
    assert counted == [3, 3, 3]  # three blocks, three texts, whoever asks
    assert list(answers) == sorted(adapters)
    expected = predict(tiny_base, adapters["h3"], TEXTS[:3])
    assert answers["h3"] == tolerance.near(expected, tolerance.of_base(tiny_base))


def test_adapters_of_the_top_share_the_trunk(tiny_base: Base, counted: list[int]) -> None:
    adapters = {f"t{i}": made.adapter(tiny_base, classes(), "layerwise", seed=i, top=1) for i in range(4)}
    adapters["h"] = made.adapter(tiny_base, classes(3), "head-only")
    adapters["l"] = made.adapter(tiny_base, classes(3), "lora")
    with Pool(tiny_base, adapters) as pool:
        counted.clear()
        pool.annotate(TEXTS[:2])
    assert counted == [4, 4, 4, 2, 2, 2, 2]  # base and LoRA rows of two texts; then two rows of each that parts


def test_a_text_that_is_asked_about_twice_is_read_once(tiny_base: Base, counted: list[int]) -> None:
    with Pool(tiny_base, {"a": made.adapter(tiny_base, classes(), "lora")}) as pool:
        counted.clear()
        first, second, third = pool.predict([TEXTS[0], TEXTS[1], TEXTS[0]], "a")
    assert counted == [2, 2, 2]
    assert first == tolerance.near(third, tolerance.of_base(tiny_base))  # in the head, another row of the batch
    assert first != tolerance.near(second, tolerance.of_base(tiny_base))


def test_embeddings_stop_at_their_layer(tiny_base: Base, counted: list[int]) -> None:
    inputs = tiny_base.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        said = tiny_base.model(**inputs, output_hidden_states=True)
    mask = inputs["attention_mask"].unsqueeze(-1)
    with Pool(tiny_base) as pool:
        for layer in range(4):
            counted.clear()
            found = pool.embed(TEXTS, layer=layer)
            assert len(counted) == layer
            hidden = said.hidden_states[layer]
            tolerance.assert_near(found, (hidden * mask).sum(1) / mask.sum(1), tolerance.of_base(tiny_base))
        first = pool.embed(TEXTS, pooling="cls")
        tolerance.assert_near(first, said.last_hidden_state[:, 0], tolerance.of_base(tiny_base))
        with pytest.raises(PoolError, match="layers 0 to 3"):
            pool.embed(TEXTS, layer=4)
        with pytest.raises(PoolError, match="no pooling named 'mena'; did you mean 'mean'"):
            pool.embed(TEXTS, pooling="mena")


# ---- kinds of patches


@dataclass(eq=False)
class Wave(Patch):
    """A stranger's patch that nothing here knows how to stack: it adds a sine of what goes in."""

    kind = "wave"
    by: torch.Tensor

    def tensors(self) -> Mapping[str, torch.Tensor]:
        return {"by": self.by}

    @classmethod
    def load(cls, tensors: Mapping[str, torch.Tensor], options: Mapping[str, Any], module: nn.Module) -> Wave:
        return cls(tensors["by"])

    def forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        out = type(module).forward(module, *args, **kwargs)
        add = torch.sin(args[0]) * self.by
        return (out[0] + add, *out[1:]) if isinstance(out, tuple) else out + add


@pytest.fixture
def wave(monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterkit.adapter import adapter
    from adapterkit.discovery import patch_class

    monkeypatch.setattr(adapter, "patch_class", lambda kind: Wave if kind == "wave" else patch_class(kind))


PATCHES: dict[str, dict[str, Callable[[], Patch]]] = {
    "block": {"encoder.layer.1": lambda: Wave(torch.randn(32))},
    "two-blocks": {"encoder.layer.0": lambda: Wave(torch.randn(32)), "encoder.layer.2": lambda: Wave(torch.randn(32))},
    "attention": {"encoder.layer.1.attention": lambda: Wave(torch.randn(32))},
    "linear": {"encoder.layer.1.attention.self.query": lambda: Wave(torch.randn(32))},
    "ia3": {
        "encoder.layer.0.attention.self.key": lambda: Scale(torch.randn(32), "outputs"),
        "encoder.layer.0.output.dense": lambda: Scale(torch.randn(48), "inputs"),
    },
    "bias": {"encoder.layer.2.attention.self.value": lambda: Bias(torch.randn(32))},
    "low-rank": {
        "encoder.layer.0.attention.self.key": lambda: LowRank(torch.randn(3, 32), torch.randn(32, 3), 0.3),
        "encoder.layer.0.output.dense": lambda: LowRank(torch.randn(3, 48), torch.randn(32, 3), 0.7),
    },
    "other-rank": {"encoder.layer.0.attention.self.key": lambda: LowRank(torch.randn(2, 32), torch.randn(32, 2), 0.1)},
    "norm": {"encoder.layer.1.output.LayerNorm": lambda: Replace({"bias": torch.randn(32)})},
    "words": {"embeddings.word_embeddings": lambda: Replace({"weight": torch.randn(300, 32)})},
    "pooler": {"pooler.dense": lambda: Replace({"bias": torch.randn(32)})},
}


@pytest.mark.slow
@pytest.mark.usefixtures("wave")
def test_patches_of_every_kind_share_a_batch(tiny_base: Base) -> None:
    task = classes(3)
    adapters = {}
    for name, patches in PATCHES.items():
        for i in range(3):
            head = made.adapter(tiny_base, task, "head-only", seed=len(adapters))
            torch.manual_seed(len(adapters))
            adapters[f"{name}-{i}"] = Adapter.make(
                tiny_base,
                tiny_base.task_model(task.auto_class, **task.config()),
                {module: patch() for module, patch in patches.items()},
                {name.removeprefix("base_model.model."): t for name, t in head.tensors.items()},
                {key: head.manifest[key] for key in ("task", "strategy", "untied", "metrics")},
            )
    rows = [(text, name) for name in adapters for text in range(len(TEXTS))]
    random.Random(0).shuffle(rows)
    wanted = {name: alone(tiny_base, adapter) for name, adapter in adapters.items()}
    for batch_size in (256, 7):
        with Pool(tiny_base, adapters, batch_size=batch_size) as pool:
            found = pool.outputs([TEXTS[text] for text, _ in rows], adapter_of_each=[name for _, name in rows])
        for (text, name), logits in zip(rows, found, strict=True):
            near(logits, wanted[name][text], tiny_base, name)
    assert len({tuple(w.ravel()) for w in wanted.values()}) == len(wanted)  # no two say the same


def test_what_is_no_number_stays_with_its_own_adapter(tiny_base: Base) -> None:
    adapters = {f"{s}{i}": made.adapter(tiny_base, classes(), s, seed=i) for s in ("lora", "full") for i in range(4)}
    wanted = {name: alone(tiny_base, adapter) for name, adapter in adapters.items()}
    for name in ("lora1", "full2"):
        for tensor in adapters[name].tensors.values():
            tensor.fill_(float("nan"))
    rows = [(text, name) for text in range(len(TEXTS)) for name in adapters]
    with Pool(tiny_base, adapters) as pool:
        found = pool.outputs([TEXTS[text] for text, _ in rows], adapter_of_each=[name for _, name in rows])
    for (text, name), logits in zip(rows, found, strict=True):
        if name in ("lora1", "full2"):
            assert np.isnan(logits).all()
        else:
            near(logits, wanted[name][text], tiny_base, name)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_bf16_is_near_and_leaves_the_base_alone(family: str, tiny_folder: Callable[..., Path]) -> None:
    base = Base.load(str(tiny_folder(family)))
    adapters = mix(base)
    with Pool(base, adapters, dtype=torch.bfloat16) as pool, Pool(base, adapters) as exact:
        for name in adapters:
            near, wanted = np.stack(pool.outputs(TEXTS, name)), np.stack(exact.outputs(TEXTS, name))
            assert np.abs(near - wanted).max() < 0.1 * np.abs(wanted).max() + 0.02
        together = pool.outputs([t for t in TEXTS for _ in adapters], adapter_of_each=[*adapters] * len(TEXTS))
        apart = [pool.outputs([t], name)[0] for t in TEXTS for name in adapters]
        for a, b in zip(together, apart, strict=True):
            np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05)
    assert base.changed_tensors() == []
    assert next(base.model.parameters()).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(tiny_base: Base) -> None:
    adapters = mix(tiny_base)
    wanted = {name: alone(tiny_base, adapter) for name, adapter in adapters.items()}
    with Pool(tiny_base, adapters, device="cuda") as pool:
        for name, said in wanted.items():
            tolerance.assert_near(pool.outputs(TEXTS, name), said, tolerance.of_base(tiny_base))


# ---- what people try


@pytest.mark.parametrize("count", [1, 2, len(TEXTS)])  # few rows for each adapter are stacked, many are not
def test_adapters_of_equal_rank_and_other_scales_share_a_batch(count: int, tiny_base: Base) -> None:
    adapters = {
        f"alpha{alpha}": made.adapter(tiny_base, classes(), "lora", r=4, lora_alpha=alpha, std=0.2)
        for alpha in (4, 16, 64)
    }
    expected = {name: alone(tiny_base, adapter)[:count] for name, adapter in adapters.items()}
    assert not tolerance.is_near(expected["alpha4"], expected["alpha64"], 0.01)  # tensors are equal, scales are not
    with Pool(tiny_base, adapters) as pool:
        names = [name for _ in range(count) for name in adapters]
        together = pool.outputs([text for text in TEXTS[:count] for _ in adapters], adapter_of_each=names)
    for i, name in enumerate(adapters):
        near(np.stack(together[i :: len(adapters)]), expected[name], tiny_base, name)
