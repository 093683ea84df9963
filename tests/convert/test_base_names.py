"""PEFT folders name a base that others find, and have its tokenizer and the user's labels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import transformers
from click.testing import Result

from adapterkit import Adapter, Base, Registry
from adapterkit.adapter.manifest import MANIFEST, PEFT_CONFIG
from adapterkit.base import find_base
from adapterkit.base.checkpoint import hub_id
from adapterkit.convert.export import write_peft
from adapterkit.convert.peft_import import base_of
from adapterkit.convert.peft_reader import PeftFolder
from adapterkit.errors import AdapterError
from adapterkit.io.atomic import json_bytes, sha256, version_of
from adapterkit.store.publish import publish
from adapterkit.tasks import Task
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import said
from tests.helpers.adapters import task_of as named_task
from tests.helpers.hub_server import Hub, Repo
from tests.helpers.peft import taken, written

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
LABELS = ("bug", "question", "praise", "spam")
TASKS: dict[str, Task] = {
    "text-classification": named_task("text-classification", labels=LABELS),
    "token-classification": named_task("token-classification", labels=("O", "B-X", "I-X", "B-Y", "I-Y")),
}


def config_in(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / PEFT_CONFIG).read_text())
    return config


# ---- which base is named


def test_a_stored_adapter_names_the_hub_id_of_its_base_as_its_card_does(minilm: Base, registry: Registry) -> None:
    adapter = made.adapter(minilm, TASKS["text-classification"])
    folder = registry.folder("a", publish(registry, "a", adapter).version)
    assert config_in(folder)["base_model_name_or_path"] == MINILM
    assert f"base_model: {MINILM}" in (folder / "README.md").read_text()
    assert Adapter.load(folder).manifest["base"]["name"] == "minilm"  # by which we load it
    assert base_of(PeftFolder.read(str(folder)), None).name == "minilm"


def test_an_exported_adapter_names_the_hub_id_and_not_a_folder_of_this_machine(minilm: Base, tmp_path: Path) -> None:
    adapter = made.adapter(minilm, TASKS["text-classification"])
    assert config_in(write_peft(adapter, tmp_path / "a"))["base_model_name_or_path"] == MINILM
    before = {**adapter.manifest["base"]}
    before.pop("hub_id")  # as adapters were saved before they had it
    older = Adapter({**adapter.manifest, "base": before}, adapter.tensors)
    assert config_in(write_peft(older, tmp_path / "b"))["base_model_name_or_path"] == MINILM
    path = str(Path(find_base("minilm")))
    assert config_in(write_peft(adapter, tmp_path / "c", base=path))["base_model_name_or_path"] == path  # as requested


@pytest.fixture
def snapshot(tiny_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a base in a folder as the Hub's cache has it."""
    folder = tmp_path / "hub" / "models--an-owner--a.base" / "snapshots" / ("0123456789" * 4)
    return Path(shutil.copytree(tiny_folder(), folder))


def test_a_base_in_the_cache_of_the_hub_has_its_id(snapshot: Path, tmp_path: Path) -> None:
    base = Base.load(str(snapshot))
    assert base.hub_id == "an-owner/a.base"
    adapter = made.adapter(base, TASKS["text-classification"])
    assert config_in(written(adapter, tmp_path / "a"))["base_model_name_or_path"] == "an-owner/a.base"
    assert config_in(write_peft(adapter, tmp_path / "b"))["base_model_name_or_path"] == "an-owner/a.base"


def test_where_a_base_has_a_hub_id(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "models--one" / "snapshots").mkdir(parents=True)
    one = Path(shutil.copytree(tiny_folder(), tmp_path / "models--gpt2" / "snapshots" / ("a" * 40)))
    assert hub_id(str(one), str(one)) == "gpt2"
    assert hub_id(f"{one}/", str(one)) == "gpt2"
    assert hub_id(str(tiny_folder()), "x") is None
    assert hub_id("owner/name", "owner/name") == "owner/name"
    assert hub_id(find_base("minilm"), "minilm") == hub_id(find_base("minilm"), find_base("minilm")) == MINILM


