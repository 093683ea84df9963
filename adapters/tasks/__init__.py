"""What a base is asked to do: one file per task, named by transformers' pipeline tags."""

from __future__ import annotations

from ..errors import TaskError, unknown
from .task import Task
from .text_classification import TextClassification

__all__ = ["TASKS", "Task", "TextClassification", "task_class"]

TASKS: dict[str, type[Task]] = {task.name: task for task in (TextClassification,)}


def task_class(name: str) -> type[Task]:
    """Return the task of that name, or raise `TaskError` with the ones there are."""
    if name not in TASKS:
        raise TaskError(unknown("task", name, TASKS))
    return TASKS[name]
