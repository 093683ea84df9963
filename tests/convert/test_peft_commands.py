"""The commands import and export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import transformers

from adapterkit import Base
from adapterkit.convert.export import write_model
from adapterkit.convert.peft_import import base_of
from adapterkit.convert.peft_reader import PeftFolder
from adapterkit.errors import AdapterError
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import said
from tests.helpers.adapters import task_of as named_task
from tests.helpers.cli import Adapt
from tests.helpers.peft import CLASSIFY, config_of, of_peft, through_peft


def test_import_list_show_predict_eval_merge_and_export(
    adapt: Adapt, small_csv: Path, folder_of: Callable[..., str], tmp_path: Path
) -> None:
    base, texts = folder_of("bert"), ["lovely food", "a dull film"]
    theirs = of_peft(base, CLASSIFY, tmp_path / "theirs", config_of("rslora", "bert", CLASSIFY))
    done = adapt("import", "theirs", "--labels", "neg,pos", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["name"] == "theirs"
    again = adapt("import", "theirs", "--labels", "neg,pos", "--name", "b", "--task-option", "max_seq_length=32")
    assert "logits     equal to PEFT's on base" in again.stdout, again.output
    assert [line.split()[0] for line in adapt("list").stdout.splitlines()] == ["name", "b", "theirs"]
    assert "strategy   lora of peft" in adapt("show", "theirs").stdout
    done = adapt("predict", "theirs", *texts, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    batch = Base.load(base).tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert [a["label"] for a in found] == [("neg", "pos")[i] for i in logits.argmax(-1)]
    assert [a["score"] for a in found] == pytest.approx(logits.softmax(-1).amax(-1).tolist(), abs=tolerance.TINY)
    assert json.loads(adapt("eval", "theirs", "--test-file", small_csv, "--json").stdout)["n"] == 24
    assert adapt("merge", "theirs:0.5", "b:0.5", "--name", "both").exit_code == 0
    assert adapt("registry", "rebuild").exit_code == 0

    done = adapt("export", "theirs", "--format", "peft", "--to", "out/peft")
    assert done.exit_code == 0, done.output
    config = json.loads((tmp_path / "out/peft/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base
    model = through_peft(base, CLASSIFY, tmp_path / "out/peft")
    tolerance.assert_near(said(model), said(theirs), tolerance.of_base(Base.load(base)))
    report = json.loads(adapt("export", "both", "--format", "merged", "--to", "out/merged", "--json").stdout)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(report["files"])
    before = sorted(tmp_path.rglob("*"))
    for args, message in {
        ("export", "theirs", "--format", "gguf-ready", "--to", "x"): "GGUF is for causal language models, and this",
        ("export", "theirs", "--format", "peft", "--to", "out/peft"): "'out/peft' is there already and holds adapter_",
        (
            "export",
            "theirs",
            "--format",
            "tflite",
            "--to",
            "x",
        ): "'tflite' is not one of 'peft', 'merged', 'sentence-transformers', 'gguf-ready', 'onnx'",
        ("import", "nowhere"): "no folder 'nowhere'; a PEFT adapter is a folder or a Hub id such as owner/name",
        ("import", "owner/name"): "is neither a folder nor to be had from the Hub or its cache (HF_HUB_OFFLINE is set)",
        ("import", "theirs", "--task-option", "x"): "--task-option x: expected NAME=VALUE",
        ("import", "theirs", "--task-option", "colour=red"): "no option named 'colour'",
        ("import", "store", "--base", base): "'store' holds no adapter_config.json, but b, both, theirs",
    }.items():
        done = adapt(*args)
        assert done.exit_code == 2, (args, done.output)
        assert message in done.stderr, args
        assert len([line for line in done.stderr.splitlines() if "rror" in line]) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_adapter_of_the_hubs_cache_is_taken_in_offline(
    folder_of: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = folder_of("gpt2", "text-generation")
    task = named_task("text-generation")
    cache = tmp_path / "hub" / "models--owner--name"
    sha = "0" * 40
    of_peft(base, task, cache / "snapshots" / sha, config_of("rslora", "gpt2", task))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(sha)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = PeftFolder.read("owner/name")
    assert base_of(folder, None).path == base
    with pytest.raises(AdapterError, match=r"'owner/name' is neither a folder nor to be had from the Hub"):
        PeftFolder.read("owner/name", "v2")


def test_gguf_ready_is_a_causal_model_as_the_converter_reads_it(folder_of: Callable[..., str], tmp_path: Path) -> None:
    task = named_task("text-generation")
    base = Base.load(folder_of("llama", "text-generation"))
    adapter = made.adapter(base, task, "lora", std=0.2)
    (Path(base.path) / "tokenizer.model").write_bytes(b"a vocabulary")
    try:
        place = write_model(base, adapter, tmp_path / "out", form="gguf-ready")
    finally:
        (Path(base.path) / "tokenizer.model").unlink()
    config = json.loads((place / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    needed = {"model.safetensors", "tokenizer.json", "tokenizer_config.json", "tokenizer.model"}
    assert needed <= {file.name for file in place.iterdir()}
    with adapter.attached(base) as ours:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(place)
        tolerance.assert_near(said(theirs), said(ours), tolerance.of_base(base))
    bert = Base.load(folder_of("bert", "text-generation"))
    with pytest.raises(AdapterError, match="no GGUF of a 'bert' model is known to transformers; supported"):
        write_model(bert, made.adapter(bert, task, "lora"), tmp_path / "no", form="gguf-ready")
    base.tokenizer.add_tokens([f"<{i}>" for i in range(9)])
    with pytest.raises(AdapterError, match=r"has \d+ tokens, but its embeddings 300 rows; llama.cpp needs a row"):
        write_model(base, adapter, tmp_path / "no", form="gguf-ready")
    assert not (tmp_path / "no").exists()
