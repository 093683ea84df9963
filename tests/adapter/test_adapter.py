"""An adapter is what was trained, belongs to its base, and is refused when damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adapterkit import Adapter, AdapterkitError, Base, LowRank, Registry, Replace, predict, run
from adapterkit.convert.export import write_peft
from tests.helpers.bases import same, state
from tests.helpers.damage import attach, edit, refused, rewrite
from tests.helpers.plans import plan


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[..., Path]) -> Path:
    """A folder with a registry and a LoRA adapter, trained once."""
    place = tmp_path_factory.mktemp("trained")
    rows = [f"{text} {i},{label}" for i in range(12) for text, label in (("lovely", "pos"), ("awful", "neg"))]
    (place / "trained.csv").write_text("\n".join(["text,label", *rows]))
    base = Base.load(str(tiny_folder()))
    run(plan(place / "trained.csv", base.path, "lora"), Registry(place / "registry.json"), base=base)
    return place


@pytest.fixture
def folder(trained: Path, registry: Registry) -> Path:
    """Return the folder of that adapter in a registry of its own."""
    shutil.copytree(trained, registry.path.parent, dirs_exist_ok=True)
    return next((registry.path.parent / "store").rglob("adapter.json")).parent


def test_an_adapter_on_another_base_is_refused(folder: Path, tiny_folder: Callable[..., Path]) -> None:
    message = refused(folder, Base.load(str(tiny_folder("bert", 1))))
    assert "the adapter was trained on base" in message


def test_a_truncated_or_edited_file_is_refused(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "is damaged or was edited" in refused(folder)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is damaged or was edited" in refused(folder)
    path.unlink()
    assert "can't read" in refused(folder)


def test_an_edited_manifest_is_refused_by_the_registry(folder: Path, registry: Registry) -> None:
    edit(folder, lambda m: m["task"]["options"]["labels"].reverse())
    with pytest.raises(AdapterkitError, match=r"adapter\.json is damaged or was edited"):
        registry.load("tiny")


def test_what_is_no_finite_number_is_refused(folder: Path) -> None:
    rewrite(folder, lambda t: t["base_model.model.classifier.bias"].fill_(float("nan")))
    assert "'base_model.model.classifier.bias' holds what is no finite number" in refused(folder)


def test_threads_on_one_base_wait_for_each_other(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    for name in ("full", "lora"):
        run(plan(small_csv, tiny_base.path, name, name=name), registry, base=tiny_base)
    adapters = {name: registry.load(name) for name in ("full", "lora")}
    texts = ["lovely food", "a dull film"]
    alone = {name: predict(tiny_base, adapter, texts) for name, adapter in adapters.items()}
    with ThreadPoolExecutor(4) as pool:
        asked = ["full", "lora"] * 6
        found = list(pool.map(lambda name: predict(tiny_base, adapters[name], texts), asked))
    assert found == [alone[name] for name in asked]


def test_training_while_an_adapter_is_attached_is_refused(
    small_csv: Path, folder: Path, tiny_base: Base, registry: Registry
) -> None:
    with Adapter.load(folder).attached(tiny_base), pytest.raises(AdapterkitError, match="is in use"):
        run(plan(small_csv, tiny_base.path, "full"), registry, base=tiny_base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=99), "has format version 99; this adapterkit reads 1"),
        (lambda m: m.pop("patches"), "is not an adapter's manifest"),
        (lambda m: m.update(head=3), "is not an adapter's manifest"),
        (
            lambda m: m["files"].update({"../evil.py": {"sha256": "", "bytes": 0}}),
            "'../evil.py' is no file of an adapter",
        ),
        (lambda m: m["task"].update(name="text-clasification"), "no task named 'text-clasification'; did you mean"),
        (lambda m: m["task"]["options"].update(colour="red"), "no option named 'colour'"),
        (lambda m: next(iter(m["patches"].values())).update(kind="hack"), "no kind of patch named 'hack'"),
        (lambda m: m["patches"].pop(next(iter(m["patches"]))), "has too many: 2 tensors"),
    ],
)
def test_a_manifest_that_is_not_right_is_refused(folder: Path, tiny_base: Base, change: Any, message: str) -> None:
    edit(folder, change)
    assert message in refused(folder, tiny_base)


def test_tensors_missing_too_many_or_of_another_shape_are_refused(folder: Path, tiny_base: Base) -> None:
    key = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
    rewrite(folder, lambda t: t.update(more=torch.zeros(1)))
    assert "has too many: 1 tensors, first more" in refused(folder, tiny_base)
    rewrite(folder, lambda t: t.pop("more"))
    rewrite(folder, lambda t: t.update({key: t[key][:, 1:].contiguous()}))
    assert "lora_A (8, 31) and lora_B (32, 8) don't fit a module of 32 inputs and 32 outputs" in refused(
        folder, tiny_base
    )
    rewrite(folder, lambda t: t.pop(key))
    assert "lacks: 1 tensors, first base_model.model.bert.encoder.layer.0" in refused(folder, tiny_base)


def test_a_tensor_named_twice_is_refused(folder: Path, tiny_base: Base) -> None:
    def twice(manifest: dict[str, Any]) -> None:
        query = manifest["patches"]["encoder.layer.0.attention.self.query"]
        manifest["patches"]["encoder.layer.0.attention"] = {
            **query,
            "tensors": [f"self.query.{name}" for name in query["tensors"]],
        }

    edit(folder, twice)
    assert "gives 2 tensors to more than one module" in refused(folder, tiny_base)


def test_whole_numbers_are_for_the_kinds_of_patches_that_decode_them(
    folder: Path, tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
    rewrite(folder, lambda t: t.update({key: torch.ones(8, 32, dtype=torch.uint8)}))
    assert f"'{key}' holds what is no finite number" in refused(folder, tiny_base)
    monkeypatch.setattr(LowRank, "encoded", True)
    attach(Adapter.load(folder), tiny_base)
    rewrite(folder, lambda t: t.update({"base_model.model.classifier.bias": torch.ones(2, dtype=torch.uint8)}))
    assert "'base_model.model.classifier.bias' holds what is no finite number" in refused(folder, tiny_base)


def test_a_head_for_more_labels_than_the_adapter_has_numbers_is_never_made(folder: Path, tiny_base: Base) -> None:
    edit(folder, lambda m: m["task"]["options"].update(labels=[str(i) for i in range(100_000)]))
    assert "the adapter has 100000 labels, but only" in refused(folder, tiny_base)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format_version", True, "has format version True"),
        ("base.fingerprint", 3, "base.fingerprint must be a string, got 3"),
        ("base.prefix", "../bert.", "base.prefix must be the base's name with a dot, got '../bert.'"),
        ("base.prefix", "bert.\n", "base.prefix must be the base's name with a dot, got 'bert.\\n'"),
        ("base", [], "base must be an object, got []"),
        ("base", {}, "base.name is missing"),
        ("base.name", "x" * 1001, "base.name must be a string of length <= 1000, got 'xxx"),
        ("task.options", "x", "task.options must be an object, got 'x'"),
        ("untied", 1, "untied must be true or false, got 1"),
        ("metrics", {"test": {"f1": "x"}}, "metrics['test']['f1'] must be a number or an object, got 'x'"),
        ("metrics", {"a": {"f1": 1}, "b": {"n": 1, "f1": "x"}}, "metrics['b']['f1'] must be a number"),
        (
            "metrics",
            {"test": {"intervals": {"f1": ["x", 1]}}},
            "['intervals']['f1'][0] must be a number",
        ),
        ("metrics", {"test": {"intervals": 3}}, "'metrics' of 'test' must be numbers and 'intervals'"),
        ("metrics", {"test": {"f1": {}}}, "'metrics' of 'test' must be numbers and 'intervals', got 'f1'"),
        ("data", None, "data must be an object, got None"),
        ("data", [], "data must be an object, got []"),
        ("data.name", 3, "data.name must be a string or null, got 3"),
        ("data.splits", "x", "data.splits must be an object, got 'x'"),
        ("data.splits", {"train": 3}, "data.splits['train'] must be an object, got 3"),
        ("training", 3, "training must be an object, got 3"),
        ("strategy.options", True, "strategy.options must be an object, got True"),
        ("strategy.version", [], "strategy.version must be a string, got []"),
        ("combination_type", 3, "combination_type must be a string, got 3"),
        ("merged_from", [{"name": "a"}], "merged_from[0].version is missing"),
        ("base.hub_id", 3, "base.hub_id must be a string, got 3"),
        ("base.config", [], "base.config must be an object, got []"),
        ("base.tensors", "x", "base.tensors must be an object, got 'x'"),
        *(("base.mismatch", odd, "base.mismatch must be an object, got ") for odd in (None, 3, "x", [], True)),
        ("base.mismatch", {}, "base.mismatch.trained_on is missing"),
        (
            "base.mismatch",
            {"trained_on": {"name": "x", "fingerprint": "y"}, "differs": [3]},
            "base.mismatch.differs[0] must be a string, got 3",
        ),
        ("head", ["a", "a"], "'a' is listed twice"),
        ("head", ["../a"], "head[0] must be a tensor's name, got '../a'"),
        ("patches", {"a b": {}}, "'a b' is no module's name"),
        ("patches", {"a": []}, "patches['a'] must be an object, got []"),
        ("patches", {"a": {}}, "patches['a'].kind is missing"),
        ("added_tokens", {"a": 1, "b": -1}, "added_tokens['b'] must be an integer >= 0, got -1"),
        (
            "files.adapter_model\0safetensors.bytes",
            1.5,
            ".safetensors'].bytes must be an integer, got 1.5",
        ),
        ("files.adapter_model\0safetensors.bytes", True, "bytes must be an integer, got True"),
        ("files.adapter_model\0safetensors.sha256", "0" * 63, "sha256 must be 64 hexadecimal digits, got '000"),
        ("files", {}, "files['adapter_model.safetensors'] is missing"),
    ],
)
def test_a_manifests_part_of_another_type_is_refused(folder: Path, path: str, value: Any, message: str) -> None:
    *steps, last = (step.replace("\0", ".") for step in path.split("."))

    def change(manifest: dict[str, Any]) -> None:
        for step in steps:
            manifest = manifest[step]
        manifest[last] = value

    edit(folder, change)
    assert message in refused(folder)


def test_a_task_that_names_no_column_is_refused_when_it_is_asked(folder: Path, tiny_base: Base) -> None:
    edit(folder, lambda m: m["task"].update(options={"labels": ["neg", "pos"]}))
    with pytest.raises(AdapterkitError, match="the task text-classification names no column to read"):
        predict(tiny_base, Adapter.load(folder), ["a text"])


@pytest.mark.parametrize("options", [{}, {"scale": "x"}, {"scale": None}, {"scale": 1e308}, {"scale": [1]}])
def test_a_patch_without_its_scale_is_not_written_for_peft(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    edit(folder, lambda m: [patch.update(options=options) for patch in m["patches"].values()])
    with pytest.raises(AdapterkitError, match="the adapter's patches of kind 'low-rank' are not whole"):
        write_peft(Adapter.load(folder), tmp_path / "peft")
    assert not (tmp_path / "peft").exists()


def test_a_head_of_another_shape_is_refused(folder: Path, tiny_base: Base) -> None:
    key = "base_model.model.classifier.weight"
    rewrite(folder, lambda t: t.update({key: torch.zeros(3, 32)}))
    assert "'classifier.weight' is (3, 32), but the head's is (2, 32)" in refused(folder, tiny_base)


def test_two_adapters_at_once_are_refused_and_both_come_off(folder: Path, tiny_base: Base) -> None:
    before = state(tiny_base)
    adapter = Adapter.load(folder)
    with adapter.attached(tiny_base), pytest.raises(AdapterkitError, match="is in use: an adapter is attached to it"):
        attach(adapter, tiny_base)
    assert same(state(tiny_base), before)
    assert not any("forward" in vars(m) for m in tiny_base.model.modules())


@pytest.mark.slow
def test_another_adapter_between_changes_nothing(small_csv: Path, tiny_base: Base, registry: Registry) -> None:
    names = ["full", "lora", "layerwise", "head-only"]
    for name in names:
        run(plan(small_csv, tiny_base.path, name, name=name), registry, base=tiny_base)
    texts = ["lovely food", "a dull film"]
    alone = {name: predict(Base.load(tiny_base.path), registry.load(name), texts) for name in names}
    for name in [*names, *reversed(names)]:
        assert predict(tiny_base, registry.load(name), texts) == alone[name]
    assert len({json.dumps(a) for a in alone.values()}) == len(names)


def test_a_replaced_tensor_is_used_wherever_the_module_is_tied() -> None:
    embedding, out = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    out.weight = embedding.weight
    before = embedding.weight.detach().clone()
    new = torch.randn(5, 3)
    detach = Replace({"weight": new}).attach(embedding)
    x = torch.randn(2, 3)
    assert torch.equal(out(x), x @ new.T)
    detach()
    assert torch.equal(out.weight, before)
    assert out.weight is embedding.weight


def test_patches_compute_what_they_say() -> None:
    linear, x = nn.Linear(4, 3), torch.randn(5, 4)
    a, b = torch.randn(2, 4), torch.randn(3, 2)
    torch.testing.assert_close(LowRank(a, b, 0.5).forward(linear, x), linear(x) + 0.5 * x @ a.T @ b.T)
    weight = torch.randn(3, 4)
    torch.testing.assert_close(Replace({"weight": weight}).forward(linear, x), x @ weight.T + linear.bias)


def test_an_empty_tensor_is_no_part_of_an_adapter(tiny_base: Base) -> None:
    """As ZeRO-3 leaves behind parameters that weren't gathered."""
    patch = Replace({"weight": torch.empty(0)})
    with pytest.raises(AdapterkitError, match="holds no number; an adapter would lack what was learned there"):
        Adapter.make(tiny_base, tiny_base.model, {"pooler.dense": patch}, {}, {})


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"lora_alpha": 16', '"lora_alpha": 61'),  # of the same length
        lambda text: text + " ",
        lambda text: text[:-2],
    ],
    ids=["another value", "longer", "shorter"],
)
def test_an_edited_peft_config_is_refused(change: Callable[[str], str], folder: Path, tiny_base: Base) -> None:
    path = folder / "adapter_config.json"
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    assert "adapter_config.json" in refused(folder, tiny_base)
    path.write_text(before)
    attach(Adapter.load(folder), tiny_base)
