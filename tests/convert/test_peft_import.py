"""Adapters of PEFT are imported, with equal outputs, and exported again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adapterkit import Base, LowRank
from adapterkit.convert.export import write_peft
from adapterkit.convert.peft_import import _USUAL
from adapterkit.convert.peft_reader import PeftFolder
from adapterkit.errors import AdapterError, AdapterkitError
from adapterkit.tasks import TASKS
from tests.helpers.adapters import OPTIONS
from tests.helpers.adapters import task_of as named_task
from tests.helpers.bases import same, state
from tests.helpers.peft import CLASSIFY, KINDS, MIXED, check_equal, config_of, of_peft, taken, through_peft


@pytest.mark.product
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


def test_every_type_of_pefts_is_one_task() -> None:
    types = Counter(task.peft_task_type for task in TASKS.values() if task.peft_task_type)
    assert {kind for kind, count in types.items() if count > 1} == set(_USUAL)
    assert all(TASKS[name].peft_task_type == kind for kind, name in _USUAL.items())


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
