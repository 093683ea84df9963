"""A base comes from a folder, an installed package, or the Hub's cache, at the revision that is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from adapterkit import Base
from adapterkit.base.checkpoint import HUB_IDS, find_base, known_as
from adapterkit.base.heads import Unfilled
from adapterkit.errors import BaseModelError
from adapterkit.testing import tiny
from tests.helpers import tolerance


def loaded(cache: Path, *asked: tuple[str, str | None]) -> list[dict[str, Any]]:
    """Load bases, each a name and a revision, in a process of its own, offline, with `cache` as the Hub's cache."""
    code = f"""
import json, transformers
transformers.logging.disable_progress_bar()
from adapterkit import Base
from adapterkit.base import HUB_IDS, find_base, known_as
from adapterkit.errors import BaseModelError
for name, revision in {asked!r}:
    try:
        base = Base.load(name, revision=revision)
        print(json.dumps({{"fingerprint": base.fingerprint, "head": sorted(base.pretrained_head)}}))
    except BaseModelError as error:
        print(json.dumps({{"error": str(error)}}))
"""
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()[-len(asked) :]]


def test_an_installed_base_has_its_short_name_wherever_it_is_named_from() -> None:
    assert known_as(find_base("minilm")) == known_as(HUB_IDS["minilm"]) == known_as("minilm") == "minilm"
    assert known_as("no/where") == "no/where"


@pytest.mark.slow
def test_a_base_in_the_hubs_cache_is_loaded_at_its_revision_with_its_head(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--tiny"
    commits = {"main": "1" * 40, "v2": "2" * 40}
    for seed, (name, commit) in enumerate(commits.items()):
        tiny.make("bert", repository / "snapshots" / commit, seed=seed, head="AutoModelForMaskedLM")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(commit)
    here = {name: Base.load(str(repository / "snapshots" / commit)) for name, commit in commits.items()}
    assert here["main"].fingerprint != here["v2"].fingerprint
    assert here["v2"].pretrained_head
    *named, default, other = loaded(
        tmp_path, *(("owner/tiny", name) for name in commits), ("owner/tiny", None), ("owner/other", None)
    )
    for name, found in zip(commits, named, strict=True):
        assert found == {"fingerprint": here[name].fingerprint, "head": sorted(here[name].pretrained_head)}
    assert default["fingerprint"] == here["main"].fingerprint
    missing = other["error"]
    assert "no base named 'owner/other'" in missing
    assert "HF_HUB_OFFLINE is set" in missing
    assert "\n" not in missing


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert", "electra"])
def test_the_checkpoints_own_masked_language_head_is_read_whole(family: str, tmp_path: Path) -> None:
    folder = tiny.make(family, tmp_path / "base", head="AutoModelForMaskedLM")
    assert_same_logits(folder, "AutoModelForMaskedLM")


@pytest.mark.parametrize(("family", "task"), [("t5", "text2text-generation"), ("gpt2", "text-generation")])
@pytest.mark.parametrize("apart", [False, True])
def test_an_output_weight_of_the_checkpoints_own_is_used(family: str, task: str, apart: bool, tmp_path: Path) -> None:
    folder = tiny.make(family, tmp_path / "base", head=tiny.HEADS[task])
    if apart:  # as T5 1.1 has it
        model = getattr(transformers, tiny.HEADS[task]).from_pretrained(folder)
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        model.config.tie_word_embeddings = False
        model.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
    assert_same_logits(folder, tiny.HEADS[task])


def assert_same_logits(folder: Path, auto_class: str) -> None:
    """Compare our task model on the shared base with transformers' own of the same checkpoint."""
    base = Base.load(str(folder))
    ours = base.task_model(auto_class)
    theirs = getattr(transformers, auto_class).from_pretrained(folder).eval()
    batch = base.tokenizer(["a fine film", "rude staff"], padding=True, return_tensors="pt")
    batch = {key: value for key, value in batch.items() if key != "token_type_ids"}
    if base.model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = batch["input_ids"]
    with torch.inference_mode():
        tolerance.assert_near(ours(**batch).logits, theirs(**batch).logits, tolerance.of_base(base))
    assert base.changed_tensors() == []


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"vocab_size": "x"}, "Field 'vocab_size' expected int, got str"),
        ("config.json", {"hidden_size": 10**9}, "base '"),
        ("config.json", {"num_attention_heads": 0}, "ZeroDivisionError"),
        ("config.json", {"dtype": "zzz"}, "'torch' has no attribute 'zzz'"),
        ("config.json", {"num_hidden_layers": 10**6}, "num_hidden_layers=1000000; the maximum is 2000"),
        ("config.json", {"num_labels": 10**9}, "num_labels=1000000000; the maximum is 1000000"),
        ("config.json", b"null", "config.json must hold an object, got None"),
        ("config.json", b"[" * 100_000, "maximum recursion depth exceeded"),
        ("config.json", b"{oops", "is not a valid JSON file"),
        ("tokenizer.json", b"[]", "base '"),
        ("tokenizer.json", b"", "base '"),
        ("tokenizer_config.json", b"null", "base '"),
        ("tokenizer_config.json", b"{}", "the embeddings have 300 rows; is tokenizer_config.json missing?"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "model_max_length must be a number, got 'x'"),
        ("model.safetensors.index.json", b"[]", "no safetensors weights in that folder"),
    ],
)
def test_a_base_whose_files_hold_something_else_is_refused_in_a_line(
    file: str, change: Any, message: str, tmp_path: Path
) -> None:
    folder = tiny.make("bert", tmp_path / "base")
    if file == "model.safetensors.index.json":
        (folder / "model.safetensors").unlink()
    if isinstance(change, dict):
        change = json.dumps({**json.loads((folder / file).read_text()), **change}).encode()
    (folder / file).write_bytes(change)
    with pytest.raises(BaseModelError) as caught:
        Base.load(str(folder))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


META: dict[str, Callable[[], torch.Tensor]] = {
    "end": lambda: torch.arange(5, device="meta"),
    "start, end, step": lambda: torch.arange(1, 8, 3, device="meta"),
    "by name": lambda: torch.arange(start=2, end=8, device="meta"),
    "numbers": lambda: torch.arange(0.0, 1.0, 0.25, device="meta"),
    "type": lambda: torch.arange(4, dtype=torch.float16, device="meta"),
    "like": lambda: torch.empty_like(torch.empty(2, 3, dtype=torch.int32, device="meta"), device="cpu"),
    "like, by name": lambda: torch.empty_like(input=torch.empty(2, 3, device="meta")),
    "filled": lambda: torch.nn.init.normal_(torch.empty(2, device="meta")),
    "filled, by name": lambda: torch.nn.init.zeros_(tensor=torch.empty(2, device="meta")),
}


@pytest.mark.parametrize("made", META.values(), ids=META)
def test_tensors_without_values_are_what_torch_makes(made: Callable[[], torch.Tensor]) -> None:
    expected = made()
    with Unfilled():
        tensor = made()
    assert (tensor.shape, tensor.dtype, tensor.device) == (expected.shape, expected.dtype, expected.device)


def test_tensors_with_values_are_filled() -> None:
    with Unfilled():
        assert torch.nn.init.ones_(torch.zeros(3)).tolist() == [1, 1, 1]
        assert torch.arange(3).tolist() == [0, 1, 2]
