"""Fill-mask: what predict makes of a text is what evaluation makes of the same tokens, whatever the text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterkit import Adapter, Base, Registry, predict
from adapterkit.data.blank import is_blank
from adapterkit.errors import DataError
from adapterkit.pool import Pool
from adapterkit.store.publish import publish
from adapterkit.tasks import task_class
from adapterkit.tasks.language_modeling import IGNORED
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made

TOLERANCE = 2e-5  # of a probability: fp32 sums of at most 80 terms through 3 blocks, in batches of other shapes
ALPHABET = st.sampled_from("ab Zé.,'-_\u0301\u093f\u0915\u200d王ก\u0e31👍ß 1½")
TEXTS = st.text(ALPHABET, max_size=12)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base") / "bert"
    return Base.load(str(tiny.make("bert", folder, head="AutoModelForMaskedLM")))


@pytest.fixture(scope="module")
def adapter(base: Base) -> Adapter:
    """Return an adapter that answers with every token of the base."""
    options = {"text_column_name": ("text",), "max_seq_length": 32, "top_k": len(base.tokenizer)}
    return made.adapter(base, task_class("fill-mask")(**options), std=0.2)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(before=TEXTS, after=TEXTS, token=st.integers(5, 40))
def test_the_score_of_a_word_is_what_evaluation_gives_it(
    before: str, after: str, token: int, base: Base, adapter: Adapter
) -> None:
    tokenizer, task = base.tokenizer, adapter.task
    text = f"{before}{tokenizer.mask_token}{after}"
    with adapter.attached(base) as model, torch.inference_mode():
        (ids,) = task.prompts({"text": [text]}, tokenizer)["input_ids"]
        labels = [token if one == tokenizer.mask_token_id else IGNORED for one in ids]
        batch = {"input_ids": [ids], "attention_mask": [[1] * len(ids)], "labels": [labels]}
        ((loss, count),) = task.outputs(model, {key: torch.tensor(value) for key, value in batch.items()})
    words = predict(base, adapter, text)["words"]
    assert count == 1
    assert len(words) == len(tokenizer)
    scores = [word["score"] for word in words if word["word"] == tokenizer.decode([token]).strip()]
    assert any(score == pytest.approx(math.exp(-loss), abs=TOLERANCE) for score in scores)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_files_rows_texts_and_pools_have_one_answer(texts: Any, base: Base, adapter: Adapter, pool: Pool) -> None:
    rows = [f"{before}{base.tokenizer.mask_token}{after}" for before, after in texts]
    answers = predict(base, adapter, rows)
    for other in (
        predict(base, adapter, [{"text": row} for row in rows]),
        [predict(base, adapter, row) for row in rows],
        pool.predict(rows, "a"),
    ):
        for one, another in zip(answers, other, strict=True):
            scores = [{word["word"]: word["score"] for word in answer["words"]} for answer in (one, another)]
            assert scores[0] == pytest.approx(scores[1], abs=TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(text=st.text(ALPHABET, min_size=1, max_size=16).filter(lambda text: not is_blank(text)))
def test_a_text_has_the_same_tokens_in_training_and_prediction(text: str, base: Base, adapter: Adapter) -> None:
    tokenizer = base.tokenizer
    packed = adapter.task.tokenize({"text": [text]}, tokenizer, labelled=True)["input_ids"]
    (ids,) = adapter.task.prompts({"text": [f"{text} {tokenizer.mask_token}"]}, tokenizer)["input_ids"]
    if packed:
        start = next(i for i in range(len(ids)) if ids[i : i + len(packed[0])] == packed[0])
        assert start <= 1  # behind the token that begins a text


@pytest.fixture(scope="module")
def pool(base: Base, adapter: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Any:
    registry = Registry(tmp_path_factory.mktemp("registry") / "registry.json")
    publish(registry, "a", adapter)
    with Pool(base, registry=registry) as pool:
        yield pool


def test_a_mask_behind_the_limit_is_an_error_that_names_it(base: Base, adapter: Adapter, tmp_path: Path) -> None:
    mask = base.tokenizer.mask_token
    with pytest.raises(DataError, match="in its first 32 tokens"):
        predict(base, adapter, "a " * 60 + mask)
    with pytest.raises(DataError, match=f"has no {mask.replace('[', '.')[:2]}"):
        predict(base, adapter, "a b")


def test_lists_are_joined_and_objects_are_refused_as_in_prediction(base: Base, adapter: Adapter) -> None:
    from adapterkit.data.rows import memory_dataset

    mask, task = base.tokenizer.mask_token, adapter.task
    words = task.tokenize({"text": [["a", "film"], "a film"]}, base.tokenizer, labelled=True)["input_ids"]
    (joined,) = task.tokenize({"text": ["a film", "a film"]}, base.tokenizer, labelled=True)["input_ids"]
    assert words == [joined]
    assert predict(base, adapter, {"text": ["a", mask]}) == predict(base, adapter, f"a {mask}")
    with pytest.raises(DataError, match=r"rows:1: text is .*, but a text was expected"):
        task.check(memory_dataset([{"text": {"a": 1}}], "rows"), "rows")
