"""A merged model needs no adapterkit and says the same; adapters add up as PEFT adds them up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
import transformers
from click.testing import Result
from peft.tuners.lora import LoraLayer
from torch import Tensor

from adapterkit import Adapter, Base, Bias, LowRank, Patch, Registry, Replace
from adapterkit.convert.combine import combine
from adapterkit.convert.merge import merge
from adapterkit.discovery import installed
from adapterkit.errors import AdapterError, BaseModelError
from adapterkit.options import plain
from adapterkit.store.publish import publish
from adapterkit.tasks import Task, task_class
from adapterkit.testing import tiny
from tests import made, tolerance
from tests.test_strategies import same, state

Adapt = Callable[..., Result]
STRATEGIES = [found.name for found in installed()]
TYPES = ["cat", "linear", "svd"]
OPTIONS: dict[str, dict[str, Any]] = {
    "text-classification": {
        "text_column_name": ("text",),
        "label_column_name": "label",
        "labels": ("neg", "pos"),
        "problem_type": "single_label_classification",
    },
    "token-classification": {"labels": ("O", "B-X", "I-X")},
    "text-generation": {"text_column_name": ("text",)},
    "fill-mask": {"text_column_name": ("text",)},
}
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


def task_of(name: str, **options: Any) -> Task:
    return task_class(name)(**{**OPTIONS.get(name, {}), **options})


CLASSIFY = task_of("text-classification")


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Base]:
    """Return a function from a family, and a task, to a tiny base with the head that it comes with, loaded once."""
    loaded: dict[tuple[str, str], Base] = {}

    def base(family: str, task: str = "text-classification") -> Base:
        key = (family, tiny.HEADS.get(task, "AutoModel"))
        if key not in loaded:
            folder = tmp_path_factory.mktemp(family) / "base"
            loaded[key] = Base.load(str(tiny.make(family, folder, head=key[1])))
        return loaded[key]

    return base


@pytest.fixture
def bert(base_of: Callable[..., Base]) -> Base:
    return base_of("bert")


def said(model: Any, task: str = "text-classification") -> list[Tensor]:
    """Return what a model of a task says of two rows."""
    ids = torch.arange(5, 21).reshape(2, 8)
    ids[:, -1] = tiny.EOS
    ids = torch.stack([ids, ids.flip(0), ids], dim=1) if task == "multiple-choice" else ids
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if task == "text2text-generation":
        batch["decoder_input_ids"] = ids
    with torch.no_grad():
        found = model(**batch)
    return [found[key] for key in ("logits", "start_logits", "end_logits") if key in found]


def tensors_of(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def check_merged(base: Base, adapter: Adapter, folder: Path) -> Any:
    """Check that a merged model is the attached one, and that the base is itself; return the model."""
    before, task, config = state(base), adapter.task, base.model.config.to_dict()
    with adapter.attached(base) as attached:
        ours, tensors = said(attached, task.name), tensors_of(attached)
    assert merge(base, adapter, folder) == folder
    model = getattr(transformers, task.auto_class).from_pretrained(folder)
    theirs = said(model, task.name)
    assert len(ours) == len(theirs) > 0
    tolerance.assert_near(theirs, ours, tolerance.of_base(base))  # an update that is folded rounds otherwise
    updated = {m for m, patch in adapter.manifest["patches"].items() if patch["kind"] != "replace"}
    read, prefix = model.state_dict(), adapter.manifest["base"]["prefix"]
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        if name.removeprefix(prefix).rpartition(".")[0] not in updated:
            assert torch.equal(read[name], tensor), name
    assert same(state(base), before)
    assert base.model.config.to_dict() == config
    return model


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


def without_training(base: Base, task: Task, patches: dict[str, Patch], *, untied: bool = False) -> Adapter:
    """Make an adapter of patches and of a head as it comes, its output embeddings moved where they are untied."""
    model = base.task_model(task.auto_class, untied=untied, **task.config())
    own = dict(model.named_parameters())
    names = base.head_names(model) if task.new_head or untied else []
    head = {name: own[name].detach() + 0.1 * torch.rand_like(own[name]) for name in names}
    about = {"task": {"name": task.name, "options": plain(task)}, "untied": untied, "metrics": {}}
    return Adapter.make(base, model, patches, head, {**about, "strategy": {"name": "lora", "options": {}}})


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


# ---- several


TARGETS = {
    "bert": (["query", "value"], ["value", "output.dense"]),
    "roberta": (["query", "value"], ["value", "output.dense"]),
    "gpt2": (["c_attn"], ["c_attn", "c_proj"]),
    "llama": (["q_proj", "v_proj"], ["v_proj", "down_proj"]),
}


def peft_model(base: Base, ranks: tuple[int, ...]) -> Any:
    """Return PEFT's model of the base with random adapters, one of each rank, on modules of which they share some."""
    fan = base.model.config.model_type == "gpt2"
    configs = [
        peft.LoraConfig(r=r, lora_alpha=3 * i + 2, target_modules=targets, fan_in_fan_out=fan)
        for i, (r, targets) in enumerate(zip(ranks, TARGETS[base.model.config.model_type], strict=False))
    ]
    model = peft.get_peft_model(transformers.AutoModel.from_pretrained(base.path), configs[0], adapter_name="0")
    for i, config in enumerate(configs[1:], start=1):
        model.add_adapter(str(i), config)
    torch.manual_seed(0)
    for name, p in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p, std=0.2)
    return model.eval()


