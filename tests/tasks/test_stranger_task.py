"""A stranger's task of a kind that adapterkit has none of works everywhere, with no line of the core changed."""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from adapterkit import Base, Pool, Registry, predict
from adapterkit.base.tracing import forward_arguments
from tests.helpers import tolerance
from tests.helpers.cli import Adapt
from tests.helpers.families import slow
from tests.helpers.files import ROOT

PACKAGE = ROOT / "tests" / "strangers" / "adapterkit-attributes"


COLORS, SIZES, THINGS = ("red", "green", "blue"), ("big", "small"), ("box", "ball", "hat", "cup")


TEXTS = ["a big red box", "the small blue ball that is red no more", "green and small is this hat"]


VALUES = "color=blue|green|red,size=big|small"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the package by pip into a folder of its own, and put that on the path."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(source)], check=True)
    sys.path.insert(0, str(folder / "site"))
    importlib.invalidate_caches()
    yield
    sys.path.remove(str(folder / "site"))
    for module in ("adapterkit_attributes", "adapterkit_attributes_head"):
        sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write rows of a text, a color and a size."""
    path = tmp_path_factory.mktemp("rows") / "things.csv"
    lines = [f"a {s} {c} {t},{c},{s}" for c, s, t in itertools.product(COLORS, SIZES, THINGS)]
    path.write_text("\n".join(["text,color,size", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def base_folder(tiny_folder: Callable[..., Path]) -> Path:
    return tiny_folder()


@pytest.fixture
def trained(adapt: Adapt, rows: Path, base_folder: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that trains an adapter by a strategy and returns the report of the run."""

    def train(name: str, strategy: str, *flags: object) -> dict[str, Any]:
        command = ["run", "--task", "attributes", "--train-file", rows, "--validation-file", rows, "--base"]
        done = adapt(*command, base_folder, "--strategy", strategy, "--name", name, *flags, "--json")
        assert done.exit_code == 0, done.output
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    return train


@pytest.mark.parametrize(
    ("strategy", "flags", "least"),
    [
        ("lora", ["--epochs", "40", "--lr", "1e-2"], 0.7),
        ("head-only", [], 0.5),  # solved as a linear probe
        *slow(
            ("full", ["--epochs", "30", "--lr", "2e-3"], 0.9),
            ("head-only", ["--head", "model", "--epochs", "40", "--lr", "1e-2"], 0.5),
            ("lora", ["--head-init", "auto", "--epochs", "1", "--gradient-checkpointing"], 0.0),
        ),
    ],
    ids=["lora", "probe", "full", "head", "checkpointed"],
)
def test_it_trains_is_evaluated_and_served(
    strategy: str, flags: list[str], least: float, trained: Any, adapt: Adapt, rows: Path, base_folder: Path
) -> None:
    report = trained("things", strategy, *flags)
    measured = report["metrics"]["validation"]
    assert {"all_right", "color", "size"} < set(measured)
    assert measured["all_right"] >= least
    again = json.loads(adapt("eval", "things", "--test-file", rows, "--json").stdout)
    assert again["all_right"] == pytest.approx(measured["all_right"], abs=0.05)
    adapter = Registry(Path("registry.json")).load("things")
    assert ("probe" in adapter.manifest) == (strategy == "head-only" and not flags)
    base = Base.load(str(base_folder))
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    answers = predict(base, adapter, TEXTS)
    assert all(answer["color"] in COLORS and answer["size"] in SIZES for answer in answers)
    with Pool(base, {"things": adapter}) as pool:
        assert pool.predict(TEXTS, adapter="things") == tolerance.near(answers, tolerance.of_base(base))
    assert all(torch.equal(p, before[name]) for name, p in base.model.named_parameters())


