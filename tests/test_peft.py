"""Adapters go to PEFT and come from it, and say the same on both sides."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import peft
import pytest
import safetensors.torch
import torch
import transformers
from click.testing import Result

from adapterkit import Adapter, Base, LowRank, Patch, Scale
from adapterkit.convert.export import write_model, write_peft
from adapterkit.convert.peft_import import base_of, imported, task_of
from adapterkit.convert.peft_reader import PeftFolder
from adapterkit.errors import AdapterError, AdapterkitError
from adapterkit.tasks import Task
from adapterkit.testing import tiny
from tests import made, tolerance
from tests.test_merge import OPTIONS, said, without_training
from tests.test_merge import task_of as named_task
from tests.test_strategies import same, state

Adapt = Callable[..., Result]
LABELLED = ("text-classification", "token-classification", "question-answering")
TASKS = (*LABELLED, "text-generation", "text2text-generation")
CLASSIFY = named_task("text-classification")


MIXED = [
    ("bert", "text-classification"),
    ("deberta-v2", "text-classification"),
    ("distilbert", "question-answering"),
    ("llama", "token-classification"),
    ("gpt2", "text-generation"),
    ("t5", "text2text-generation"),
]


def has(family: str, task: str) -> bool:
    """Tell whether transformers has a class for a family and task."""
    auto = getattr(transformers, named_task(task).auto_class)
    return type(tiny.CONFIGS[family]()) in auto._model_mapping


PAIRS = [(family, task) for family in tiny.CONFIGS for task in TASKS if has(family, task)]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function from a family and a task to the folder of a tiny base, made once."""
    known: dict[tuple[str, str], str] = {}

    def folder(family: str, task: str = "text-classification") -> str:
        key = (family, tiny.HEADS.get(task, "AutoModel"))
        if key not in known:
            known[key] = str(tiny.make(family, tmp_path_factory.mktemp(family) / "base", head=key[1]))
        return known[key]

    return folder


@pytest.fixture(scope="module")
def loaded(folder_of: Callable[..., str]) -> Callable[..., Base]:
    """Return a function from a family and a task to its tiny base, loaded once."""
    known: dict[str, Base] = {}

    def base(family: str, task: str = "text-classification") -> Base:
        folder = folder_of(family, task)
        if folder not in known:
            known[folder] = Base.load(folder)
        return known[folder]

    return base


def plain_model(base: str, task: Task) -> Any:
    return getattr(transformers, task.auto_class).from_pretrained(base, **task.config())


