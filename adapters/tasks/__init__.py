"""What a base is asked to do: one file per task, named by transformers' pipeline tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..discovery import TASKS as GROUP
from ..discovery import Found, everything, find
from ..errors import TaskError, unknown
from ..options import options
from .fill_mask import FillMask
from .multiple_choice import MultipleChoice
from .question_answering import QuestionAnswering
from .task import Task
from .text2text_generation import Text2TextGeneration
from .text_classification import TextClassification
from .text_generation import TextGeneration
from .token_classification import TokenClassification

__all__ = ["TASKS", "Task", "checked_task", "infer_task", "task_class"]

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
"""Adapterkit's own tasks, in the order in which a row is tried on them; a plugin's is used where it is named."""

ALIASES = {
    "sentiment-analysis": "text-classification",
    "ner": "token-classification",
    "translation": "text2text-generation",
    "summarization": "text2text-generation",
}
"""Other names that transformers' pipelines have for them."""


def task_class(name: str) -> type[Task]:
    """Return the task of that name, ours or a plugin's, or raise `TaskError` with the ones there are."""
    own = TASKS.get(ALIASES.get(name, name))
    if own is not None:
        return own
    plugins = everything(GROUP)
    if not any(found.answers_to(name) for found in plugins):
        raise TaskError(unknown("task", name, [*TASKS, *ALIASES, *(found.name for found in plugins)]))
    return checked_task(find(name, GROUP))


def checked_task(found: Found) -> type[Task]:
    """Import a plugin's task and return its class, or raise `TaskError` that says what is wrong with it."""
    cls = found.load_class(Task)  # type: ignore[type-abstract]
    if getattr(cls, "name", None) != found.name:
        raise TaskError(f"{found.who} calls itself {getattr(cls, 'name', None)!r}: {found.target}")
    try:
        options(cls)
    except Exception as error:  # an annotation can be any expression
        raise TaskError(f"{found.who}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return cls


def infer_task(first: Mapping[str, Any]) -> str:
    """Return the name of the task whose row this is, told from its columns and values.

    Raises `TaskError` where none fits.
    """
    found = next((name for name, task in TASKS.items() if task.fits(first)), None)
    if found is None:
        raise TaskError(f"no task fits the columns {', '.join(first)}; give --task, one of {', '.join(sorted(TASKS))}")
    return found
