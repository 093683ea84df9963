"""A merged model has the outputs of its base and adapter, without adapterkit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from adapterkit import Base, Bias, LowRank, Replace
from adapterkit.convert.merge import merge
from adapterkit.discovery import installed
from adapterkit.errors import AdapterError, BaseModelError
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import CLASSIFY, task_of, without_training
from tests.helpers.bases import same, state
from tests.helpers.merged import check_merged

STRATEGIES = [found.name for found in installed()]


TASKS = [
    ("bert", "token-classification"),
    ("llama", "token-classification"),
    ("bert", "question-answering"),
    ("gpt2", "question-answering"),
    ("roberta", "multiple-choice"),
    ("bert", "fill-mask"),
    ("roberta", "fill-mask"),
    ("gpt2", "text-generation"),
    ("llama", "text-generation"),
    ("t5", "text2text-generation"),
    ("bart", "text2text-generation"),
]


@pytest.mark.product
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_a_merged_model_is_the_attached_one(
    family: str, strategy: str, base_of: Callable[..., Base], tmp_path: Path
) -> None:
    base = base_of(family)
    adapter = made.adapter(base, CLASSIFY, strategy)
    odd = [m for m, patch in adapter.patches(base).items() if patch.fold(base.model.get_submodule(m)) is None]
    if odd:  # a small network, say, of which no weight is the sum
        with pytest.raises(AdapterError, match=f"'{odd[0]}': a patch of kind '.*' can't be folded into a "):
            merge(base, adapter, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    model = check_merged(base, adapter, tmp_path / "out")
    assert model.config.id2label == {0: "neg", 1: "pos"}
    assert model.config.problem_type == "single_label_classification"


@pytest.mark.product
@pytest.mark.parametrize("strategy", ["full", "lora", "ia3"])
@pytest.mark.parametrize(("family", "task"), TASKS)
def test_every_tasks_merged_model_is_the_attached_one(
    family: str, task: str, strategy: str, base_of: Callable[..., Base], tmp_path: Path
) -> None:
    base = base_of(family, task)
    check_merged(base, made.adapter(base, task_of(task), strategy), tmp_path / "out")


@pytest.mark.parametrize("options", [{"target_modules": ("all-linear",)}, {"r": 3, "lora_alpha": 1}])
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_every_linear_modules_update_is_folded(
    family: str, options: dict[str, Any], base_of: Callable[..., Base], tmp_path: Path
) -> None:
    base = base_of(family)
    adapter = made.adapter(base, CLASSIFY, "lora", **options)
    model = check_merged(base, adapter, tmp_path / "out")
    assert type(model).__module__.startswith("transformers.")
    assert not any("lora" in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("family", "task"), [("gpt2", "text-generation"), ("bert", "fill-mask"), ("t5", "text2text-generation")]
)
def test_untied_output_embeddings_stay_apart_from_the_bases(
    family: str, task: str, base_of: Callable[..., Base], tmp_path: Path
) -> None:
    base = base_of(family, task)
    model = check_merged(base, without_training(base, task_of(task), {}, untied=True), tmp_path / "out")
    assert not torch.equal(model.get_output_embeddings().weight, base.model.get_input_embeddings().weight)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["tie_word_embeddings"] is (family == "t5")


def test_what_a_tied_config_tied_beside_the_embeddings_is_written_too(
    base_of: Callable[..., Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Base.task_model

    def tied(self: Base, *args: Any, **config: Any) -> Any:
        model = make(self, *args, **config)
        model.cls.predictions.decoder.bias = model.cls.predictions.bias
        return model

    monkeypatch.setattr(Base, "task_model", tied)
    base = base_of("bert", "fill-mask")
    check_merged(base, without_training(base, task_of("fill-mask"), {}, untied=True), tmp_path / "out")


def test_a_replaced_embedding_is_the_tied_output_too(base_of: Callable[..., Base], tmp_path: Path) -> None:
    base = base_of("gpt2", "text-generation")
    new = torch.randn_like(base.model.wte.weight)
    model = check_merged(
        base, without_training(base, task_of("text-generation"), {"wte": Replace({"weight": new})}), tmp_path / "out"
    )
    assert torch.equal(model.lm_head.weight, new)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert "lm_head.weight" not in safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")


def test_a_merged_folder_names_no_path_and_holds_the_tokenizer_as_no_use_has_left_it(
    bert: Base, tmp_path: Path
) -> None:
    adapter = made.adapter(bert, CLASSIFY)
    first = merge(bert, adapter, tmp_path / "first")
    bert.tokenizer(["lovely food", "x"], truncation=True, max_length=8, padding=True)
    second = merge(bert, adapter, tmp_path / "second")
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    for folder in (first, second):
        assert sorted(p.name for p in folder.iterdir()) == names
        assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o644}
    for name in names:
        data = (first / name).read_bytes()
        assert (second / name).read_bytes() == data
        assert b"_name_or_path" not in data
        assert str(tmp_path.parent).encode() not in data
    theirs = transformers.AutoTokenizer.from_pretrained(first)
    text = "Lovely food, and the staff was great."
    assert theirs(text).input_ids == bert.tokenizer(text).input_ids
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "second"]


def test_the_bases_settings_for_generation_are_kept(base_of: Callable[..., Base], tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base_of("gpt2", "text-generation").path, folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": [3, 7], "temperature": 0.6, "do_sample": true}')
    base = Base.load(str(folder))
    model = check_merged(base, made.adapter(base, task_of("text-generation")), tmp_path / "out")
    assert (model.generation_config.eos_token_id, model.generation_config.temperature) == ([3, 7], 0.6)


def test_an_update_is_rounded_once_to_the_bases_dtype(tmp_path: Path) -> None:
    folder = tiny.make("bert", tmp_path / "base", head="AutoModel")
    transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    base = Base.load(str(folder))
    adapter = made.adapter(base, CLASSIFY)
    merge(base, adapter, tmp_path / "out")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    patches = adapter.patches(base)
    assert patches
    for module, patch in patches.items():
        assert isinstance(patch, LowRank)
        exact = base.model.get_submodule(module).weight.double() + patch.B.double() @ patch.A.double() * patch.scale
        assert torch.equal(model.bert.get_submodule(module).weight, exact.bfloat16())


def test_a_patch_that_can_not_be_folded_is_refused(base_of: Callable[..., Base], tmp_path: Path) -> None:
    base = base_of("llama")
    module = "layers.0.self_attn.q_proj"  # without a bias that could be another
    adapter = without_training(base, CLASSIFY, {module: Bias(torch.ones(32))})
    with pytest.raises(AdapterError, match=r"'layers.0.self_attn.q_proj': a patch of kind 'bias' can't be folded"):
        merge(base, adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_folding_never_changes_a_module_that_is_tied(base_of: Callable[..., Base], tmp_path: Path) -> None:
    base = Base.load(base_of("bert").path)
    first, second = (base.model.encoder.layer[i].attention.self for i in (0, 1))
    second.query.weight = first.query.weight
    module = "encoder.layer.0.attention.self.query"
    patch = LowRank(torch.randn(2, 32), torch.randn(32, 2), 1.0)
    with pytest.raises(AdapterError, match=f"'{module}': its weight is tied to another module's"):
        merge(base, without_training(base, CLASSIFY, {module: patch}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_free_is_refused(bert: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = made.adapter(bert, CLASSIFY, "head-only")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.safetensors").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name, message in (
        ("mine", "'.*mine' is there already and holds model.safetensors; give one that is empty"),
        ("file", "'.*file' can't be a folder for the model: Not a directory"),
        ("empty", "'.*empty' is the folder you are in"),
    ):
        with pytest.raises(AdapterError, match=message):
            merge(bert, adapter, tmp_path / name)
    assert (tmp_path / "mine" / "model.safetensors").read_text() == "mine"
    monkeypatch.chdir(tmp_path)
    merge(bert, adapter, "empty")
    merge(bert, adapter, Path("new") / "deeper")
    assert (tmp_path / "empty" / "config.json").is_file()
    assert (tmp_path / "new" / "deeper" / "config.json").is_file()
    with pytest.raises(AdapterError, match=r"can't write '/proc/nowhere/out'"):
        merge(bert, adapter, "/proc/nowhere/out")


@pytest.mark.parametrize("after", ["config.json", "tokenizer.json"])
def test_a_failure_in_the_middle_leaves_nothing(
    after: str, bert: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, folder: Any, **kwargs: Any) -> None:
        Path(folder, after).write_text("half")
        raise OSError(28, "No space left on device")

    cls = transformers.PreTrainedModel if after == "config.json" else transformers.PreTrainedTokenizerBase
    adapter, before = made.adapter(bert, CLASSIFY, "full"), state(bert)
    monkeypatch.setattr(cls, "save_pretrained", full)
    with pytest.raises(AdapterError, match=r"can't write '.*out': .*No space left on device$"):
        merge(bert, adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert same(state(bert), before)


def test_a_model_that_transformers_reads_otherwise_is_not_kept(
    bert: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = transformers.PreTrainedTokenizerBase.save_pretrained

    def damage(self: Any, folder: Path, **kwargs: Any) -> None:
        write(self, folder, **kwargs)
        tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
        tensors["classifier.weight"][0, 0] += 1
        safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "save_pretrained", damage)
    with pytest.raises(AdapterError, match=r"1 tensors differ, first 'classifier.weight'; nothing was written"):
        merge(bert, made.adapter(bert, CLASSIFY), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_another_base_and_one_in_use_are_refused(bert: Base, base_of: Callable[..., Base], tmp_path: Path) -> None:
    adapter = made.adapter(bert, CLASSIFY)
    with pytest.raises(AdapterError, match="the adapter was trained on base"):
        merge(base_of("roberta"), adapter, tmp_path / "out")
    with adapter.attached(bert), pytest.raises(BaseModelError, match="is in use"):
        merge(bert, adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_word_vectors_are_no_transformers_model(tmp_path: Path) -> None:
    (tmp_path / "words.vec").write_text("3 4\na 1 0 0 1\nb 0 1 0 1\nc 0 0 1 1\n")
    base = Base.load(str(tmp_path / "words.vec"))
    with pytest.raises(AdapterError, match="is word vectors, which transformers can't load without adapterkit"):
        merge(base, made.adapter(base, CLASSIFY, "head-only"), tmp_path / "out")
