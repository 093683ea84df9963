"""A plan of one epoch for any task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapterkit import Plan
from tests.helpers.rows import MORE


def plan(task: str, file: Path, strategy: str, **more: Any) -> Plan:
    values = {"task": task, "strategy": strategy, "train_file": str(file), "validation_file": str(file)}
    options = {"num_train_epochs": 1, "learning_rate": 1e-2, "name": "tiny", **MORE.get(task, {}), **more}
    return Plan.resolve({**values, **options})