def through_peft(base: str, task: Task, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Conv1D's layout
        return peft.PeftModel.from_pretrained(plain_model(base, task), folder).eval()


def check_equal(base: Base, adapter: Adapter, theirs: Any) -> None:
    with adapter.attached(base) as ours:
        name = adapter.task.name
        tolerance.assert_near(said(ours, name), said(theirs, name), tolerance.of_base(base))


def written(adapter: Adapter, folder: Path) -> Path:
    folder.mkdir()
    for name, data in adapter.files().items():
        (folder / name).write_bytes(data)
    return folder


# ---- ours, in PEFT


@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_a_lora_adapter_of_ours_is_a_peft_folder(
    family: str, name: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base, task = loaded(family, name), named_task(name)
    adapter = made.adapter(base, task, "lora", std=0.2)
    folder = written(adapter, tmp_path / "a")
    check_equal(base, adapter, through_peft(base.path, task, folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    stored = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    modules = {key.removesuffix(".lora_A.weight") for key in stored if key.endswith(".lora_A.weight")}
    assert modules == {f"base_model.model.{module}" for module in config["target_modules"]}
    assert (config["peft_type"], config["task_type"]) == ("LORA", task.peft_task_type)
    assert (config["r"], config["lora_alpha"]) == (8, 16)


def test_a_pooler_that_the_checkpoint_lacks_is_saved_as_a_part_of_the_head(
    loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base = loaded("bert", "fill-mask")
    adapter = made.adapter(base, CLASSIFY, "lora", std=0.2)
    folder = written(adapter, tmp_path / "a")
    assert json.loads((folder / "adapter_config.json").read_text())["modules_to_save"] == ["bert.pooler", "classifier"]
    check_equal(base, adapter, through_peft(base.path, CLASSIFY, folder))


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(("strategy", "options"), [("ia3", {}), ("lora", {"use_dora": True})])
def test_ia3_and_dora_adapters_of_ours_are_pefts(
    strategy: str, options: dict[str, Any], family: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base = loaded(family)
    adapter = made.adapter(base, CLASSIFY, strategy, std=0.2, **options)
    folder = written(adapter, tmp_path / "a")
    check_equal(base, adapter, through_peft(base.path, CLASSIFY, folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"] == {"ia3": "IA3", "lora": "LORA"}[strategy]
    assert config.get("use_dora", False) is bool(options)


def scales(base: Base) -> dict[str, Patch]:
    key, out = ("encoder.layer.0.attention.self.key", "encoder.layer.1.output.dense")
    return {key: Scale(torch.rand(32), "outputs"), out: Scale(torch.rand(48), "inputs")}


def test_what_peft_has_no_adapter_for_is_refused_with_the_reason(loaded: Callable[..., Base], tmp_path: Path) -> None:
    base, query = loaded("bert"), "encoder.layer.0.attention.self.query"
    mask = named_task("fill-mask")
    both = {query: LowRank(torch.rand(2, 32), torch.rand(32, 2), 1.0), **scales(base)}
    refused = {
        "nothing but the head": made.adapter(base, CLASSIFY, "head-only"),
        "of patches of kind replace, and only those": made.adapter(base, CLASSIFY, "layerwise"),
        "of patches of kind low-rank, scale": without_training(base, CLASSIFY, both),
        "tied to the base at 'cls.predictions.decoder.weight'": made.adapter(base, mask, "lora"),
    }
    for reason, adapter in refused.items():
        with pytest.raises(AdapterError, match=reason):
            write_peft(adapter, tmp_path / "out")
        assert "adapter_config.json" not in adapter.files()
    assert not (tmp_path / "out").exists()


# ---- PEFT's, here

KINDS: dict[str, Callable[..., Any]] = {
    "rslora": lambda **kw: peft.LoraConfig(
        r=4,
        use_rslora=True,
        rank_pattern={"(query|q_proj|q|c_attn|q_lin)": 2},
        alpha_pattern={"1.*(query|q_proj|q|c_attn|q_lin)": 12.0},
        **kw,
    ),
    "lora_bias": lambda **kw: peft.LoraConfig(r=4, lora_bias=True, **kw),
    "dora": lambda **kw: peft.LoraConfig(r=4, use_dora=True, **kw),
    "ia3": lambda **kw: peft.IA3Config(feedforward_modules=kw["target_modules"][:1], **kw),
}
TARGETS = {
    "bert": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
    "t5": ["q", "v"],
    "deberta-v2": ["query_proj", "value_proj"],
}
HEADS = {"t5": ["classification_head"], "deberta-v2": ["pooler", "classifier"]}


def of_peft(base: str, task: Task, folder: Path, config: Any) -> Any:
    """Make an adapter with PEFT, move its weights at random, and save it; return PEFT's model."""
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(plain_model(base, task), config).eval()
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(torch.randn_like(p) * 0.1)
        model.save_pretrained(folder)
    return model


def config_of(kind: str, family: str, task: Task, **more: Any) -> Any:
    heads = HEADS.get(family) if task.name == "text-classification" else None
    both = {"modules_to_save": heads, "target_modules": TARGETS[family], **more}
    return KINDS[kind](task_type=task.peft_task_type, **both)


def taken(folder: Path, base: Base, task: str | None = None, **options: Any) -> Adapter:
    read = PeftFolder.read(str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return imported(read, base, task_of(read, task), options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("family", "name"), MIXED)
def test_what_peft_made_says_here_what_it_says_there_and_goes_back(
    family: str, name: str, kind: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base, task = loaded(family, name), named_task(name)
    before = state(base)
    theirs = of_peft(base.path, task, tmp_path / "theirs", config_of(kind, family, task))
    options = {key: value for key, value in OPTIONS.get(name, {}).items() if key == "labels"}
    adapter = taken(tmp_path / "theirs", base, **options)
    assert adapter.task.config() == task.config()
    check_equal(base, adapter, theirs)
    check_equal(base, adapter, through_peft(base.path, task, tmp_path / "theirs"))
    back = write_peft(adapter, tmp_path / "back")
    check_equal(base, adapter, through_peft(base.path, task, back))
    assert same(state(base), before)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize(("family", "name"), [("bert", "text-classification"), ("gpt2", "text-generation")])
def test_biases_that_learned_beside_lora_are_taken_in(
    family: str, name: str, bias: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base, task = loaded(family, name), named_task(name)
    theirs = of_peft(base.path, task, tmp_path / "theirs", config_of("rslora", family, task, bias=bias))
    adapter = taken(tmp_path / "theirs", base)
    kinds = {patch["kind"] for patch in adapter.manifest["patches"].values()}
    assert kinds == ({"low-rank", "replace"} if bias == "all" else {"low-rank"})
    check_equal(base, adapter, theirs)


def test_modules_of_the_base_and_tied_output_embeddings_that_were_saved_whole_are_replaced(
    loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base, task = loaded("gpt2", "text-generation"), named_task("text-generation")
    config = config_of("rslora", "gpt2", task, modules_to_save=["ln_f", "lm_head"])
    theirs = of_peft(base.path, task, tmp_path / "theirs", config)
    adapter = taken(tmp_path / "theirs", base)
    assert adapter.manifest["untied"]
    assert adapter.manifest["head"] == ["lm_head.weight"]
    assert adapter.manifest["patches"]["ln_f"]["kind"] == "replace"
    check_equal(base, adapter, theirs)


def test_a_task_without_a_type_of_pefts_is_named_and_labels_come_from_the_base(
    folder_of: Callable[..., str], tmp_path: Path
) -> None:
    base, choice = Base.load(folder_of("bert")), named_task("multiple-choice")
    config = config_of("rslora", "bert", choice, modules_to_save=["classifier"])
    theirs = of_peft(base.path, choice, tmp_path / "choice", config)
    with pytest.raises(AdapterError, match="has task_type None; name the task: --task question-answering, mult"):
        taken(tmp_path / "choice", base)
    check_equal(base, taken(tmp_path / "choice", base, "multiple-choice"), theirs)

    of_peft(base.path, CLASSIFY, tmp_path / "two", config_of("rslora", "bert", CLASSIFY))
    assert taken(tmp_path / "two", base).task.labels == ("LABEL_0", "LABEL_1")  # type: ignore[attr-defined]
    base.model.config.id2label = {0: "bad", 1: "good"}
    assert taken(tmp_path / "two", base).task.labels == ("bad", "good")  # type: ignore[attr-defined]
    number = named_task("text-classification", labels=(), problem_type="regression")
    of_peft(base.path, number, tmp_path / "one", config_of("rslora", "bert", number))
    assert taken(tmp_path / "one", base).task.summary() == "a number"


def edited(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"peft_type": "PREFIX_TUNING"}, "peft_type is 'PREFIX_TUNING'; those taken in are LORA, IA3"),
    "variant": ({"use_qalora": True}, "use_qalora=True is a kind of LORA that can't be taken in"),
    "unknown": ({"run_this": "os.system"}, "run_this=os.system is a kind of LORA that can't"),
    "type": ({"r": "8"}, "r='8' is not what PEFT writes there"),
    "alpha": ({"lora_alpha": -1}, "lora_alpha='-1' is not what PEFT writes"),
    "slow pattern": ({"alpha_pattern": {"(e|e|n)+x": 2.0}}, "is not what PEFT writes there"),
    "wild pattern": ({"alpha_pattern": {".*.*.*.*.*x": 2.0}}, "is not what PEFT writes there"),
    "no pattern": ({"alpha_pattern": {"(query": 2.0}}, "is not what PEFT writes there"),
    "pattern": ({"alpha_pattern": {"query": "x"}}, "alpha_pattern=\"{'query': 'x'}\" is not what"),
    "targets": ({"target_modules": [["query"]]}, "is not what PEFT writes there"),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights=pissa_niter_4 changed the base's own"),
    "rank": ({"r": 3}, "PEFT doesn't take it: Error.* size mismatch"),
    "labels": ({}, "the head has 2 outputs, and labels=a,b,c names 3"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_is_not_right_is_refused_in_a_line(
    case: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    fields, message = CONFIGS[case]
    base = loaded("bert")
    of_peft(base.path, CLASSIFY, tmp_path / "a", config_of("rslora", "bert", CLASSIFY))
    edited(tmp_path / "a", **fields)
    with pytest.raises(AdapterkitError, match=message) as caught:
        taken(tmp_path / "a", base, **({"labels": "a,b,c"} if case == "labels" else {}))
    assert "\n" not in str(caught.value)


def test_what_peft_would_compute_otherwise_is_refused(
    loaded: Callable[..., Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = loaded("bert")
    of_peft(base.path, CLASSIFY, tmp_path / "a", config_of("rslora", "bert", CLASSIFY))
    forward = LowRank.outputs
    monkeypatch.setattr(LowRank, "outputs", lambda self, x, y: forward(self, x, y) * 1.001)
    with pytest.raises(AdapterError, match=r"through PEFT, base .* gives other logits, by .* isn't taken in"):
        taken(tmp_path / "a", base)


def test_tensors_without_a_place_here_are_refused(loaded: Callable[..., Base], tmp_path: Path) -> None:
    base, path = loaded("bert"), tmp_path / "a" / "adapter_model.safetensors"
    of_peft(base.path, CLASSIFY, tmp_path / "a", config_of("rslora", "bert", CLASSIFY))
    whole = safetensors.torch.load_file(path)
    layer, row = "base_model.model.bert.encoder.layer.", "base_model.model.bert.embeddings.word_embeddings.weight"
    changes: dict[str, dict[str, Any]] = {
        "lacks 1 tensors of the head of a BertForSequenceClassification, first 'classifier.bias'": {
            "base_model.model.classifier.bias": None
        },
        r"holds no head for AutoModelForSequenceClassification, .* modules_to_save=classifier": {
            "base_model.model.classifier.bias": None,
            "base_model.model.classifier.weight": None,
        },
        "changes a module 'bert.encoder.layer.9.attention.self.query', which base": {
            f"{layer}9.attention.self.query.lora_A.weight": torch.zeros(4, 32)
        },
        r"'embeddings.word_embeddings.weight' is \(305, 32\), but that of base .* \(300, 32\)": {
            row: torch.zeros(305, 32)
        },
        "'prompt' has no place in a BertModel or its head": {"base_model.model.bert.prompt": torch.zeros(3)},
        "a low-rank patch is lora_A.weight, lora_B": {f"{layer}0.attention.self.query.lora_B.weight": None},
        "holds what is no finite number": {
            f"{layer}0.attention.self.query.lora_B.weight": torch.full((32, 4), torch.inf)
        },
    }
    for message, change in changes.items():
        tensors = {key: value for key, value in {**whole, **change}.items() if value is not None}
        safetensors.torch.save_file(tensors, path)
        with pytest.raises(AdapterError, match=message):
            taken(tmp_path / "a", base)
    path.rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"no adapter_model.safetensors; adapter_model.bin can hold code and isn't"):
        PeftFolder.read(str(tmp_path / "a"))


# ---- the commands


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
    assert [a["score"] for a in found] == pytest.approx(logits.softmax(-1).amax(-1).tolist(), abs=1e-6)
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
        ("export", "theirs", "--format", "onnx", "--to", "x"): "'onnx' is not one of 'peft', 'merged', 'gguf-ready'",
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
