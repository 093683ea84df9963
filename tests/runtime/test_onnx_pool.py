"""An export answers as a pool does, in a process without torch too."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from adapterkit import AdapterkitError, Base, Pool
from adapterkit.convert.onnx_export import write_onnx
from adapterkit.errors import PoolError, TruncationWarning
from adapterkit.runtime import OnnxPool
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import TEXTS, classes
from tests.helpers.pooled import same
from tests.helpers.random_probes import probe
from tests.runtime.conftest import Export

near = functools.partial(same, within=1e-4)


def test_every_task_and_kind_of_adapter_in_one_batch(export: Export) -> None:
    texts, names = [text for text, _ in export.rows], [name for _, name in export.rows]
    exported = OnnxPool(export.folder, batch_size=7)
    with Pool(export.base, export.adapters) as pool:
        near(exported.predict(texts, adapter_of_each=names), pool.predict(texts, adapter_of_each=names))
        scores = exported.predict(texts, adapter_of_each=names, all_scores=True)
        near(scores, pool.predict(texts, adapter_of_each=names, all_scores=True))
        alike = ("classes", "several", "number", "pair", "choices")  # others have outputs for padding, too
        kept = [i for i, name in enumerate(names) if name.startswith(alike)]
        texts, names = [texts[i] for i in kept], [names[i] for i in kept]
        near(exported.outputs(texts, adapter_of_each=names), pool.outputs(texts, adapter_of_each=names))


def test_texts_that_are_cut_are_counted_once_as_in_a_pool(export: Export) -> None:
    texts, messages = [TEXTS[0], " ".join(TEXTS * 20)], []
    with Pool(export.base, export.adapters) as pool:
        for asked in (OnnxPool(export.folder), pool):
            with pytest.warns(TruncationWarning) as caught:
                asked.predict(texts * 2, adapter="vectors-lora")
            messages.append([str(warning.message) for warning in caught])
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                asked.predict(texts, adapter="vectors-lora")
    assert messages[0] == messages[1]
    assert ["2 of 4 texts are longer than 48 tokens and were cut" in message for message in messages[0]] == [True]


def test_several_adapters_answer_each_text(export: Export) -> None:
    names = ["classes-lora", "classes-probe"]
    with Pool(export.base, export.adapters) as pool:
        near(OnnxPool(export.folder).predict(TEXTS, adapters=names), pool.predict(TEXTS, adapters=names))
        near(OnnxPool(export.folder).predict(TEXTS[0], adapters=names), pool.predict(TEXTS[0], adapters=names))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["roberta", "distilbert", "deberta-v2", "modernbert"])
def test_families(family: str, tmp_path: Path) -> None:
    """One export a family takes seconds, and each has positions, masks and heads of its own."""
    pytest.importorskip("onnxscript")
    size = {} if family == "modernbert" else {"num_hidden_layers": 1}  # it lists the kinds of its layers
    base = Base.load(str(tiny.make(family, tmp_path / "base", **size)))
    task = classes(3)
    adapters = {
        "lora": made.adapter(base, task, "lora", seed=1),
        "rank-2": made.adapter(base, task, "lora", seed=2, r=2),
        "head": made.adapter(base, task, "head-only", seed=3),
    }
    write_onnx(base, {name: ("1", adapter) for name, adapter in adapters.items()}, tmp_path / "onnx")
    texts, names = TEXTS * 3, [name for name in adapters for _ in TEXTS]
    with Pool(base, adapters) as pool:
        wanted = pool.outputs(texts, adapter_of_each=names)
        near(OnnxPool(tmp_path / "onnx").outputs(texts, adapter_of_each=names), wanted)


@pytest.mark.slow
def test_a_decoder_and_its_probe(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    base = Base.load(str(tiny.make("gpt2", tmp_path / "base", num_hidden_layers=2)))
    adapters = {"a": made.adapter(base, classes(2), "lora", seed=1), "b": probe(base, classes(2), (1, 2), "max")}
    write_onnx(base, {name: ("1", adapter) for name, adapter in adapters.items()}, tmp_path / "onnx")
    with Pool(base, adapters) as pool:
        near(OnnxPool(tmp_path / "onnx").outputs(TEXTS, adapters=["a", "b"]), pool.outputs(TEXTS, adapters=["a", "b"]))


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ImportError(f"{name} is imported")

sys.meta_path.insert(0, Blocker())
import json
from adapterkit.runtime import OnnxPool
texts, names = json.load(sys.stdin)
print(json.dumps(OnnxPool(sys.argv[1]).predict(texts, adapter_of_each=names)))
"""
HEAVY = [
    "torch",
    "transformers",
    "peft",
    "datasets",
    "accelerate",
    "scipy",
    "sklearn",
    "pandas",
    "pyarrow",
    "safetensors",
]
HEAVY += ["safetensors", "huggingface_hub", "onnx", "onnxscript"]


def test_neither_torch_nor_transformers_is_imported(export: Export) -> None:
    texts, names = [text for text, _ in export.rows], [name for _, name in export.rows]
    code = BLOCKED.replace("{BLOCKED}", repr(set(HEAVY)))
    rows = json.dumps([texts, names])
    done = subprocess.run(
        [sys.executable, "-c", code, str(export.folder)], input=rows, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with Pool(export.base, export.adapters) as pool:
        near(json.loads(done.stdout), pool.predict(texts, adapter_of_each=names))


def test_the_least_recently_used_adapters_are_evicted(export: Export) -> None:
    exported = OnnxPool(export.folder)
    largest = max(OnnxPool(export.folder)._cache.get(name).nbytes for name in export.adapters)
    small = OnnxPool(export.folder, max_bytes=largest)
    for text, name in export.rows[:9] * 2:
        near(small.predict(text, name), exported.predict(text, name))
        assert 0 < small.nbytes <= largest
    with pytest.raises(PoolError, match="adapters must be one or more names"):
        exported.predict("a", adapters=[])
    with pytest.raises(PoolError, match=r"has [\d,]+ bytes, but max_bytes=8"):
        OnnxPool(export.folder, max_bytes=8).predict("a", "classes-lora")


def test_names_and_options(export: Export) -> None:
    exported = OnnxPool(export.folder)
    assert exported.names() == sorted(export.adapters)
    assert exported.task("classes-lora").labels == export.adapters["classes-lora"].task.labels
    with pytest.raises(PoolError, match=r"no adapter named 'classes-lor'; did you mean 'classes-lora'"):
        exported.predict("a", "classes-lor")
    with pytest.raises(PoolError, match="which adapter"):
        exported.predict("a")
    with pytest.raises(PoolError, match="exclude each other"):
        exported.predict("a", "classes-lora", adapters=["classes-lora"])
    with pytest.raises(PoolError, match="batch_size must be an integer >= 1, got 0"):
        OnnxPool(export.folder, batch_size=0)
    with pytest.raises(AdapterkitError, match="is empty"):
        exported.predict(["a", " "], "classes-lora")
    assert exported.predict([], "classes-lora") == []
