"""The pool: rows of many adapters in one batch say what each adapter says by itself."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from adapterkit import Adapter, AdapterkitError, Base, Bias, LowRank, Patch, Pool, Registry, Replace, Scale, predict
from adapterkit.discovery import strategy_class
from adapterkit.errors import DataError, PoolError
from adapterkit.evaluation.evaluate import _prompts
from adapterkit.evaluation.outputs import outputs
from adapterkit.pool.adapter_cache import AdapterCache
from adapterkit.pool.expansion import Expansion
from adapterkit.tasks import Task, task_class
from adapterkit.testing import tiny
from adapterkit.training.fit import fitted
from tests import made, tolerance

TEXTS = ["a fine film", "i want my money back now please", "great", "rude staff and awful food, never again", "so so"]
TINY = tolerance.relative(48, 3 * tolerance.PRODUCTS)  # of the tiny bases, as `of_base` has it
STRATEGIES: list[tuple[str, dict[str, Any]]] = [
    ("lora", {}),
    ("lora", {"r": 4}),
    ("head-only", {}),
    ("full", {}),
    ("layerwise", {"top": 1}),
    ("layerwise", {"layers": "0,2"}),
    ("lora", {}),
]


def classes(count: int = 2, kind: str = "single_label_classification") -> Task:
    labels = tuple(f"l{i}" for i in range(count))
    return task_class("text-classification")(
        text_column_name=("text",), label_column_name="label", labels=labels, problem_type=kind
    )


def alone(base: Base, adapter: Adapter, texts: list[str] = TEXTS) -> np.ndarray:
    """Return what the adapter says on a transformers model of its own, text by text, (texts, labels)."""
    task = adapter.task
    with adapter.attached(base) as model:
        return np.stack(outputs(task, model, _prompts(task, task.rows(texts), base), base, batch_size=1))


def near(logits: Any, expected: Any, base: Base, name: str = "") -> None:
    """Check logits of one computation against those of another, which adds up in another order."""
    tolerance.assert_near(logits, expected, tolerance.of_base(base), name)


def mix(base: Base) -> dict[str, Adapter]:
    return {
        f"{name}-{i}": made.adapter(base, classes(2 + i % 3), name, seed=i, **options)
        for i, (name, options) in enumerate(STRATEGIES)
    }


@pytest.mark.parametrize("family", tiny.CONFIGS)
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
    assert base.altered() == []


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
    assert minilm.altered() == []


# ---- how often a block is run


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that each call of a BERT block sees."""
    from transformers.models.bert.modeling_bert import BertLayer

    seen: list[int] = []
    forward = BertLayer.forward

    def counting(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(hidden_states))
        return forward(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(BertLayer, "forward", counting)
    return seen


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
            torch.testing.assert_close(found, (hidden * mask).sum(1) / mask.sum(1), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(pool.embed(TEXTS, pooling="cls"), said.last_hidden_state[:, 0], rtol=1e-5, atol=1e-5)
        with pytest.raises(PoolError, match="layers 0 to 3"):
            pool.embed(TEXTS, layer=4)
        with pytest.raises(PoolError, match="no pooling named 'mena'; did you mean 'mean'"):
            pool.embed(TEXTS, pooling="mena")


# ---- tasks of every kind


def kinds() -> dict[str, tuple[Task, list[str]]]:
    """Return a task of every kind that needs no decoder, with texts for it."""
    contexts = [" ".join([*TEXTS * n, "the answer is here", *TEXTS]) for n in (1, 3)]
    return {
        "classes": (classes(4), TEXTS),
        "several": (classes(3, "multi_label_classification"), TEXTS),
        "number": (classes(1, "regression"), TEXTS),
        "pair": (
            task_class("text-classification")(
                text_column_name=("premise", "hypothesis"),
                label_column_name="label",
                labels=("no", "yes"),
                problem_type="single_label_classification",
            ),
            [f"{a}\t{b}" for a, b in itertools.pairwise(TEXTS)],
        ),
        "entities": (
            task_class("token-classification")(
                text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-a", "I-a")
            ),
            TEXTS,
        ),
        "questions": (
            task_class("question-answering")(
                question_column_name="q", context_column_name="c", answer_column_name="a", max_seq_length=48
            ),
            [f"what is it?\t{context}" for context in contexts],
        ),
        "choices": (
            task_class("multiple-choice")(
                context_column_name="c", endings_column_name=("e",), label_column_name="label"
            ),
            ["a film\tfine\tdull", "the staff\twere rude\tcame again"],
        ),
        "masks": (
            task_class("fill-mask")(text_column_name=("text",)),
            [f"a {tiny.SPECIAL[tiny.MASK]} film", f"i want my {tiny.SPECIAL[tiny.MASK]} back"],
        ),
    }


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert"])
def test_tasks_of_every_kind_share_a_batch(family: str, tmp_path: Path) -> None:
    base = Base.load(str(tiny.make(family, tmp_path / "base", head="AutoModelForMaskedLM")))
    adapters, rows = {}, []
    for name, (task, texts) in kinds().items():
        for strategy in ("lora", "head-only", "full"):
            if not has_head(base, task):
                continue
            adapters[f"{name}-{strategy}"] = made.adapter(base, task, strategy, seed=len(adapters))
            rows += [(text, f"{name}-{strategy}") for text in texts]
    random.Random(0).shuffle(rows)
    assert len(adapters) > 15
    with Pool(base, adapters, batch_size=8) as pool:
        found = pool.predict([text for text, _ in rows], adapter_of_each=[name for _, name in rows])
    for name, adapter in adapters.items():
        mine = [i for i, (_, one) in enumerate(rows) if one == name]
        same(predict(base, adapter, [rows[i][0] for i in mine]), [found[i] for i in mine])


def has_head(base: Base, task: Task) -> bool:
    try:
        getattr(transformers, task.auto_class).from_config(base.model.config)
    except ValueError:
        return False
    return True


def same(a: Any, b: Any) -> None:
    """Check that two nests of answers are alike, numbers nearly."""
    if isinstance(a, Mapping):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)
    else:
        assert a == b


# ---- generation


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_an_adapter_for_each_row(family: str, beams: int, tmp_path: Path) -> None:
    seq2seq = family in ("t5", "bart")
    name = "text2text-generation" if seq2seq else "text-generation"
    base = Base.load(str(tiny.make(family, tmp_path / "base", head=tiny.HEADS[name])))
    task = (
        task_class(name)(source_column_name="s", target_column_name="t", max_target_length=8)
        if seq2seq
        else task_class(name)(text_column_name=("text",), max_new_tokens=8)
    )
    adapters = {
        f"{strategy}-{i}": made.adapter(base, task, strategy, seed=i, std=0.3, **options)
        for i, (strategy, options) in enumerate(STRATEGIES)
    }
    rows = [(text, name) for name in adapters for text in TEXTS]
    random.Random(0).shuffle(rows)
    with Pool(base, adapters, batch_size=12) as pool:
        found = pool.generate([text for text, _ in rows], adapter_of_each=[name for _, name in rows], num_beams=beams)
        assert pool.generate(TEXTS[0], "lora-0", num_beams=beams) == found[rows.index((TEXTS[0], "lora-0"))]
        for name, adapter in adapters.items():
            mine = [i for i, (_, one) in enumerate(rows) if one == name]
            wanted = beam_search(base, adapter, [rows[i][0] for i in mine], beams)
            assert wanted == [found[i] for i in mine], name
    assert len(set(found)) > len(TEXTS)  # adapters differ
    assert base.altered() == []


def beam_search(base: Base, adapter: Adapter, texts: list[str], beams: int) -> list[str]:
    task = adapter.task
    prompts = task.prompts(task.rows(texts), base.tokenizer)
    with adapter.attached(base) as model, torch.inference_mode():
        collate = task.collate(base.tokenizer, model)
        found = []
        for i in range(len(texts)):
            batch = collate([{key: values[i] for key, values in prompts.items()}])
            found += task.generate(model, batch, base.tokenizer, num_beams=beams)
    return found


def test_generate_is_for_adapters_that_generate(tiny_base: Base) -> None:
    with (
        Pool(tiny_base, {"a": made.adapter(tiny_base, classes())}) as pool,
        pytest.raises(PoolError, match="'a' is for text-classification, which generates no text; use predict"),
    ):
        pool.generate("a text", "a")


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
    assert base.altered() == []
    assert next(base.model.parameters()).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(tiny_base: Base) -> None:
    adapters = mix(tiny_base)
    wanted = {name: alone(tiny_base, adapter) for name, adapter in adapters.items()}
    with Pool(tiny_base, adapters, device="cuda") as pool:
        for name, said in wanted.items():
            np.testing.assert_allclose(pool.outputs(TEXTS, name), said, atol=1e-4)


# ---- adapters that come and go


@pytest.fixture
def stocked(tiny_base: Base, registry: Registry) -> Iterator[tuple[Base, Registry, dict[str, Adapter]]]:
    adapters = {f"a{i}": made.adapter(tiny_base, classes(2 + i % 3), "lora", seed=i) for i in range(8)}
    for name, adapter in adapters.items():
        add(registry, name, adapter)
    yield tiny_base, registry, adapters
    assert tiny_base.altered() == []


def add(registry: Registry, name: str, adapter: Adapter) -> str:
    own = adapter.manifest["base"]
    entry = {"task": adapter.task.name, "strategy": "lora", "bytes": 1, "metrics": {}}
    return registry.add(name, adapter.files(), {**entry, "base": {k: own[k] for k in ("name", "fingerprint")}})


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


# ---- threads


def hammer(pool: Pool, wanted: dict[str, np.ndarray], seconds: float, threads: int = 8) -> list[str]:
    """Have threads ask, load, unload and pin for some seconds; return what went wrong."""
    wrong: list[str] = []
    names = list(wanted)
    until = time.monotonic() + seconds
    asked = [0]

    def work(seed: int) -> None:
        dice = random.Random(seed)
        try:
            while time.monotonic() < until and not wrong:
                rows = [(dice.randrange(len(TEXTS)), dice.choice(names)) for _ in range(dice.randint(1, 12))]
                found = pool.outputs([TEXTS[text] for text, _ in rows], adapter_of_each=[name for _, name in rows])
                for (text, name), logits in zip(rows, found, strict=True):
                    if not tolerance.is_near(logits, wanted[name][text], TINY):
                        wrong.append(f"{name}: {logits} for {wanted[name][text]}")
                match dice.randrange(4):
                    case 0:
                        pool.unload(dice.choice(names))
                    case 1:
                        pool.load(dice.choice(names))
                asked[0] += 1
        except Exception as error:
            wrong.append(repr(error))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert asked[0] > threads
    return wrong


@pytest.mark.slow
def test_threads_share_a_pool(tiny_base: Base, registry: Registry) -> None:
    adapters = mix(tiny_base)
    for name, adapter in adapters.items():
        add(registry, name, adapter)
    wanted = {name: alone(tiny_base, adapter) for name, adapter in adapters.items()}
    largest = max(sum(t.nbytes for t in a.tensors.values()) for a in adapters.values())
    with Pool(tiny_base, registry=registry, max_bytes=int(1.3 * largest)) as pool:
        assert hammer(pool, wanted, seconds=8) == []
        assert pool.stats().evictions > 0
    assert tiny_base.altered() == []


def test_pools_open_and_close_while_others_train_and_predict(tiny_base: Base) -> None:
    """No pool opens on tensors that a training changes, and no training begins while a pool is open."""
    adapter = made.adapter(tiny_base, classes(), "lora")
    wanted, wrong, trained = alone(tiny_base, adapter), list[str](), [0]
    until, training = time.monotonic() + 4, threading.Event()

    def serve() -> None:
        with Pool(tiny_base, {"a": adapter}) as pool:
            for _ in range(2):
                if training.is_set():
                    wrong.append("a training runs while a pool is open")
                if not tolerance.is_near(pool.outputs(TEXTS, "a"), wanted, TINY):
                    wrong.append("a pool answers from tensors that are being trained")

    def train() -> None:
        try:
            with tiny_base.held(), fitted(tiny_base, strategy_class("full")()) as fit:
                training.set()
                with torch.no_grad():
                    for p in fit.learning:
                        p.add_(1.0)
                time.sleep(0.01)
                trained[0] += 1
                training.clear()
        except AdapterkitError as error:
            if "an open pool answers from base" not in str(error):
                raise

    def attach() -> None:
        if not tolerance.is_near(alone(tiny_base, adapter), wanted, TINY):
            wrong.append("an attached adapter runs on tensors that are being trained")

    def repeat(work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < until and not wrong:
                work()
        except Exception as error:
            wrong.append(repr(error))

    workers = [threading.Thread(target=repeat, args=(work,)) for work in (serve, serve, serve, train, train, attach)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert tiny_base.serving == 0
    with tiny_base.held(), fitted(tiny_base, strategy_class("full")()):  # the last pool gave the base back
        pass
    assert tiny_base.altered() == []


def test_a_pool_on_a_base_with_added_tokens_keeps_its_parent_from_training(tiny_base: Base) -> None:
    wider = tiny_base.with_tokens(["<meh>"])
    for one, other in ((wider, tiny_base), (tiny_base, wider)):
        with (
            Pool(one),
            pytest.raises(AdapterkitError, match="an open pool answers from base"),
            other.held(),
            fitted(other, strategy_class("full")()),
        ):
            pass


def test_rows_keep_the_order_of_their_texts(tiny_base: Base) -> None:
    """Where a step has as many rows as the first one, they are the same rows: what `Expansion` relies on."""
    adapters = [made.adapter(tiny_base, classes(), "layerwise", seed=i, layers=str(i % 3)) for i in range(5)]
    with Pool(tiny_base, {str(i): a for i, a in enumerate(adapters)}) as pool:
        loaded: list[Any] = [None, *(pool._cache.get([str(i)])[0] for i in range(5))]
        dice = random.Random(0)
        for _ in range(200):
            entries = [(dice.randrange(4), dice.choice(loaded)) for _ in range(dice.randint(1, 8))]
            expansion = Expansion(entries, pool._routed.trace, torch.device("cpu"))
            steps = list(expansion.steps.values())
            for before, step in itertools.pairwise(steps):
                assert len(step.rows) >= len(before.rows)
                if len(step.rows) == len(steps[0].rows):
                    assert step.from_first.tolist() == list(range(len(step.rows)))
            places = list(steps[-1].place)
            for entry, place in expansion.place.items():
                assert places[place] == entry
                assert expansion.texts[steps[-1].from_first[place]] == entry[0]


def test_transformers_own_model_is_what_is_compared_with(tiny_base: Base) -> None:
    """A full adapter in the pool equals a transformers model that was never ours, weights copied in by name."""
    adapter = made.adapter(tiny_base, classes(3), "full")
    config = transformers.AutoConfig.from_pretrained(tiny_base.path, num_labels=3)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    state = {f"bert.{name}": p for name, p in tiny_base.model.named_parameters()}
    state |= {name.removeprefix("base_model.model."): t for name, t in adapter.tensors.items()}
    model.load_state_dict(state, strict=False)
    inputs = tiny_base.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**inputs).logits.numpy()
    with Pool(tiny_base, {"a": adapter, "b": made.adapter(tiny_base, classes(2), "lora")}) as pool:
        found = pool.outputs([*TEXTS, *TEXTS], adapter_of_each=[*["a"] * 5, *["b"] * 5])[:5]
    near(found, wanted, tiny_base)


# ---- what people try


def test_closing_waits_for_what_is_being_answered(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, classes(), "lora")
    texts = [f"a fine film {i}" for i in range(400)]
    wanted = predict(tiny_base, adapter, texts)
    pool = Pool(tiny_base, {"a": adapter}, batch_size=4)
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.extend(pool.predict(texts, "a")))
    asking.start()
    while not pool._requests and asking.is_alive():
        pass
    pool.close()
    assert tiny_base.serving == 1 or not asking.is_alive()  # still read from: no training yet
    asking.join()
    assert tiny_base.serving == 0
    same(found, wanted)


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


def test_rows_that_lack_something_are_named(tiny_base: Base, tmp_path: Path) -> None:
    words = task_class("token-classification")(
        text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-a")
    )
    choices = task_class("multiple-choice")(
        context_column_name="c", endings_column_name=("e",), label_column_name="label"
    )
    adapters = {
        "a": made.adapter(tiny_base, classes()),
        "w": made.adapter(tiny_base, words),
        "c": made.adapter(tiny_base, choices),
    }
    with Pool(tiny_base, adapters) as pool:
        for rows, said in (
            ([{"text": "x"}, {"other": "y"}], "row 2 has no 'text'; it has other"),
            ([{"other": "y"}, {"text": "x"}], "row 1 has no 'text'; it has other"),
            ([{"text": None}], "row 1 has no 'text'; it has text"),
            (["x", {"text": "y"}], "a text among rows"),
            ([3], "row 1: a text or a dict was expected, got int '3'"),
        ):
            for ask in (pool.predict, lambda rows, name: predict(tiny_base, adapters[name], rows)):
                with pytest.raises(AdapterkitError, match=said):
                    ask(rows, "a")
        assert pool.predict(["", "so so"], adapter_of_each=["w", "a"])[0] == {"entities": []}
        uneven = ["a film\tfine\tdull", "staff\trude\tkind\tabsent\thelpful"]
        same(pool.predict(uneven, "c"), predict(tiny_base, adapters["c"], uneven))
        same(pool.predict(uneven[1], "c"), predict(tiny_base, adapters["c"], uneven)[1])
    for wrong, said in (
        (adapters["a"], "a dict by name, or a list of folders, got Adapter"),
        ([adapters["a"]], "'None' must be an Adapter by name, or a folder, got Adapter"),
        ({"a": None}, "'a' must be an Adapter by name, or a folder, got NoneType"),
        ([tmp_path / "x" / "a", tmp_path / "y" / "a"], "two adapters are named 'a'"),
    ):
        with pytest.raises(PoolError, match=said):
            Pool(tiny_base, wrong)  # type: ignore[arg-type]
    for options, said in (
        ({"batch_size": 0}, "must be >= 1, got batch_size=0"),
        ({"device": "zzz"}, "^no device named 'zzz'; available: cpu"),
        ({"device": "meta"}, "^no device named 'meta'; available: cpu"),
        ({"device": f"cuda:{torch.cuda.device_count()}"}, "^no device named 'cuda:"),
        (
            {"dtype": "bfloat61"},
            "^no dtype named 'bfloat61'; did you mean 'bfloat16'. a pool computes in: bfloat16",
        ),
        ({"dtype": torch.int8}, "^no dtype named 'int8'; a pool computes in: bfloat16, float16, float32, float64$"),
    ):
        with pytest.raises(PoolError, match=said):
            Pool(tiny_base, **options)
    assert tiny_base.serving == 0


def test_adapters_are_named_in_one_of_three_ways(tiny_base: Base) -> None:
    adapters = {"a": made.adapter(tiny_base, classes(2)), "b": made.adapter(tiny_base, classes(3), seed=1)}
    wanted = {name: predict(tiny_base, adapter, TEXTS) for name, adapter in adapters.items()}
    with Pool(tiny_base, adapters) as pool:
        same(pool.predict(TEXTS, adapter="b"), wanted["b"])
        both = pool.predict(TEXTS, adapters=["b", "a"])
        same(both, [{"b": b, "a": a} for a, b in zip(wanted["a"], wanted["b"], strict=True)])
        same(pool.predict(TEXTS[0], adapters=["a", "b"]), {name: wanted[name][0] for name in ("a", "b")})
        same(pool.predict(TEXTS[:2], adapter_of_each=["b", "a"]), [wanted["b"][0], wanted["a"][1]])
        assert [len(logits) for logits in pool.outputs(TEXTS[0], adapters=["a", "b"]).values()] == [2, 3]
        for names, message in (
            ({"adapter": ["a", "b"]}, "adapter must be one name, got list; adapters= answers each text with each"),
            ({"adapter": "a", "adapters": ["b"]}, "adapter, adapters and adapter_of_each exclude each other"),
            ({"adapters": []}, "adapters must have at least one name"),
            ({"adapter_of_each": "a"}, "a name for each of 5 texts, got 1"),
            ({}, "which adapter"),
        ):
            with pytest.raises(PoolError, match=message):
                pool.predict(TEXTS, **names)


@pytest.mark.parametrize("call", ["predict", "outputs"])
def test_rows_come_as_a_text_a_dict_or_any_collection_of_them(call: str, tiny_base: Base) -> None:
    import datasets
    import pandas as pd

    with Pool(tiny_base, {"a": made.adapter(tiny_base, classes(2))}) as pool:
        ask = getattr(pool, call)
        rows = [{"text": text} for text in TEXTS]
        wanted = [ask(text, "a") for text in TEXTS]
        collections = [TEXTS, tuple(TEXTS), iter(TEXTS), rows, pd.DataFrame(rows), datasets.Dataset.from_list(rows)]
        for collection in collections:
            for one, other in zip(ask(collection, "a"), wanted, strict=True):
                if call == "predict":
                    same(one, other)
                else:
                    near(one, other, tiny_base)
        for wrong, kind in ((3, "int"), (None, "None"), (b"text", "bytes"), (Path("a.csv"), "path")):
            with pytest.raises(DataError, match=f"expected, got .*{kind}"):
                ask(wrong, "a")


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


def test_options_of_generation_are_checked(tmp_path: Path) -> None:
    base = Base.load(str(tiny.make("gpt2", tmp_path / "base", head="AutoModelForCausalLM")))
    task = task_class("text-generation")(text_column_name=("text",), max_new_tokens=8)
    with Pool(base, {"a": made.adapter(base, task)}) as pool:
        for options, said in (
            ({"num_beam": 2}, "no option of generate named 'num_beam'; did you mean 'num_beams'"),
            ({"num_beams": 0}, "num_beams must be an integer >= 1, got 0"),
            ({"num_return_sequences": 2}, "one text for each row"),
            ({"max_length": 5}, "use max_new_tokens"),
            ({"temperature": "hot", "do_sample": True}, "can't generate with temperature='hot'"),
        ):
            with pytest.raises(PoolError, match=said):
                pool.generate(TEXTS, "a", **options)
        assert len(pool.generate(TEXTS, "a", eos_token_id=[tiny.EOS, 7], bad_words_ids=[[9]])) == len(TEXTS)
        with pytest.raises(AdapterkitError, match=r"\d+ tokens and 8 new ones exceeds the 64"):
            pool.generate(" ".join(TEXTS * 4), "a")
        with pytest.raises(PoolError, match="generates texts; use generate"):
            pool.outputs(TEXTS, "a")
    with pytest.raises(DataError, match=r"\d+ tokens and 8 new ones exceeds the 64"):
        predict(base, made.adapter(base, task), [" ".join(TEXTS * 4)])


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


def test_each_adapter_names_as_many_masked_words_as_its_task_does(tiny_base: Base) -> None:
    fill = task_class("fill-mask")
    few, more = (made.adapter(tiny_base, fill(text_column_name=("text",), top_k=k), "lora", seed=k) for k in (2, 4))
    text = f"a {tiny_base.tokenizer.mask_token} text"
    with Pool(tiny_base, {"few": few, "more": more}) as pool:
        answers = pool.predict([text] * 3, adapter_of_each=["few", "more", "few"])
    assert [len(answer["words"]) for answer in answers] == [2, 4, 2]
    assert [a["word"] for a in answers[1]["words"]] == [a["word"] for a in predict(tiny_base, more, text)["words"]]


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
