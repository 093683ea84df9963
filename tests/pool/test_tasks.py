"""Tasks of every kind in one pool, generation included."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from adapterkit import Adapter, AdapterkitError, Base, Pool, predict
from adapterkit.errors import DataError, PoolError
from adapterkit.tasks import task_class
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, classes
from tests.helpers.families import slow
from tests.helpers.pooled import STRATEGIES, same
from tests.helpers.task_kinds import has_head, kinds

# ---- tasks of every kind


@pytest.mark.parametrize("family", ["bert", *slow("roberta", "distilbert", "deberta-v2", "modernbert")])
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


# ---- generation


@pytest.mark.product
@pytest.mark.parametrize("family", ["gpt2", "t5", *slow("llama", "bart")])
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
    assert base.changed_tensors() == []


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


# ---- what people try


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


def test_each_adapter_names_as_many_masked_words_as_its_task_does(tiny_base: Base) -> None:
    fill = task_class("fill-mask")
    few, more = (made.adapter(tiny_base, fill(text_column_name=("text",), top_k=k), "lora", seed=k) for k in (2, 4))
    text = f"a {tiny_base.tokenizer.mask_token} text"
    with Pool(tiny_base, {"few": few, "more": more}) as pool:
        answers = pool.predict([text] * 3, adapter_of_each=["few", "more", "few"])
    assert [len(answer["words"]) for answer in answers] == [2, 4, 2]
    assert [a["word"] for a in answers[1]["words"]] == [a["word"] for a in predict(tiny_base, more, text)["words"]]


@pytest.mark.slow
def test_candidates_of_every_task_begin_with_its_answer(tmp_path: Path) -> None:
    base = Base.load(str(tiny.make("bert", tmp_path / "base", head="AutoModelForMaskedLM")))
    tasks = kinds()
    adapters = {name: made.adapter(base, task, "lora") for name, (task, _) in tasks.items()}
    for name, (_, texts) in tasks.items():
        with Pool(base, adapters) as pool:
            (ranked,), answer = (
                pool.answer([pool.prepare(texts[0], name)], all_scores=True),
                pool.predict(texts[0], name),
            )
        first = ranked[0] if ranked else {}
        if answer.get("answer"):
            assert {key: first[key] for key in ("answer", "start", "end")} == {
                key: answer[key] for key in ("answer", "start", "end")
            }
            assert first["score"] == pytest.approx(answer["score"])
        elif "words" in answer:
            assert first["token_str"] == answer["words"][0]["word"]
            assert first["score"] == pytest.approx(answer["words"][0]["score"])
        elif "entities" in answer:
            names = {"entity": "entity_group", "text": "word"}
            assert ranked == [{names.get(k, k): v for k, v in entity.items()} for entity in answer["entities"]]
        elif "ending" in answer:
            assert (first["label"], first["ending"]) == (answer["label"], answer["ending"])