def layers(model: Any, adapter: str) -> dict[str, Any]:
    """Return PEFT's layers that an adapter has, by the base's own module names."""
    found = {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    return {name: layer for name, layer in found.items() if adapter in layer.lora_A}


def ours_of(base: Base, model: Any, adapter: str) -> Adapter:
    """Return PEFT's adapter as ours, with a random head."""
    patches: dict[str, Patch] = {
        name: LowRank(m.lora_A[adapter].weight, m.lora_B[adapter].weight, m.scaling[adapter])
        for name, m in layers(model, adapter).items()
    }
    return without_training(base, CLASSIFY, patches)


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.2, -0.4)])
@pytest.mark.parametrize(
    ("combination_type", "ranks"), [("cat", (4, 2)), ("linear", (4, 4)), ("svd", (2, 4)), ("svd", (4, 4))]
)
@pytest.mark.parametrize("family", TARGETS)
def test_adapters_add_up_as_pefts_do(
    family: str, combination_type: str, ranks: tuple[int, int], weights: tuple[float, float], base_of: Any
) -> None:
    base = base_of(family)
    before = state(base)
    model = peft_model(base, ranks)
    adapters = [ours_of(base, model, name) for name in ("0", "1")]
    combined = combine(base, list(zip(adapters, weights, strict=True)), combination_type)
    model.add_weighted_adapter(["0", "1"], list(weights), "sum", combination_type=combination_type)
    theirs, ours = layers(model, "sum"), combined.patches(base)
    assert set(ours) == set(theirs)
    for name, patch in ours.items():
        assert isinstance(patch, LowRank)
        delta = patch.B @ patch.A * patch.scale
        delta = delta if isinstance(base.model.get_submodule(name), torch.nn.Linear) else delta.T
        torch.testing.assert_close(delta, theirs[name].get_delta_weight("sum"), atol=1e-5, rtol=1e-5)
    model.set_adapter("sum")
    ids = torch.arange(5, 21).reshape(2, 8)
    with combined.attached(base), torch.no_grad():
        found = base.model(input_ids=ids).last_hidden_state
        tolerance.assert_near(found, model(input_ids=ids).last_hidden_state, tolerance.of_base(base))
    assert same(state(base), before)


@pytest.mark.parametrize("combination_type", TYPES)
@pytest.mark.parametrize("family", TARGETS)
def test_peft_loads_a_combination_and_computes_the_same(
    family: str, combination_type: str, base_of: Callable[..., Base], registry: Registry
) -> None:
    base = base_of(family)
    model = peft_model(base, (4, 4) if combination_type == "linear" else (4, 2))
    parts = [(ours_of(base, model, "0"), 0.7), (ours_of(base, model, "1"), 0.6)]
    combined = combine(base, parts, combination_type)
    folder = registry.folder("ab", publish(registry, "ab", combined).version)
    plain_model = transformers.AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=2)
    theirs = peft.PeftModel.from_pretrained(plain_model, folder).eval()
    with registry.load("ab").attached(base) as ours:
        tolerance.assert_near(said(ours), said(theirs), tolerance.of_base(base))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == combined.manifest["strategy"]["options"]["r"]
    assert config["r"] == {"cat": 6, "linear": 4, "svd": 4}[combination_type]


