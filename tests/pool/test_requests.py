"""Rows and adapter names in every form, and the errors about them."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from adapterkit import AdapterkitError, Base, Pool, predict
from adapterkit.errors import DataError, PoolError
from adapterkit.pool.expansion import Expansion
from adapterkit.tasks import task_class
from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, classes
from tests.helpers.pooled import near, same

# ---- threads


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
                assert expansion.items[steps[-1].from_first[place]] == entry[0]


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
            ([{"text": None}], "row 1: text is empty"),
            (["x", " "], "row 2: text is empty"),
            (["x", {"text": "y"}], "a text among rows"),
            ([3], "row 1: a text or a dict was expected, got int '3'"),
        ):
            for ask in (pool.predict, lambda rows, name: predict(tiny_base, adapters[name], rows)):
                with pytest.raises(AdapterkitError, match=said):
                    ask(rows, "a")
        with pytest.raises(AdapterkitError, match="row 1: text is empty"):  # as in a file
            pool.predict(["", "so so"], adapter_of_each=["w", "a"])
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
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"batch_size": "8"}, "batch_size must be an integer >= 1, got '8'"),
        ({"max_bytes": "1GB"}, "max_bytes must be an integer >= 1, got '1GB'"),
        ({"device": "zzz"}, "^no device named 'zzz'; available: cpu"),
        ({"device": "meta"}, "^no device named 'meta'; available: cpu"),
        ({"device": f"cuda:{torch.cuda.device_count()}"}, "^no device named 'cuda:"),
        (
            {"dtype": "bfloat61"},
            "^no dtype named 'bfloat61'; did you mean 'bfloat16'. a pool computes in: bfloat16",
        ),
        (
            {"dtype": torch.int16},
            "^no dtype named 'int16'; did you mean .*a pool computes in: bfloat16, float16, "
            "float16-weights, float32, float64, int8$",
        ),
    ):
        with pytest.raises(PoolError, match=said):
            Pool(tiny_base, **options)
    for source in (5, []):
        with pytest.raises(PoolError, match=r"a pool is opened on a registry\.json, a Registry or a base, got"):
            Pool(source)  # type: ignore[arg-type]
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
            ({"adapters": []}, "adapters must be one or more names"),
            ({"adapters": ["a", None]}, "adapters must be one or more names"),
            ({"adapters": 5}, "names of adapters were expected, got int 5"),
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
