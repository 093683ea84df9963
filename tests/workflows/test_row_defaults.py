"""Defaults that the number of training rows decides, and what overrides them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from adapterkit import Base, Plan, Registry, Report, run
from adapterkit.convert.merge import merge
from adapterkit.errors import AdapterError
from adapterkit.tasks import TASKS
from adapterkit.workflows.row_defaults import with_row_defaults
from tests.helpers.adapters import task_of
from tests.helpers.sentence_models import as_sentence_model
from tests.helpers.watches import Heard


@pytest.mark.parametrize(
    ("rows", "options", "epochs"),
    [
        (32, {}, 30),  # two steps an epoch
        (112, {}, 15),
        (400, {}, 5),
        (10_000, {}, 5),
        (112, {"num_train_epochs": 3}, 3),
        (112, {"per_device_train_batch_size": 8}, 8),
        (112, {"gradient_accumulation_steps": 2}, 25),
        (32, {"strategy": "head-only", "head": "model"}, 30),
        (32, {"strategy": "head-only"}, 5),  # a probe has no epochs
    ],
)
def test_few_rows_get_more_epochs_unless_their_number_is_set(rows: int, options: dict[str, Any], epochs: int) -> None:
    base: Any = SimpleNamespace(sentence_pooling=None)
    plan, notes = with_row_defaults(Plan.resolve(options), TASKS["text-classification"](), rows, base)
    assert plan.training.num_train_epochs == epochs
    assert ("epochs" in notes) == (epochs > 5)
    assert not plan.by_rows
    assert with_row_defaults(plan, TASKS["text-classification"](), 8) == (plan, {})


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (64, {}, ("auto", 1e-3, 10)),
        (64, {"head": "auto"}, ("auto", 1e-3, 10)),
        (128, {}, ("auto", 1e-3, 5)),
        (64, {"strategy": "full"}, ("auto", 1e-4, 10)),
        (64, {"learning_rate": 2e-3}, ("auto", 2e-3, 10)),
        (64, {"learning_rate": "auto"}, ("auto", 1e-3, 10)),
        (64, {"num_train_epochs": 3}, ("auto", 1e-3, 3)),
        (64, {"head": "model"}, ("model", 1e-3, 10)),
        (64, {"head_init": "random"}, ("auto", 1e-3, 25)),
        (64, {"use_dora": True}, ("auto", 1e-3, 10)),
        (64, {"strategy": "bottleneck"}, ("probe", 9e-4, 10)),
        (64, {"strategy": "bottleneck", "head": "model"}, ("model", 3e-3, 25)),
        (64, {"head": "probe", "base": "other"}, ("probe", 3e-4, 10)),
        (64, {"strategy": "head-only"}, ("auto", 5e-3, 5)),
        (64, {"base": "other"}, ("auto", 1e-3, 25)),
        (129, {}, ("auto", 1e-3, 12)),
        (10_000, {"head": "probe"}, ("probe", 3e-4, 5)),
    ],
)
def test_few_rows_a_label_start_from_the_mean_of_tokens_on_a_base_that_embeds_texts(
    rows: int, options: dict[str, Any], expected: tuple[str, float, int]
) -> None:
    base: Any = SimpleNamespace(sentence_pooling=None if "base" in options else "mean")
    plan, notes = with_row_defaults(Plan.resolve(options), task_of("text-classification"), rows, base)
    assert (plan.training.head, plan.strategy.learning_rate, plan.training.num_train_epochs) == expected
    assert ("head" in notes) == (expected[0] == "probe" and options.get("head") != "probe")
    assert ("rate" in notes) == (expected[0] == "probe" and "learning_rate" not in options)


def test_other_tasks_train_transformers_head() -> None:
    base: Any = SimpleNamespace(sentence_pooling="mean")
    plan, _ = with_row_defaults(Plan.resolve({}), task_of("token-classification"), 8, base)
    assert plan.training.head == "auto"


def of_few_rows(values: dict[str, Any], folder: Path, registry: Registry) -> tuple[Base, Report, Heard]:
    """Return the base in `folder`, a run on it that trained on all rows, and what the run noted."""
    base, heard = Base.load(folder), Heard()
    report = run(Plan.resolve(values), registry, base=base, watch=heard)
    assert set(report.metrics) == {"train"}
    assert heard.notes["head"] == "initialised by a linear probe of all training rows"
    return base, report, heard


@pytest.mark.parametrize("strategy", ["bitfit", "ia3"])
def test_a_run_of_few_rows_trains_a_probe_on_all_of_them_and_merge_names_the_flag(
    strategy: str, small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path], registry: Registry
) -> None:
    values = {"train_file": str(small_csv), "strategy": strategy, "name": "few", "num_train_epochs": 1}
    base, report, heard = of_few_rows(values, as_sentence_model(tmp_path / "base", of=tiny_folder()), registry)
    assert heard.notes[""].endswith("before training, by cross-validation in 10 folds, repeated 5 times")
    assert "probe" in report.adapter.manifest
    with pytest.raises(AdapterError, match="train with --head model"):
        merge(base, report.adapter, tmp_path / "merged")
    exportable = run(Plan.resolve({**values, "head": "model"}), registry, base=base)
    assert "probe" not in exportable.adapter.manifest
    assert "validation" in exportable.metrics


@pytest.mark.parametrize("strategy", ["lora", "layerwise", "full"])
def test_what_trains_weights_can_be_merged_of_few_rows_too(
    strategy: str, small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path], registry: Registry
) -> None:
    base = Base.load(as_sentence_model(tmp_path / "base", of=tiny_folder()))
    heard, values = Heard(), {"train_file": str(small_csv), "strategy": strategy, "name": "few", "num_train_epochs": 1}
    report = run(Plan.resolve(values), registry, base=base, watch=heard)
    assert set(report.metrics) == {"train"}
    assert heard.notes["start"].startswith("the first token attends to all tokens alike in block")
    assert heard.notes["head"] == "initialised by a linear probe of all training rows"
    assert "probe" not in report.adapter.manifest
    merge(base, report.adapter, tmp_path / "merged")


def test_a_pretrained_head_needs_no_more_steps() -> None:
    plan, notes = with_row_defaults(Plan.resolve({}), TASKS["fill-mask"](), 20)
    assert (plan.training.num_train_epochs, notes) == (5, {})


@pytest.mark.slow
def test_a_run_prints_and_records_the_number_and_repeats_it(
    tiny_base: Base, small_csv: Path, tmp_path: Path, registry: Registry
) -> None:
    heard = Heard()
    values = {"train_file": str(small_csv), "validation_file": str(small_csv), "strategy": "layerwise", "name": "few"}
    report = run(Plan.resolve(values), registry, base=tiny_base, watch=heard)
    assert heard.notes["epochs"].startswith("30 epochs of 2 steps, by rule: 100 steps or more")
    assert len(report.history) == 30
    recorded = yaml.safe_load((Path(report.folder) / "run.yaml").read_text())
    assert recorded["num_train_epochs"] == 30
    again = run(Plan.resolve({}, config=recorded), Registry(tmp_path / "again" / "registry.json"), base=tiny_base)
    assert again.version == report.version
