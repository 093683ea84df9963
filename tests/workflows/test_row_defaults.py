"""Defaults that the number of training rows decides, and what overrides them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterkit import Base, Plan, Registry, run
from adapterkit.tasks import TASKS
from adapterkit.workflows.row_defaults import with_row_defaults
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
    plan, line = with_row_defaults(Plan.resolve(options), TASKS["text-classification"](), rows)
    assert plan.training.num_train_epochs == epochs
    assert (line != "") == (epochs > 5)
    assert not plan.by_rows
    assert with_row_defaults(plan, TASKS["text-classification"](), 8) == (plan, "")


def test_a_pretrained_head_needs_no_more_steps() -> None:
    plan, line = with_row_defaults(Plan.resolve({}), TASKS["fill-mask"](), 20)
    assert (plan.training.num_train_epochs, line) == (5, "")


def test_a_run_prints_and_records_the_number_and_repeats_it(
    tiny_base: Base, small_csv: Path, tmp_path: Path, registry: Registry
) -> None:
    heard = Heard()
    values = {"train_file": str(small_csv), "validation_file": str(small_csv), "strategy": "layerwise", "name": "few"}
    report = run(Plan.resolve(values), registry, base=tiny_base, watch=heard)
    assert heard.notes["epochs"].startswith("30 epochs of 2 steps, by rule: at least 100 steps")
    assert len(report.history) == 30
    recorded = yaml.safe_load((Path(report.folder) / "run.yaml").read_text())
    assert recorded["num_train_epochs"] == 30
    again = run(Plan.resolve({}, config=recorded), Registry(tmp_path / "again" / "registry.json"), base=tiny_base)
    assert again.version == report.version
