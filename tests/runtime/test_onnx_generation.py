"""An export of a decoder generates what the pool generates, with a cache, rows of several adapters in one batch."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import transformers

from adapterkit import Adapter, AdapterkitError, Base, Pool
from adapterkit.convert.onnx_decoder import end_tokens
from adapterkit.convert.onnx_export import write_onnx
from adapterkit.errors import AdapterError, DataError, PoolError
from adapterkit.runtime import OnnxPool
from adapterkit.runtime.generation import greedy
from adapterkit.runtime.manifest import GenerationRecord
from adapterkit.tasks import TextGeneration
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, classes

TASK = TextGeneration(text_column_name=("text",), max_new_tokens=9)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Base, dict[str, Adapter], Path]:
    """Export two adapters of a GPT-2, of different ranks, modules and numbers of new tokens."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("decoder")
    base = Base.load(str(tiny.make("gpt2", folder / "base", head="AutoModelForCausalLM", num_hidden_layers=2)))
    short = dataclasses.replace(TASK, max_new_tokens=4)
    adapters = {
        "a": made.adapter(base, TASK, "lora", seed=1, std=0.3),
        "b": made.adapter(base, short, "lora", seed=2, std=0.3, r=3, target_modules=("c_proj",)),
    }
    write_onnx(base, {name: ("1", adapter) for name, adapter in adapters.items()}, folder / "onnx")
    return base, adapters, folder / "onnx"


@pytest.mark.slow
def test_texts_equal_those_of_the_pool(decoder: tuple[Base, dict[str, Adapter], Path]) -> None:
    base, adapters, folder = decoder
    texts = [*TEXTS, "a", "the film was long and the food was cold but we came back"]
    exported = OnnxPool(folder, batch_size=3)
    with Pool(base, adapters) as pool:
        assert exported.predict(texts, adapters=["a", "b"]) == pool.predict(texts, adapters=["a", "b"])
        assert exported.predict(texts[0], "a", all_scores=True) == pool.predict(texts[0], "a", all_scores=True)
    with pytest.raises(PoolError, match="the export's adapters generate texts; use predict"):
        exported.outputs(texts, "a")


class Counting:
    """A session whose next token is the number of tokens that a row has read so far."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = np.arange(len(feeds["last"]))
        at = feeds["position_ids"][rows, feeds["last"]]
        assert (feeds["attention_mask"].sum(1) > at).all()
        assert feeds["attention_mask"].shape[1] == feeds["past.0.key"].shape[2] + feeds["input_ids"].shape[1]
        grown = np.zeros((len(rows), 1, feeds["attention_mask"].shape[1], 1), np.float32)
        return {"logits": np.eye(32)[at + 1], "present.0.key": grown, "present.0.value": grown}


def test_a_text_ends_at_its_end_token_or_its_limit() -> None:
    record = GenerationRecord(layers=1, heads=1, size=1, eos_token_ids=[6, 9])
    prompts = [[1], [1, 1, 1, 1, 1, 1, 1], [1] * 4, [1] * 10, [1]]
    generated = greedy(Counting(), record, prompts, [8, 8, 1, 3, 0], {})  # type: ignore[arg-type]
    assert generated == [[1, 2, 3, 4, 5, 6], [7, 8, 9], [4], [10, 11, 12], []]
    with pytest.raises(DataError, match="a prompt without tokens can't be continued"):
        greedy(Counting(), record, [[1], []], [1, 1], {})  # type: ignore[arg-type]


def test_what_does_not_generate_here_is_refused_by_name(
    decoder: tuple[Base, dict[str, Adapter], Path], tmp_path: Path
) -> None:
    base, adapters, folder = decoder
    beams = made.adapter(base, dataclasses.replace(TASK, num_beams=2), "lora")
    both = {"a": ("1", adapters["a"]), "c": ("1", made.adapter(base, classes(2), "lora"))}
    for exported, message in [
        ({"x": ("1", beams)}, r"adapter 'x': --format onnx has no num_beams=2; it has greedy text-generation"),
        (both, r"adapters that generate need an export of their own: a"),
    ]:
        with pytest.raises(AdapterError, match=message):
            write_onnx(base, exported, tmp_path / "to")
    chat = {"text": [{"role": "user", "content": "hello"}]}
    with pytest.raises(AdapterkitError, match=re.escape("chats need transformers for their template")):
        OnnxPool(folder).predict([chat], "a")
    penalised = SimpleNamespace(generation_config=transformers.GenerationConfig(repetition_penalty=1.2))
    with pytest.raises(AdapterError, match=r"generates greedily, without repetition_penalty=1\.2 of base"):
        end_tokens(penalised, base)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("field", ["layers", "heads", "size"])
def test_a_cache_of_another_shape_is_one_line(
    decoder: tuple[Base, dict[str, Adapter], Path], tmp_path: Path, field: str
) -> None:
    copy = Path(shutil.copytree(decoder[2], tmp_path / "onnx"))
    manifest = json.loads((copy / "export.json").read_text())
    manifest["generation"][field] = 1
    (copy / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(AdapterError, match=r"base\.onnx (takes 'past\.1\.key'|can't be run: )") as caught:
        OnnxPool(copy).predict(TEXTS[0], "a")
    assert "\n" not in str(caught.value)