@pytest.mark.slow
def test_two_of_them_and_another_task_answer_in_one_batch(
    trained: Any, adapt: Adapt, small_csv: Path, base_folder: Path
) -> None:
    trained("one", "lora", "--epochs", "8", "--lr", "1e-2")
    trained("two", "lora", "--epochs", "8", "--lr", "1e-2", "--seed", "7")
    trained("solved", "head-only")
    done = adapt("run", "--train-file", small_csv, "--base", base_folder, "--epochs", "1", "--name", "mood")
    assert done.exit_code == 0, done.output
    registry, base = Registry(Path("registry.json")), Base.load(str(base_folder))
    names = ["one", "two", "solved", "mood"]
    adapters = {name: registry.load(name) for name in names}
    texts, asked = [text for text in TEXTS for _ in names], names * len(TEXTS)
    with Pool(base, adapters) as pool:
        together = pool.predict(texts, adapter_of_each=asked)
        logits = {name: pool.outputs(TEXTS, adapter=name) for name in names[:3]}
    for text, name, answer in zip(texts, asked, together, strict=True):
        alone = predict(base, adapters[name], [text])[0]
        assert {k: v for k, v in alone.items() if k != "score"} == {k: v for k, v in answer.items() if k != "score"}
    assert not np.allclose(logits["one"], logits["two"], atol=1e-3)  # else the heads may have been exchanged


def test_the_command_line_answers_a_file_in_one_cell_for_each_adapter(trained: Any, adapt: Adapt, rows: Path) -> None:
    trained("one", "head-only")
    trained("two", "head-only", "--head", "model", "--epochs", "1")
    lines = adapt("predict", "one", "--file", rows, "--format", "jsonl").stdout.splitlines()
    assert set(json.loads(lines[0])) == {"text", "color", "size", "predicted_color", "predicted_size"}
    header, first, *_ = adapt("predict", "one,two", "--file", rows, "--format", "csv").stdout.splitlines()
    assert header == "text,color,size,one,two"
    color, size = first.split(",")[3].split(" ")
    assert color in COLORS
    assert size in SIZES


def outputs(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(**batch).logits
        return logits


def batch_of(base: Base) -> dict[str, Any]:
    features = base.tokenizer(TEXTS, padding=True, return_tensors="pt")
    return forward_arguments(base.model, {key: features[key] for key in ("input_ids", "attention_mask")})


def test_peft_loads_what_is_exported(trained: Any, adapt: Adapt, base_folder: Path, tmp_path: Path) -> None:
    trained("things", "lora", "--epochs", "8", "--lr", "1e-2")
    done = adapt("export", "things", "--format", "peft", "--to", tmp_path / "peft")
    assert done.exit_code == 0, done.output
    base, adapter = Base.load(str(base_folder)), Registry(Path("registry.json")).load("things")
    with adapter.attached(base) as model:
        ours = outputs(model, batch_of(base))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(adapter.task.unshared_model(base), tmp_path / "peft").eval()
    tolerance.assert_near(ours, outputs(theirs, batch_of(base)), tolerance.of_base(base))
    refused = adapt("export", "things", "--format", "merged", "--to", tmp_path / "merged")
    assert refused.exit_code == 2
    assert "the head of task 'attributes' is its own" in refused.stderr


def test_what_peft_trained_is_imported(adapt: Adapt, base_folder: Path, tmp_path: Path) -> None:
    from adapterkit.tasks import task_class

    base = Base.load(str(base_folder))
    task = task_class("attributes")(attributes=("color", "size"), values=tuple(VALUES.split(",")))
    config = peft.LoraConfig(r=4, target_modules=["query", "value"], modules_to_save=["head"])
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(task.unshared_model(base), config).eval()
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(torch.randn_like(p) * 0.1)
        model.save_pretrained(tmp_path / "theirs")
    command = ["import", tmp_path / "theirs", "--name", "theirs", "--base", base_folder, "--task", "attributes"]
    refused = adapt(*command, "--task-option", "attributes=color,size")
    assert refused.exit_code == 2
    assert "values of color, size were expected" in refused.stderr
    done = adapt(*command, "--task-option", "attributes=color,size", "--task-option", f"values={VALUES}")
    assert done.exit_code == 0, done.output
    adapter = Registry(Path("registry.json")).load("theirs")
    with adapter.attached(base) as ours:
        tolerance.assert_near(outputs(ours, batch_of(base)), outputs(model, batch_of(base)), tolerance.of_base(base))
    with Pool(base, {"theirs": adapter}) as pool:
        expected = predict(base, adapter, TEXTS)
        assert pool.predict(TEXTS, adapter="theirs") == tolerance.near(expected, tolerance.of_base(base))
