"""A base is known by its config and its values, whatever dtype and files these are kept in, and by nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from click.testing import Result

from adapterkit import AdapterkitError, Base, Pool, Registry, predict
from adapterkit.base import digest_cache, fingerprint
from adapterkit.convert.combine import combine
from adapterkit.io.atomic import json_bytes, sha256
from adapterkit.store.publish import publish
from adapterkit.tasks.text_classification import TextClassification
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers import tolerance

TASK = TextClassification(labels=("neg", "pos")).with_columns(["text", "label"])
TEXTS = ["lovely food", "a dull film"]


def edit(folder: Path, **config: Any) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **config}))


def copied(source: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], Any], **config: Any) -> Path:
    """Write a base's files again, its tensors changed."""
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = safetensors.torch.load_file(source / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    edit(folder, **config)
    return folder


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_same_values_in_another_dtype_are_the_same_base(
    family: str, dtype: torch.dtype, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    name = str(dtype).removeprefix("torch.")
    own = transformers.AutoModel.from_pretrained(tiny_folder(family))
    bases = []
    for kind, kept in ((name, dtype), ("float32", torch.float32)):
        own.to(kept).save_pretrained(tmp_path / kind)
        tiny.tokenizer().save_pretrained(tmp_path / kind)
        bases.append(Base.load(str(tmp_path / kind)))
    assert [base.model.dtype for base in bases] == [dtype, torch.float32]
    assert bases[0].fingerprint == bases[1].fingerprint
    assert bases[0].fingerprint != Base.load(str(tiny_folder(family))).fingerprint  # whose values were rounded


def test_the_same_tensors_in_several_files_are_the_same_base(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    model = transformers.AutoModel.from_pretrained(tiny_folder())
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    tiny.tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert Base.load(str(tmp_path)).fingerprint == Base.load(str(tiny_folder())).fingerprint


def test_tied_tensors_that_are_stored_twice_are_the_same_base(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    def tie(tensors: dict[str, torch.Tensor]) -> None:
        tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()

    stored = copied(tiny_folder("t5"), tmp_path / "twice", tie)
    assert Base.load(str(stored)).fingerprint == Base.load(str(tiny_folder("t5"))).fingerprint


def test_a_checkpoint_with_a_head_holds_the_same_base(tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_config(tiny.CONFIGS["bert"]())
    model.save_pretrained(tmp_path / "whole")
    model.bert.save_pretrained(tmp_path / "base")
    for folder in tmp_path.iterdir():
        tiny.tokenizer().save_pretrained(folder)
    assert len({Base.load(str(folder)).fingerprint for folder in tmp_path.iterdir()}) == 1


def test_one_bit_or_one_setting_is_another_base(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    def flip(tensors: dict[str, torch.Tensor]) -> None:
        tensors["encoder.layer.1.output.dense.bias"].view(torch.int32)[0] ^= 1

    others = [
        copied(tiny_folder(), tmp_path / "bit", flip),
        copied(tiny_folder(), tmp_path / "setting", lambda tensors: None, hidden_act="relu"),
        copied(tiny_folder(), tmp_path / "same", lambda tensors: None, use_cache=False),
    ]
    own, bit, setting, same = (Base.load(str(folder)).fingerprint for folder in [tiny_folder(), *others])
    assert len({own, bit, setting}) == 3
    assert own == same
    assert own.startswith("v2:")


def test_a_setting_that_is_its_class_s_default_needs_no_word(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = copied(tiny_folder(), tmp_path / "terse", lambda tensors: None)
    settings = json.loads((folder / "config.json").read_text())
    del settings["layer_norm_eps"], settings["hidden_act"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert Base.load(str(folder)).fingerprint == Base.load(str(tiny_folder())).fingerprint


def test_a_digest_is_of_shape_and_fp32_values() -> None:
    values = torch.tensor([[1.0, -0.0, 3.5], [-2.0, float("inf"), 2.0**-20]])
    layer = torch.nn.Linear(3, 2, bias=False, dtype=torch.bfloat16)
    layer.weight.data.copy_(values)
    expected = hashlib.sha256(b"float (2, 3)" + values.numpy().tobytes()).hexdigest()
    assert fingerprint.tensor_digests(layer) == {"weight": expected}


# ---- what differs


def test_what_differs_is_said(tiny_base: Base, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    adapter = made.adapter(tiny_base, TASK)
    touched = "encoder.layer.0.attention.self.query.weight"

    def said(name: str, change: Callable[[dict[str, torch.Tensor]], Any], **config: Any) -> str:
        with pytest.raises(AdapterkitError, match="the adapter was trained on base") as caught:
            adapter.check_base(Base.load(str(copied(tiny_folder(), tmp_path / name, change, **config))))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    message = said("config", lambda t: None, hidden_act="relu", layer_norm_eps=1e-5)
    assert 'what differs: hidden_act the default there and "relu" here; layer_norm_eps the default there' in message
    count = len(adapter.manifest["base"]["tensors"])
    message = said("touched", lambda t: t[touched].mul_(2))
    assert f"what differs: 1 of the {count} tensors that the adapter touches ({touched})" in message
    message = said("untouched", lambda t: t["embeddings.word_embeddings.weight"].mul_(2))
    assert "what differs: tensors that the adapter doesn't touch" in message
    adapter.manifest["base"]["fingerprint"] = "0" * 64
    with pytest.raises(AdapterkitError, match="a base fingerprint of scheme v1, but this adapterkit computes v2"):
        adapter.check_base(tiny_base)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_another_tokenizer_is_another_base_and_one_saved_again_is_not(
    family: str, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    base = Base.load(str(tiny_folder(family)))
    adapter = made.adapter(base, TASK)
    again, changed = (shutil.copytree(tiny_folder(family), tmp_path / name) for name in ("again", "changed"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(again)
    tokenizer(TEXTS, truncation=True, max_length=4, padding="max_length", return_tensors="np")  # which it keeps
    tokenizer.save_pretrained(again)
    adapter.check_base(Base.load(str(again)))
    tokenizer.add_tokens(["lovely"])
    tokenizer.save_pretrained(changed)
    with pytest.raises(AdapterkitError, match=r"what differs: the tokenizer \(its tokens, or how"):
        adapter.check_base(Base.load(str(changed)))
    del adapter.manifest["base"]["tokenizer"]  # as older adapters have it
    adapter.check_base(Base.load(str(changed)))


def test_a_mismatch_can_be_allowed_where_shapes_fit(
    tiny_base: Base, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    other, adapter = Base.load(str(tiny_folder("bert", 1))), made.adapter(tiny_base, TASK)
    with adapter.attached(other, allow_base_mismatch=True) as model:
        assert model.base_model.get_submodule("encoder") is other.model.encoder
    said = predict(other, adapter.moved_to(other), TEXTS)
    assert said != predict(tiny_base, adapter, TEXTS)
    with Pool(other, {"a": adapter}, allow_base_mismatch=True) as pool:
        for ours, theirs in zip(pool.predict(TEXTS), said, strict=True):
            assert ours["score"] == pytest.approx(theirs["score"], abs=tolerance.of_base(other))
    with pytest.raises(AdapterkitError, match="what differs"), Pool(other, {"a": adapter}):
        pass
    mismatch = combine(other, [(adapter.moved_to(other), 1.0)]).manifest["merged_from"][0]["base_mismatch"]
    assert mismatch["trained_on"] == {"name": tiny_base.name, "fingerprint": tiny_base.fingerprint}
    assert adapter.moved_to(tiny_base) is adapter
    narrow = Base.load(str(tiny.make("bert", tmp_path / "narrow", hidden_size=16)))
    with (
        pytest.raises(AdapterkitError, match="don't fit a module of 16 inputs"),
        adapter.attached(narrow, allow_base_mismatch=True),
    ):
        pass


def test_the_commands_say_a_mismatch_and_record_it_where_it_is_allowed(
    adapt: Callable[..., Result],
    tiny_base: Base,
    tiny_folder: Callable[..., Path],
    registry: Registry,
    small_csv: Path,
    tmp_path: Path,
) -> None:
    publish(registry, "a", combine(tiny_base, [(made.adapter(tiny_base, TASK), 1.0)]))
    other, allow = ("--base", tiny_folder("bert", 1)), "--allow-base-mismatch"
    commands = [
        ("predict", "a", "fine food"),
        ("eval", "a", "--file", small_csv, "--json"),
        ("merge", "a", "--name", "b", "--json"),
        ("export", "a", "--format", "merged", "--to", tmp_path / "merged"),
    ]
    for words in commands:
        refused = adapt(*words, *other)
        assert refused.exit_code == 2
        assert "what differs: " in refused.stderr
        done = adapt(*words, *other, allow)
        assert done.exit_code == 0, done.output
        assert done.stderr.count("was trained on another base") == 1
        if "--json" in words:
            assert tiny_base.fingerprint in json.dumps(json.loads(done.stdout)["base_mismatch"])
    assert "base_mismatch" in registry.load("b").manifest["merged_from"][0]


# ---- what is remembered


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the tensors of each digesting, and remember files however young they are."""
    counts: list[int] = []
    digests = fingerprint.tensor_digests

    def counting(*args: Any, **kwargs: Any) -> dict[str, str]:
        found = digests(*args, **kwargs)
        counts.append(len(found))
        return found

    monkeypatch.setattr(fingerprint, "tensor_digests", counting)
    monkeypatch.setattr(digest_cache, "SETTLE_NS", 0)
    monkeypatch.setattr(fingerprint, "SAMPLE", 1)
    return counts


def test_digests_are_remembered_as_long_as_the_files_are_the_same(
    tiny_folder: Callable[..., Path], tmp_path: Path, counted: list[int]
) -> None:
    folder = copied(tiny_folder(), tmp_path / "base", lambda tensors: None)
    first, again = Base.load(str(folder)), Base.load(str(folder))
    assert counted == [len(first.digests), 1]  # the second time, a sample
    assert again.fingerprint == first.fingerprint
    file = folder / "model.safetensors"
    before = os.stat(file)
    with file.open("r+b") as data:  # in place, of the same size, and dated back
        data.seek(-1, os.SEEK_END)
        data.write(b"\x01")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Base.load(str(folder)).fingerprint != first.fingerprint


def test_a_file_that_is_too_young_is_not_remembered(
    tiny_folder: Callable[..., Path], tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest_cache, "SETTLE_NS", 3_600_000_000_000)
    folder = copied(tiny_folder(), tmp_path / "base", lambda tensors: None)
    base = Base.load(str(folder))
    Base.load(str(folder))
    assert counted == [len(base.digests)] * 2


@pytest.mark.parametrize("damage", ["cut", "edited", "wrong", "else"])
def test_damaged_or_wrong_memory_never_makes_a_fingerprint(
    damage: str, tiny_folder: Callable[..., Path], tmp_path: Path, counted: list[int]
) -> None:
    known = set(digest_cache.cache_folder().iterdir())
    folder = copied(tiny_folder(), tmp_path / "base", lambda tensors: None)
    base = Base.load(str(folder))
    (file,) = set(digest_cache.cache_folder().iterdir()) - known
    before, digests, stated = json.loads(file.read_bytes())
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    elif damage == "edited":
        file.write_text(json.dumps([before, {**digests, next(iter(digests)): "0" * 64}, stated]))
    elif damage == "wrong":  # as of another base, and whole
        content = [before, dict.fromkeys(digests, "0" * 64)]
        file.write_text(json.dumps([*content, sha256(json_bytes(content))]))
    else:
        file.write_text("[" * 100_000)
    assert Base.load(str(folder)).fingerprint == base.fingerprint
    assert counted[-1] == len(base.digests)
    assert json.loads(file.read_bytes())[1] == base.digests  # and the memory is right again