def delta(base: Base, adapter: Adapter, module: str) -> Tensor:
    patch = adapter.patches(base)[module]
    assert isinstance(patch, LowRank)
    return patch.B.double() @ patch.A.double() * patch.scale


QUERY = "encoder.layer.0.attention.self.query"


def test_updates_are_summed_and_heads_averaged(bert: Base) -> None:
    a, b = (made.adapter(bert, CLASSIFY, "lora", seed=seed, std=0.2) for seed in (1, 2))
    combined = combine(bert, [(a, 2.0), (b, 1.0)])
    expected = 2 * delta(bert, a, QUERY) + delta(bert, b, QUERY)
    torch.testing.assert_close(delta(bert, combined, QUERY), expected, atol=1e-6, rtol=1e-6)
    for name in ("classifier.weight", "classifier.bias"):
        one, other, both = (x.tensors[f"base_model.model.{name}"] for x in (a, b, combined))
        torch.testing.assert_close(both, (2 * one + other) / 3)
    again = combine(bert, [(a, 2.0), (b, 1.0)])
    assert again.files() == combined.files()


def test_a_single_adapter_is_scaled(bert: Base) -> None:
    adapter = made.adapter(bert, CLASSIFY, "lora", std=0.2)
    for combination_type in TYPES:
        half = combine(bert, [(adapter, 0.5)], combination_type)
        torch.testing.assert_close(delta(bert, half, QUERY), 0.5 * delta(bert, adapter, QUERY), atol=1e-6, rtol=1e-6)
        key = "base_model.model.classifier.weight"
        torch.testing.assert_close(half.tensors[key], adapter.tensors[key])


def test_svd_is_the_nearest_sum_of_its_rank(bert: Base) -> None:
    parts = [(made.adapter(bert, CLASSIFY, "lora", seed=seed, std=0.2), 0.5) for seed in (1, 2)]
    u, s, v = torch.linalg.svd(delta(bert, combine(bert, parts), QUERY))
    for rank in (1, 3):
        cut = combine(bert, parts, "svd", rank=rank)
        assert {patch.A.shape[0] for patch in cut.patches(bert).values() if isinstance(patch, LowRank)} == {rank}
        expected = u[:, :rank] * s[:rank] @ v[:rank]
        torch.testing.assert_close(delta(bert, cut, QUERY), expected, atol=1e-6, rtol=1e-6)
    whole = combine(bert, parts, "svd", rank=1000)
    assert whole.manifest["strategy"]["options"]["r"] == 16
    torch.testing.assert_close(
        delta(bert, whole, QUERY), delta(bert, combine(bert, parts), QUERY), atol=1e-6, rtol=1e-6
    )


def test_a_combination_says_what_it_is_made_of(bert: Base) -> None:
    a, b = (made.adapter(bert, CLASSIFY, "lora", seed=seed) for seed in (1, 2))
    manifest = combine(bert, [(a, 0.7), (b, -0.3)], names=["a@0123456789abcdef", "b"]).manifest
    assert manifest["merged_from"][0] == {"name": "a", "version": "0123456789abcdef", "weight": 0.7}
    assert manifest["merged_from"][1]["weight"] == -0.3
    assert len(manifest["merged_from"][1]["version"]) == 16
    assert manifest["strategy"]["name"] == "lora"
    assert manifest["strategy"]["options"] == {"r": 16, "lora_alpha": 16}
    assert manifest["base"] == a.manifest["base"]


def test_a_language_models_adapters_add_up_without_a_head(base_of: Callable[..., Base], tmp_path: Path) -> None:
    base, task = base_of("gpt2", "text-generation"), task_of("text-generation")
    parts = [(made.adapter(base, task, "lora", seed=seed), weight) for seed, weight in ((1, 1.0), (2, -1.0))]
    combined = combine(base, parts)
    assert combined.manifest["head"] == []
    check_merged(base, combined, tmp_path / "out")