def test_an_adapter_saved_with_the_short_name_loads_verifies_and_is_written_in_the_same_bytes(
    minilm: Base, registry: Registry, adapt: Callable[..., Result]
) -> None:
    files = made.adapter(minilm, TASKS["text-classification"]).files()
    config = json_bytes({**json.loads(files[PEFT_CONFIG]), "base_model_name_or_path": "minilm"})
    manifest = json.loads(files[MANIFEST])
    manifest["files"][PEFT_CONFIG] = {"sha256": sha256(config), "bytes": len(config)}
    before = {**files, PEFT_CONFIG: config, MANIFEST: json_bytes(manifest)}
    folder = registry.folder("old", version_of(before[MANIFEST]))
    folder.mkdir(parents=True)
    for name, data in before.items():
        (folder / name).write_bytes(data)
    adapter = Adapter.load(folder)
    assert adapter.files() == before
    adapter.check_base(minilm)
    publish(registry, "old", adapter)
    assert adapt("verify", "old", "--registry", registry.path).exit_code == 0
    assert registry.folder("old", registry.resolve("old")[1]) == folder


# ---- the tokenizer and the labels


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_an_exported_folder_has_the_tokenizer_and_the_labels(
    name: str, family: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base, task = loaded(family), TASKS[name]
    folder = write_peft(made.adapter(base, task), tmp_path / "a")
    config = transformers.AutoConfig.from_pretrained(folder / "task_config.json")
    assert list(config.id2label.values()) == list(task.config()["label2id"])
    assert config.architectures == [type(base.task_model(task.auto_class)).__name__]
    assert config.pad_token_id is not None
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "lovely food, dull film"
    assert tokenizer(text)["input_ids"] == base.tokenizer(text)["input_ids"]
    assert tokenizer.pad_token is not None


@pytest.mark.parametrize(("family", "name"), [("gpt2", "text-generation"), ("t5", "text2text-generation")])
def test_a_task_without_labels_has_no_config_so_that_transformers_loads_the_base(
    family: str, name: str, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base, task = loaded(family, name), named_task(name)
    adapter = made.adapter(base, task)
    folder = write_peft(adapter, tmp_path / "a")
    assert not (folder / "config.json").exists()
    theirs = getattr(transformers, task.auto_class).from_pretrained(folder).eval()  # which reads PEFT folders, too
    with adapter.attached(base) as ours:
        tolerance.assert_near(said(ours, name), said(theirs, name), tolerance.of_base(base))


def test_a_base_without_a_tokenizer_to_load_is_one_line(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_folder(), tmp_path / "base"))
    adapter = made.adapter(Base.load(str(path)), TASKS["text-classification"])
    (path / "config.json").unlink()
    with pytest.raises(AdapterError, match=r"the tokenizer of base '.*base' can't be loaded"):
        write_peft(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_exported_folder_comes_back_with_its_labels(loaded: Callable[..., Base], tmp_path: Path) -> None:
    base = loaded("bert")
    adapter = made.adapter(base, TASKS["text-classification"])
    folder = write_peft(adapter, tmp_path / "a")
    assert taken(folder, base).task.labels == LABELS  # type: ignore[attr-defined]
    for odd in (
        '{"id2label": {"0": "a"}}',
        '{"id2label": [1, 2]}',
        "[",
        '{"id2label": {"0": 1, "1": 2, "2": 3, "3": 4}}',
    ):
        (folder / "task_config.json").write_text(odd)
        assert taken(folder, base).task.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")  # type: ignore[attr-defined]


def test_labels_come_from_a_config_json_where_the_folder_has_no_other(
    loaded: Callable[..., Base], tmp_path: Path
) -> None:
    base = loaded("bert")
    folder = write_peft(made.adapter(base, TASKS["text-classification"]), tmp_path / "a")
    (folder / "task_config.json").rename(folder / "config.json")  # as other tools write it
    assert taken(folder, base).task.labels == LABELS  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
def test_a_classifier_on_a_base_without_a_padding_token_is_imported(family: str, name: str, tmp_path: Path) -> None:
    path, task = tiny.make("llama" if family == "mistral" else family, tmp_path / "base"), TASKS[name]
    if family == "mistral":  # whose layers are Llama's
        about = {
            **json.loads((path / "config.json").read_text()),
            "model_type": family,
            "architectures": ["MistralModel"],
        }
        (path / "config.json").write_text(json.dumps(about))
    for file, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        stated = json.loads((path / file).read_text())
        stated.pop(key, None)
        (path / file).write_text(json.dumps(stated))
    model = getattr(transformers, task.auto_class).from_pretrained(path, **task.config())
    targets = ["c_attn"] if family == "gpt2" else ["q_proj"]
    config = peft.LoraConfig(task_type=task.peft_task_type, target_modules=targets)
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "theirs")
    adapter = taken(tmp_path / "theirs", Base.load(str(path)), labels=task.labels)  # type: ignore[attr-defined]
    assert adapter.task.config() == task.config()


# ---- on another machine


@pytest.fixture(scope="module")
def hub(folder_of: Callable[..., str]) -> Iterator[Hub]:
    """Run a Hub that has the bases."""
    with Hub().running() as server:
        for family in ("bert", "gpt2"):
            files = {file.name: file.read_bytes() for file in Path(folder_of(family)).iterdir()}
            server.repos[f"an/{family}"] = Repo(branches={"main": files})
            server.repos[f"an/{family}"].commit("main")
        yield server


ELSEWHERE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import peft, torch, transformers

def answered(folder, kind, task, text):
    config = transformers.AutoConfig.from_pretrained(f"{folder}/task_config.json")
    labels = {key: getattr(config, key) for key in ("num_labels", "id2label", "label2id", "pad_token_id")}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    auto = getattr(transformers, f"AutoModelFor{kind}")
    of_peft = getattr(peft, f"AutoPeftModelFor{kind}").from_pretrained(folder, **labels).eval()
    pipe = transformers.pipeline(task, model=folder, tokenizer=folder, model_kwargs=labels)
    models = {
        "peft": of_peft,
        "labels": auto.from_pretrained(folder, **labels).eval(),
        "config": auto.from_pretrained(folder, config=config).eval(),
        "pipeline": pipe.model,
    }
    batch = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = {name: model(**batch).logits.tolist() for name, model in models.items()}
    names = {name: list(model.config.id2label.values()) for name, model in models.items()}
    answers = pipe([text, text + " " + text], batch_size=2)
    try:
        auto.from_pretrained(folder)
        without = "loaded"
    except RuntimeError as error:
        without = str(error)
    return {"base": of_peft.peft_config["default"].base_model_name_or_path, "logits": logits, "names": names,
            "answer": answers[0], "count": len(answers), "without": without}

print(json.dumps([answered(*job) for job in json.loads(sys.argv[1])], default=float))
"""


CASES = [
    ("bert", "text-classification", "SequenceClassification"),
    ("gpt2", "token-classification", "TokenClassification"),  # whose tokenizer has no token for padding
]


@pytest.mark.slow
def test_every_loader_of_transformers_and_peft_answers_elsewhere_with_the_labels(
    hub: Hub, loaded: Callable[..., Base], tmp_path: Path
) -> None:
    text, adapters, jobs = "lovely food", {}, []
    for family, name, kind in CASES:  # one process, whose imports take longer than the rest
        adapters[family] = made.adapter(loaded(family), TASKS[name], std=0.2)
        adapters[family].manifest["base"]["hub_id"] = f"an/{family}"
        write_peft(adapters[family], tmp_path / family)
        jobs.append([family, kind, name, text])
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}
    command = [sys.executable, "-c", ELSEWHERE, json.dumps(jobs)]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    for (family, name, _), theirs in zip(CASES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        check_answers(loaded(family), adapters[family], theirs, name, family, text)


def check_answers(base: Base, adapter: Adapter, theirs: dict[str, Any], name: str, family: str, text: str) -> None:
    assert (theirs["base"], theirs["count"]) == (f"an/{family}", 2)
    batch = base.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    with adapter.attached(base) as ours:
        logits = ours(**batch).logits
    names = list(TASKS[name].config()["label2id"])
    for loader, values in theirs["logits"].items():
        tolerance.assert_near(values, logits, tolerance.of_base(base))
        assert theirs["names"][loader] == names
    assert "ignore_mismatched_sizes" in theirs["without"]  # the base has 2 labels: a refusal, and no wrong answer
    if name == "text-classification":
        assert theirs["answer"]["label"] == LABELS[int(logits.argmax())]
    else:
        assert {word["entity"] for word in theirs["answer"]} <= set(names)
