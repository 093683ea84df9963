"""Rows are prepared apart from their answers, and a row that fails doesn't fail the others of its batch."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import transformers

from adapterkit import Base, Pool, Registry
from adapterkit.errors import AdapterkitError, DataError, PoolError
from adapterkit.pool import adapter_cache
from adapterkit.pool.prepared import Prepared
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import TEXTS, classes
from tests.helpers.pooled import add, mix, same


def test_prepared_rows_of_all_adapters_have_the_answers_of_predict(tiny_base: Base) -> None:
    adapters = mix(tiny_base)
    pairs = [(text, name) for text in TEXTS for name in adapters]
    with Pool(tiny_base, adapters) as pool:
        prepared = pool.prepare_each(pairs)
        assert all(isinstance(p, Prepared) and p.tokens == len(p.items[0][0][0]) for p in prepared)
        expected = pool.predict([text for text, _ in pairs], adapter_of_each=[name for _, name in pairs])
        same(pool.answer(prepared), expected)  # type: ignore[arg-type]


def test_a_bad_row_fails_alone(tiny_base: Base) -> None:
    pair = classes(2)
    pair = type(pair)(**{**pair.recorded(), "text_column_name": ("a", "b"), "labels": pair.labels})
    adapters = {"one": made.adapter(tiny_base, classes(2), "lora"), "pair": made.adapter(tiny_base, pair, "head-only")}
    rows: list[tuple[Any, str]] = [
        ("fine", "one"),
        ("fine", "onee"),
        ({"texts": "a"}, "one"),
        (["a"], "one"),
        ("", "one"),
        ("half \ud83d of a pair", "one"),
        ("no tab", "pair"),
        ({"text": "fine"}, "one"),
    ]
    with Pool(tiny_base, adapters) as pool:
        prepared = pool.prepare_each(rows)
        errors = [str(p) if isinstance(p, AdapterkitError) else "" for p in prepared]
        expected = [
            "",
            "no adapter named 'onee'; did you mean 'one'?",
            "has no 'text'; it has texts",
            "were expected, not list",
            "text is empty",
            "half of a surrogate pair",
            "separated by a tab",
            "",
        ]
        for error, part in zip(errors, expected, strict=True):
            assert part in error
            assert bool(part) == bool(error)
        good = [p for p in prepared if isinstance(p, Prepared)]
        answers = pool.answer(good)
        assert answers[0]["label"] == pool.predict("fine", "one")["label"]
        with pytest.raises(DataError, match="text is empty"):
            pool.prepare(" ", "one")
        with pytest.raises(PoolError, match="no option of text-classification named 'topk'"):
            pool.prepare("a", "one", topk=1)


def test_a_row_that_fails_in_the_pass_has_its_error_in_its_place(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pool(tiny_base, mix(tiny_base)) as pool:
        prepared = [pool.prepare(text, "lora-0") for text in TEXTS]
        task = type(prepared[0].task)
        answers = task.answers

        def failing(self: Any, predictions: Any, data: Any, tokenizer: Any) -> Any:
            if data["text"][0] == TEXTS[2]:
                raise ValueError("of this row")
            return answers(self, predictions, data, tokenizer)

        monkeypatch.setattr(task, "answers", failing)
        results = pool.answer(prepared)
        assert [isinstance(r, ValueError) for r in results] == [text == TEXTS[2] for text in TEXTS]


def test_of_a_text_far_beyond_what_a_task_reads_the_first_tokens_are_read(tiny_base: Base) -> None:
    text = "a fine film " * 80_000
    with Pool(tiny_base, {"a": made.adapter(tiny_base, classes(2), "lora")}) as pool:
        ids = list(pool.prepare(text, "a").items[0][0][0])
    assert ids == tiny_base.tokenizer(text, truncation=True, max_length=128)["input_ids"]


def test_all_scores_are_those_of_transformers_pipelines(minilm: Base) -> None:
    adapter = made.adapter(minilm, classes(4), "lora")
    with Pool(minilm, {"a": adapter}) as pool:
        scores = pool.predict(TEXTS, "a", all_scores=True)
        best = pool.predict(TEXTS, "a")
    assert [row[0] for row in scores] == best
    with adapter.attached(minilm) as model:
        pipeline = transformers.pipeline("text-classification", model=model, tokenizer=minilm.tokenizer, top_k=None)
        expected = pipeline(TEXTS)
    for row, wanted in zip(scores, expected, strict=True):
        assert [candidate["label"] for candidate in row] == [candidate["label"] for candidate in wanted]
        assert [c["score"] for c in row] == pytest.approx([c["score"] for c in wanted], abs=tolerance.of_base(minilm))
        assert sum(c["score"] for c in row) == pytest.approx(1)


def test_a_cold_adapter_delays_no_other(tiny_base: Base, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one adapter is read, rows of loaded ones are prepared and answered, and other cold ones are read."""
    for i, name in enumerate(("slow", "warm", "cold")):
        add(registry, name, made.adapter(tiny_base, classes(2), "lora", seed=i))
    reading, proceed = threading.Event(), threading.Event()
    load = adapter_cache.LoadedAdapter

    def loaded(name: str, *args: Any) -> Any:
        if name == "slow":
            reading.set()
            assert proceed.wait(30)
        return load(name, *args)

    with Pool(tiny_base, registry=registry) as pool:
        pool.load("warm")
        monkeypatch.setattr(adapter_cache, "LoadedAdapter", loaded)
        thread = threading.Thread(target=pool.load, args=("slow",))
        thread.start()
        assert reading.wait(30)
        assert pool.is_loaded("warm")
        assert not pool.is_loaded("slow")
        assert pool.answer([pool.prepare("a", "warm"), pool.prepare("a", "cold")])[0]["label"]
        assert thread.is_alive()
        proceed.set()
        thread.join(30)
        assert pool.is_loaded("slow")
        assert pool.stats().misses == 3


def test_names_are_listed_without_parsing_their_entries(
    tiny_base: Base, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry, "a", made.adapter(tiny_base, classes(2), "lora"))
    with Pool(tiny_base, registry=registry) as pool:
        monkeypatch.setattr("adapterkit.store.index.Index.__getitem__", None)
        assert pool.names() == ["a"]