def mistakes(base: Base, other: Base) -> dict[str, tuple[list[tuple[Adapter, float]], dict[str, Any], str]]:
    lora = made.adapter(base, CLASSIFY)
    swapped = made.adapter(base, task_of("text-classification", labels=("pos", "neg")))
    tokens = made.adapter(base, task_of("token-classification"))
    rank = made.adapter(base, CLASSIFY, "lora", r=2)
    full, head = (made.adapter(base, CLASSIFY, strategy) for strategy in ("full", "head-only"))
    foreign = made.adapter(other, CLASSIFY)
    bodiless = made.adapter(base, CLASSIFY)
    bodiless.manifest["head"].remove("classifier.bias")
    one = (lora, 1.0)
    return {
        "none": ([], {}, "no adapters to combine; at least one was expected"),
        "type": ([one], {"combination_type": "ties"}, "no combination type named 'ties'; known: cat, linear, svd"),
        "rank": ([one], {"combination_type": "svd", "rank": 0}, "rank=0, but a rank is at least 1"),
        "rank of cat": ([one], {"rank": 4}, "rank=4 is for combination type svd; that of cat follows"),
        "weight": ([one, (lora, float("nan"))], {}, "'adapter 2' has the weight nan, and a finite number"),
        "weights": ([one, (lora, -1.0)], {}, "the weights 1, -1 sum to 0; heads are averaged by them"),
        "base": ([one, (foreign, 1.0)], {}, "'adapter 2': the adapter was trained on base"),
        "kind": ([one, (full, 1.0)], {}, "'adapter 2' has a patch of kind 'replace' at 'embeddings"),
        "no patch": ([(head, 1.0), one], {}, "'adapter 1' changes nothing but the head"),
        "task": ([one, (tokens, 1.0)], {}, "'adapter 1' is for text-classification, but 'adapter 2' for token-cl"),
        "labels": (
            [one, (swapped, 1.0)],
            {},
            "has 2 labels: neg, pos, but 'adapter 2' 2 labels: pos, neg; the same labels",
        ),
        "head": ([one, (bodiless, 1.0)], {}, r"has the head \{'classifier.bias': \(2,\), .*, but 'adapter 2' \{"),
        "ranks": ([one, (rank, 1.0)], {"combination_type": "linear"}, "needs one rank, .* 'adapter 1' has 8, 'ad"),
    }


def test_what_does_not_add_up_is_said_in_a_line(bert: Base, base_of: Callable[..., Base]) -> None:
    before = state(bert)
    for parts, options, message in mistakes(bert, base_of("roberta")).values():
        with pytest.raises(AdapterError, match=message) as caught:
            combine(bert, parts, **options)
        assert "\n" not in str(caught.value)
    assert same(state(bert), before)


# ---- the command


@pytest.fixture
def trained(adapt: Adapt, small_csv: Path, tiny_folder: Callable[..., Path]) -> None:
    """Train adapters named a, b and full, and one on another base."""
    for name, strategy, seed in (("a", "lora", 0), ("b", "lora", 1), ("full", "full", 0), ("far", "lora", 7)):
        base = tiny_folder("bert", 1) if name == "far" else tiny_folder()
        flags = ["--base", base, "--train-file", small_csv, "--epochs", 1, "--seed", seed, "--name", name]
        done = adapt("run", "--strategy", strategy, *flags)
        assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("trained")
