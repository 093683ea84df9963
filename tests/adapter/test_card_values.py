"""The facts in a model card are those of the manifest, and its metadata are complete."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from huggingface_hub import ModelCard

from adapterkit.adapter.model_card import card

BASE = {"model_type": "bert", "fingerprint": "f" * 64, "name": "x", "hub_id": "owner/base", "revision": "main"}
DATA = {"name": "folder/rows", "splits": {"train": {"file": "hub:owner/rows/config"}, "test": {"file": "x.csv"}}}
MANIFEST: dict[str, Any] = {
    "task": {"name": "text-classification", "options": {"labels": ["neg", "pos"]}},
    "strategy": {"name": "lora", "version": "9.1", "options": {"r": 8, "dropout": None, "modules": []}},
    "base": {**BASE, "quantization": "4 bits"},
    "data": DATA,
    "training": {"num_train_epochs": 3, "note": ""},
    "metrics": {
        "validation": {"accuracy": 0.75, "f1": 0.5, "n": 40, "intervals": {"accuracy": [0.6, 0.87654]}},
        "test": {"accuracy": 0.25},
    },
    "parameters": 12345,
    "files": {"adapter_model.safetensors": {}, "adapter_config.json": {}},
}


def page(**changes: Any) -> str:
    manifest = {key: value for key, value in {**MANIFEST, **changes}.items() if value is not ...}
    return card("reviews", json.dumps(manifest).encode()).decode()


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section by its title, the first under the adapter's name."""
    parts = re.split(r"^##? (.*)\n", text.partition("\n---\n\n")[2], flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {title: [line for line in body.splitlines() if line] for title, body in pairs}


def test_its_metadata_name_base_data_library_metrics_and_tags() -> None:
    data = ModelCard(page()).data
    assert data.to_dict().keys() == {
        *("base_model", "base_model_relation", "datasets", "library_name", "metrics", "model-index"),
        *("pipeline_tag", "tags"),
    }
    assert (data.base_model, data.base_model_relation, data.datasets) == ("owner/base", "adapter", ["owner/rows"])
    assert (data.library_name, data.pipeline_tag) == ("peft", "text-classification")
    assert (data.metrics, data.tags) == (["accuracy", "f1"], ["adapterkit", "lora", "bert"])
    assert data.model_name == "reviews"
    results = [
        (r.task_type, r.dataset_type, r.dataset_name, r.dataset_split, r.metric_type, r.metric_name, r.metric_value)
        for r in data.eval_results
    ]
    about = ("text-classification", "owner/rows", "rows")
    assert sorted(results) == [
        (*about, "test", "accuracy", "accuracy", 0.25),
        (*about, "validation", "accuracy", "accuracy", 0.75),
        (*about, "validation", "f1", "f1", 0.5),
    ]


def test_its_sections_have_the_manifests_values() -> None:
    found = sections(page())
    assert list(found) == ["reviews", "Use", "Labels", "Metrics", "Training", "Base"]
    (summary,) = found["reviews"]
    for fact in ("for text-classification on owner/base", "strategy lora", "rows", "12,345"):
        assert fact in summary
    assert found["Labels"] == ["`neg`, `pos`"]
    assert found["Metrics"] == [
        "| split | metric | value | 95 % interval | rows |",
        "|---|---|---|---|---|",
        "| validation | accuracy | 0.7500 | 0.6000 to 0.8765 | 40 |",
        "| validation | f1 | 0.5000 |  | 40 |",
        "| test | accuracy | 0.2500 |  | 0 |",
    ]
    assert found["Training"] == ["- r: 8", "- num_train_epochs: 3"]
    assert [line.partition(": ")[2] for line in found["Base"]] == [
        "owner/base",
        "main",
        "bert",
        "4 bits",
        f"`{'f' * 64}`",
    ]
    use = "\n".join(found["Use"])
    assert "adapt pull OWNER/REPOSITORY --name reviews" in use
    assert 'adapt predict reviews "a text"' in use
    assert "PeftModel" in use


def test_what_a_manifest_lacks_is_left_out() -> None:
    base = {key: BASE[key] for key in ("model_type", "fingerprint")}
    files = {"adapter_model.safetensors": {}}
    text = page(base=base, data=..., training=..., metrics={}, parameters=..., files=files)
    found = sections(text)
    assert list(found) == ["reviews", "Use", "Labels", "Training", "Base"]
    (summary,) = found["reviews"]
    assert "on a base of type bert" in summary
    assert "data set" not in summary
    assert "learned" not in summary
    assert "PeftModel" not in text
    assert [line.partition(": ")[2] for line in found["Base"]] == ["bert", f"`{'f' * 64}`"]
    data = ModelCard(text).data
    assert data.library_name == "adapterkit"
    assert not {"base_model", "datasets", "metrics", "model-index"} & set(data.to_dict())
    task = {"name": "text-generation"}
    assert "Labels" not in sections(page(task=task))


@pytest.mark.parametrize("weight", [0.25, 1, -2.0])
def test_a_sum_names_its_parts_with_their_weights(weight: float) -> None:
    parts = [{"name": "a|b", "version": "0123", "weight": weight}, {"name": "c", "version": "4567", "weight": 1e-3}]
    (summary, *table) = sections(page(merged_from=parts, combination_type="ties"))["reviews"]
    assert "for text-classification on owner/base" in summary
    assert "ties" in summary
    assert table == [
        "| adapter | version | weight |",
        "|---|---|---|",
        f"| a b | 0123 | {weight:g} |",
        "| c | 4567 | 0.001 |",
    ]


def test_an_import_names_pefts_version_and_method() -> None:
    (summary,) = sections(page(imported_from={"source": "/home/me"}))["reviews"]
    assert "PEFT 9.1 (lora)" in summary
    assert "for text-classification on owner/base" in summary
