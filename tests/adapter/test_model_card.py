"""An adapter's card is what the Hub reads: metadata that its own library parses, and no path."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard import metadata_load

from adapterkit import Adapter, Base, Registry, run
from adapterkit.adapter.model_card import card
from adapterkit.convert.combine import combine
from adapterkit.store.publish import publish
from adapterkit.tasks.text_classification import TextClassification
from tests.helpers import random_adapters as made
from tests.helpers.plans import plan

PART = {"name": "b", "version": "0", "weight": 1}
TASK = TextClassification(labels=("neg", "p|s")).with_columns(["text", "label"])


def manifest(adapter: Adapter, **more: Any) -> bytes:
    return json.dumps({**json.loads(adapter.files()["adapter.json"]), **more}).encode()


def test_the_card_of_a_run_holds_its_metrics_as_the_hub_reads_them(
    small_csv: Path, tiny_base: Base, registry: Registry
) -> None:
    report = run(plan(small_csv, tiny_base.path, "lora"), registry, base=tiny_base)
    path = Path(report.folder) / "README.md"
    found, text = metadata_load(path), path.read_text()
    assert {key: found[key] for key in ("library_name", "pipeline_tag", "base_model_relation")} == {
        "library_name": "peft",  # which loads the folder
        "pipeline_tag": "text-classification",
        "base_model_relation": "adapter",
    }
    assert {"adapterkit", "lora", "bert"} <= set(found["tags"])
    assert not {"base_model", "datasets", "license"} & set(found)  # local ones, and the owner's
    results: list[EvalResult] = ModelCard.load(path).data.eval_results
    measured = {(r.dataset_split, r.metric_type): r.metric_value for r in results}
    assert measured == {
        (split, metric): value
        for split, values in report.metrics.items()
        for metric, value in values.items()
        if metric not in ("n", "intervals")
    }
    assert set(found["metrics"]) == {metric for _, metric in measured}
    low, high = report.metrics["validation"]["intervals"]["accuracy"]
    assert f"| {low:.4f} to {high:.4f} | {report.metrics['validation']['n']} |" in text
    assert tiny_base.fingerprint in text
    assert "- num_train_epochs: " in text
    assert str(small_csv.parent) not in text
    assert tiny_base.path not in text


@pytest.mark.parametrize(
    ("file", "datasets"),
    [
        ("hub:owner/rows/config", ["owner/rows"]),
        ("hub:owner/rows", ["owner/rows"]),
        ("hub:rows/config", ["rows"]),
        ("hub:rows", ["rows"]),
        ("rows/train.csv", None),
    ],
)
def test_a_base_and_data_on_the_hub_are_named_by_their_ids(
    file: str, datasets: list[str] | None, minilm: Base, tiny_base: Base
) -> None:
    adapter = made.adapter(minilm, TASK, "head-only")
    splits = {"train": {"file": file, "rows": 2, "fingerprint": "0"}}
    found = ModelCard(card("a", manifest(adapter, data={"name": "rows", "splits": splits})).decode()).data
    assert found.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert found.datasets == datasets
    assert found.library_name == "adapterkit"
    assert replace(tiny_base, name="owner/base", path="owner/base").hub_id == "owner/base"
    assert tiny_base.hub_id is None


def test_the_card_of_a_sum_says_of_what_and_no_metrics(tiny_base: Base, registry: Registry) -> None:
    adapter = combine(tiny_base, [(made.adapter(tiny_base, TASK), 0.7)], names=["first"])
    text = (registry.folder("sum", publish(registry, "sum", adapter).version) / "README.md").read_text()
    assert "| first | " in text
    assert "## Metrics" not in text
    assert "model-index" not in text


@pytest.mark.parametrize("label", ["a|b", "---\nlicense: mit\n---", "<script>", "`x`", "\\"])
def test_no_label_is_markup(label: str, tiny_base: Base, tiny_folder: Callable[..., Path]) -> None:
    adapter = made.adapter(tiny_base, replace(TASK, labels=("neg", label)))
    text = card("a", manifest(adapter)).decode()
    line = next(line for line in text.splitlines() if line.startswith("`neg`, "))
    assert line.count("`") == 4
    assert not set("|<>\\") & set(line)
    assert "license" not in dict(ModelCard(text).data.to_dict())


def test_a_card_does_without_what_others_leave_out(tiny_base: Base) -> None:
    adapter = made.adapter(tiny_base, TASK)
    about = {"imported_from": {}, "strategy": {"name": "lora"}, "metrics": {"test": {"f1": 0.5}}}
    assert "| test | f1 | 0.5000 |" in card("a", manifest(adapter, **about)).decode()
    assert "by combination type" in card("a", manifest(adapter, merged_from=[PART])).decode()


def test_the_card_of_an_import_names_no_folder(tiny_base: Base) -> None:
    about = {"imported_from": {"source": "/home/me/lora", "sha256": "0"}, "metrics": {"validation": {"n": 0}}}
    text = card("a", manifest(made.adapter(tiny_base, TASK), **about)).decode()
    assert "made with PEFT 0 (lora)" in text
    assert "/home/me" not in text