def test_merge_writes_models_and_registers_sums_that_every_command_knows(
    adapt: Adapt, small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    texts = ["lovely food", "a dull film"]
    for name in ("a", "full"):
        done = adapt("merge", name, "--out", f"{name}-model")
        assert done.exit_code == 0, done.output
        assert len(done.stdout.splitlines()) == 1
        loading = f'transformers.AutoModelForSequenceClassification.from_pretrained("{name}-model")'
        assert loading in done.stdout
        theirs = transformers.pipeline("text-classification", model=str(tmp_path / f"{name}-model"))(texts)
        ours = json.loads(adapt("predict", name, *texts, "--json").stdout)
        assert [a["label"] for a in ours] == [a["label"] for a in theirs]
        assert [a["score"] for a in ours] == pytest.approx([a["score"] for a in theirs], abs=1e-5)

    done = adapt("merge", "a:0.7", "b:0.3", "--name", "ab")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("saved      store/ab/")
    assert 'adapt predict ab "…"' in done.stdout
    both = ["merge", "a:0.7", "b:0.3", "--name", "ab", "--combination-type", "svd", "--rank", 3, "--out", "deep/both"]
    report = json.loads(adapt(*both, "--json").stdout)
    assert (report["name"], report["out"], report["task"]) == ("ab", "deep/both", "text-classification")
    assert (tmp_path / report["folder"] / "README.md").read_text().count("| 0.7 |") == 1

    listed = adapt("list")
    assert listed.exit_code == 0, listed.output
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["name", "a", "ab", "b", "far", "full"]
    shown = adapt("show", "ab")
    assert shown.exit_code == 0, shown.output
    assert "version 2 of 2" in shown.stdout
    manifest = json.loads(adapt("show", "ab", "--json").stdout)
    assert [(p["name"], p["weight"]) for p in manifest["merged_from"]] == [("a", 0.7), ("b", 0.3)]
    assert manifest["strategy"]["options"] == {"r": 3, "lora_alpha": 3}
    assert adapt("registry", "rebuild").exit_code == 0

    ours = json.loads(adapt("predict", "ab", *texts, "--json").stdout)
    theirs = transformers.pipeline("text-classification", model=str(tmp_path / "deep" / "both"))(texts)
    assert [a["score"] for a in ours] == pytest.approx([a["score"] for a in theirs], abs=1e-5)
    measured = json.loads(adapt("eval", "ab", "--test-file", small_csv, "--json").stdout)
    assert measured["n"] == 24

    assert adapt("merge", "a", "b", "--out", "sum").exit_code == 0
    alone = json.loads(adapt("merge", "a:0.5", "--out", "half", "--json").stdout)
    assert alone["auto_class"] == "AutoModelForSequenceClassification"
    shutil.copytree(tiny_folder(), tmp_path / "moved")
    assert adapt("merge", "b", "ab", "--name", "more", "--base", "moved").exit_code == 0


MISTAKES = {
    "no name": (["merge"], "Missing argument 'NAME[:WEIGHT]...'"),
    "nowhere": (["merge", "a", "b"], "no destination; expected --out DIR for a model, --name NAME for an adapter, or"),
    "nowhere alone": (["merge", "a"], "no destination"),
    "weight": (["merge", "a:much", "b", "--name", "ab"], "'a:much': weight 'much' is not a number; expected"),
    "no weight": (["merge", "a:", "b", "--name", "ab"], "'a:': weight '' is not a number"),
    "nan": (["merge", "a:nan", "b", "--name", "ab"], "'a:nan': weight 'nan' is not a number"),
    "adapter": (["merge", "a", "bb", "--name", "ab"], "no adapter named 'bb'; did you mean 'b'? registered: a, b"),
    "version": (["merge", "a@zz:0.5", "b", "--name", "ab"], "no version of a named 'zz'"),
    "name": (["merge", "a", "b", "--name", "a/b"], "'a/b' is no adapter's name"),
    "type": (["merge", "a", "b", "--name", "ab", "--combination-type", "ties"], "'ties' is not one of 'cat', 'linear'"),
    "rank": (["merge", "a", "b", "--name", "ab", "--rank", "4"], "rank=4 is for combination type svd"),
    "full": (["merge", "a", "full", "--name", "ab"], "has a patch of kind 'replace' at 'embeddings.word_embeddings'"),
    "half of full": (["merge", "full:0.5", "--out", "half"], "has a patch of kind 'replace' at"),
    "base": (["merge", "a", "far", "--name", "ab"], "the adapter was trained on base"),
    "folder": (["merge", "a", "--out", "store"], "'store' is there already and holds a, b, far, full; give one that"),
    "file": (["merge", "a", "--out", "rows.csv"], "'rows.csv' can't be a folder for the model: Not a directory"),
    "both": (["merge", "a", "b", "--name", "ab", "--out", "store"], "'store' is there already"),
    "moved": (["merge", "a", "--out", "model", "--base", "./nowhere"], "no folder './nowhere'"),
}


@pytest.mark.usefixtures("trained")
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(adapt: Adapt, tmp_path: Path) -> None:
    before = files(tmp_path)
    for args, message in MISTAKES.values():
        done = adapt(*args)
        assert done.exit_code == 2, (args, done.output)
        assert message in done.stderr
        assert len([line for line in done.stderr.splitlines() if "rror" in line]) == 1
    assert files(tmp_path) == before


def files(folder: Path) -> dict[str, int]:
    """Return the files below a folder, and when each was written."""
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}
