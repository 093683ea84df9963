"""What a base is asked to do: one file per task, named by transformers' pipeline tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import TaskError, unknown
from .fill_mask import FillMask
from .multiple_choice import MultipleChoice
from .question_answering import QuestionAnswering
from .task import Task
from .text2text_generation import Text2TextGeneration
from .text_classification import TextClassification
from .text_generation import TextGeneration
from .token_classification import TokenClassification

__all__ = ["TASKS", "Task", "infer_task", "task_class"]

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        QuestionAnswering,
        MultipleChoice,
        TokenClassification,
        Text2TextGeneration,
        TextGeneration,
        TextClassification,
        FillMask,
    )
}
"""The tasks, in the order in which a row is tried on them."""

ALIASES = {
    "sentiment-analysis": "text-classification",
    "ner": "token-classification",
    "translation": "text2text-generation",
    "summarization": "text2text-generation",
}
"""Other names that transformers' pipelines have for them."""


def task_class(name: str) -> type[Task]:
    """Return the task of that name, or raise `TaskError` with the ones there are."""
    found = TASKS.get(ALIASES.get(name, name))
    if found is None:
        raise TaskError(unknown("task", name, [*TASKS, *ALIASES]))
    return found


def infer_task(first: Mapping[str, Any]) -> str:
    """Return the name of the task whose row this is, told from its columns and values.

    Raises `TaskError` where none fits.
    """
    found = next((name for name, task in TASKS.items() if task.fits(first)), None)
    if found is None:
        raise TaskError(f"no task fits the columns {', '.join(first)}; give --task, one of {', '.join(sorted(TASKS))}")
    return found
