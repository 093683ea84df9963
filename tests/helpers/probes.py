"""Tasks for linear probes."""

from __future__ import annotations

from typing import Any

from adapterkit.tasks import Task, task_class


def task_of(name: str = "text-classification", **options: Any) -> Task:
    values = {
        "text_column_name": ("text",),
        "label_column_name": "label",
        "problem_type": "single_label_classification",
    }
    return task_class(name)(**{**values, **options})
