"""A run that saves in an encoding, and an adapter that is compressed afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from adapterkit import Adapter, Base, Plan, Registry, predict, run
from adapterkit.convert import compress
from adapterkit.evaluation.outputs import outputs
from adapterkit.features.tokenize import tokenized as features_of
from adapterkit.store.publish import publish
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import classes, full, size
from tests.helpers.cli import Adapt
from tests.helpers.plans import plan


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress, "_STEPS", 4)


def rows(count: int = 40) -> datasets.Dataset:
    words = ["fine", "dull", "great", "rude", "awful", "happy"]
    texts = [f"a {words[i % 6]} {words[i % 5]} film {i}" for i in range(count)]
    return datasets.Dataset.from_dict({"text": texts, "label": [f"l{i % 3}" for i in range(count)]})


@pytest.mark.slow
def test_fitted_scales_bring_logits_nearer_on_other_rows(tiny_base: Base) -> None:
    adapter, data = full(tiny_base), rows(200)
    train, other = data.select(range(150)), data.select(range(150, 200))
    plain = compress.compress(tiny_base, adapter, "1bit")
    fitted = compress.compress(tiny_base, adapter, "1bit", train)
    changed = {name for name, t in plain.tensors.items() if not torch.equal(t, fitted.tensors[name])}
    assert changed
    assert all(name.endswith(".scale") for name in changed)

    def said(one: Adapter) -> np.ndarray:
        features = features_of(one.task, other, tiny_base, labelled=False)
        with one.attached(tiny_base) as model:
            return np.stack(outputs(one.task, model, features, tiny_base, batch_size=16))

    errors = [float(((said(one) - said(adapter)) ** 2).mean()) for one in (plain, fitted)]
    assert errors[1] < 0.7 * errors[0]
    assert tiny_base.changed_tensors() == []
    assert not any(p.requires_grad or p.grad is not None for p in tiny_base.model.parameters())


@pytest.mark.slow
@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    ("family", "dataset"),
    [("bert", "ner"), ("bert", "qa"), ("gpt2", "stories"), ("t5", "translation")],
)
def test_every_kind_of_task_is_fitted_and_measured(
    family: str, dataset: str, tmp_path: Path, registry: Registry, tiny_folder: Callable[..., Path]
) -> None:
    heads = {"stories": "AutoModelForCausalLM", "translation": "AutoModelForSeq2SeqLM"}
    folder = tiny.make(family, tmp_path / "base", head=heads.get(dataset, "AutoModel"))
    base = Base.load(str(folder))
    values: dict[str, Any] = {"strategy": "layerwise", "base": str(folder), "dataset": f"demo:{dataset}", "top": 1}
    values |= {"num_train_epochs": 1, "max_train_samples": 48, "max_eval_samples": 4, "max_seq_length": 64}
    report = run(Plan.resolve({**values, "save_as": "1bit"}), registry, base=base)
    encoding = report.adapter.manifest["encoding"]
    assert encoding["after"]["bytes"] == report.adapter_bytes < encoding["before"]["bytes"]
    assert encoding["after"]["metrics"].keys() == encoding["before"]["metrics"].keys() == report.metrics.keys()
    assert base.changed_tensors() == []


@pytest.mark.usefixtures("few_steps")
def test_a_run_saves_as_it_is_told_and_says_what_that_took(
    small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    whole = run(plan(small_csv, tiny_base.path, "full"), registry, base=tiny_base)
    exact = run(plan(small_csv, tiny_base.path, "full", save_as="exact"), registry, base=tiny_base)
    loaded = registry.load("tiny")
    assert {patch["kind"] for patch in loaded.manifest["patches"].values()} == {"exact"}
    assert loaded.manifest["training"]["save_as"] == "exact"
    assert "save_as: exact" in (Path(exact.folder) / "run.yaml").read_text()
    stated = loaded.manifest["encoding"]
    assert stated["before"] == {"bytes": whole.adapter_bytes, "metrics": whole.metrics}
    assert stated["after"] == {"bytes": exact.adapter_bytes, "metrics": exact.metrics}
    assert exact.metrics == whole.metrics
    assert exact.adapter_bytes < 0.9 * whole.adapter_bytes
    again = loaded.decoded(tiny_base).tensors
    assert all(torch.equal(t, again[name]) for name, t in whole.adapter.tensors.items())


def test_a_run_that_has_nothing_to_compress_says_so_and_saves_as_it_is(
    adapt: Adapt, small_csv: Path, tiny_folder: Callable[..., Path]
) -> None:
    flags = ["--base", tiny_folder(), "--train-file", small_csv, "--epochs", "1", "--name", "t", "--lr", "1e-2"]
    done = adapt("run", "--strategy", "lora", *flags, "--save-as", "exact")
    assert done.exit_code == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "nothing to compress" in line]
    assert said == [
        "encoded    as it is, nothing to compress as exact: it replaces nothing of the base: it is patches of kind "
        "low-rank; bf16 works on any"
    ]
    refused = adapt("compress", "t", "--as", "1bit")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: nothing to compress as 1bit: it replaces nothing of the base")
    assert refused.stderr.count("\n") == 1
    assert adapt("run", "--strategy", "full", *flags, "--save-as", "2bit").exit_code == 2
    biases = adapt("run", "--strategy", "bitfit", *flags, "--save-as", "1bit")  # replaces something, and no matrix
    assert biases.exit_code == 0, biases.stderr
    assert "encoded    as it is, nothing to compress as 1bit: " in biases.stderr


@pytest.mark.usefixtures("few_steps")
def test_compress_registers_a_new_version_and_show_tells_both(
    adapt: Adapt, small_csv: Path, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    flags = ["--base", tiny_folder(), "--train-file", small_csv, "--epochs", "1", "--lr", "1e-3"]
    flags += ["--head-init", "random"]  # a solved one may be saved as it started, with nothing to compress
    assert adapt("run", "--strategy", "full", *flags, "--name", "whole").exit_code == 0
    first = json.loads(adapt("show", "whole", "--json").stdout)
    done = adapt("compress", "whole", "--as", "1bit", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["compressed_from"] == {"name": "whole", "version": first["version"]}
    shown = json.loads(adapt("show", "whole", "--json").stdout)
    assert shown["version"] == told["version"]
    assert len(shown["versions"]) == 2
    assert shown["metrics"] == told["after"]["metrics"]
    assert told["after"]["bytes"] == shown["files"]["adapter_model.safetensors"]["bytes"] < told["before"]["bytes"] / 3
    text = adapt("show", "whole").stdout
    assert "encoding   1bit: " in text
    assert " before, " in text
    answered = adapt("predict", "whole", "lovely food")
    assert answered.exit_code == 0, answered.stderr
    assert adapt("eval", "whole").exit_code == 0
    out = adapt("compress", f"whole@{first['version']}", "--as", "rank:2", "--to", "thin", "--train-file", small_csv)
    assert out.exit_code == 0, out.stderr
    assert "saved      " in out.stdout
    assert adapt("merge", "thin", "--out", tmp_path / "plain").exit_code == 0
    for wrong, said in (
        (["nobody", "--as", "exact"], "no adapter named 'nobody'"),
        (["whole", "--as", "rank:0"], "no encoding named 'rank:0'; available: exact, bf16, 1bit, rank:R"),
        (["whole", "--as", "exact", "--to", "a b"], "'a b' is no adapter's name"),
        (["whole", "--as", "exact", "--base", tiny_folder("bert", 1)], "the adapter was trained on base"),
    ):
        refused = adapt("compress", *wrong)
        assert refused.exit_code == 2
        assert said in refused.stderr
    assert len(json.loads(adapt("show", "whole", "--json").stdout)["versions"]) == 2


@pytest.mark.parametrize("task", ["text-classification", "fill-mask", "question-answering"])
def test_a_task_that_names_no_column_is_refused_by_commands(
    task: str, adapt: Adapt, small_csv: Path, tiny_base: Base
) -> None:
    adapter = made.adapter(tiny_base, classes())
    adapter.manifest["task"] = {"name": task, "options": {}}
    publish(Registry.at(None), "odd", adapter)
    for words in (
        ["compress", "odd", "--as", "bf16", "--train-file", small_csv, "--test-file", small_csv],
        ["eval", "odd", "--test-file", small_csv],
        ["predict", "odd", "--file", small_csv],
    ):
        refused = adapt(*words)
        assert refused.exit_code == 2, refused.stderr
        assert refused.stderr == f"Error: the task {task} names no column to read\n"
    assert adapt("show", "odd").exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["exact", "bf16", "1bit", "rank:8"])
def test_on_a_real_base(minilm: Base, encoding: str) -> None:
    adapter = made.adapter(minilm, classes(), "layerwise", layers="5", std=0.002)
    encoded = compress.compress(minilm, adapter, encoding)
    most = {"exact": 0.72, "bf16": 0.501, "1bit": 1 / 26, "rank:8": 0.05}[encoding]
    assert size(encoded) < most * size(adapter)
    texts = ["a fine film", "rude staff and awful food"]
    a, b = (predict(minilm, one, texts) for one in (adapter, encoded))
    assert [x["label"] for x in a] == [x["label"] for x in b]
    if encoding == "exact":
        assert a == b
    assert minilm.changed_tensors() == []
