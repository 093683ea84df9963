"""Look up tasks by name: adapterkit's own and those of plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import TaskError, unknown
from ..options import options
from .task import Task

if TYPE_CHECKING:
    from ..discovery import Plugin

_CLASSES = {
    "question-answering": "QuestionAnswering",
    "multiple-choice": "MultipleChoice",
    "token-classification": "TokenClassification",
    "text2text-generation": "Text2TextGeneration",
    "text-generation": "TextGeneration",
    "sentence-similarity": "SentenceSimilarity",
    "text-ranking": "TextRanking",
    "text-classification": "TextClassification",
    "fill-mask": "FillMask",
}
"""The class of each of adapterkit's tasks."""


class _Tasks(Mapping[str, type[Task]]):
    """Tasks by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> type[Task]:
        task: type[Task] = getattr(sys.modules[__package__], _CLASSES[name])  # the package imports it
        return task

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


TASKS: Mapping[str, type[Task]] = _Tasks()
"""Adapterkit's own tasks, in the order in which a row is tried on them; a plugin's has to be named."""

ALIASES = {
    "sentiment-analysis": "text-classification",
    "ner": "token-classification",
    "translation": "text2text-generation",
    "summarization": "text2text-generation",
}
"""Other names that the pipelines of transformers have for them."""

REGRESSION = "; regression is --task text-classification --problem-type regression"


def task_class(name: str) -> type[Task]:
    """Return the task of that name, ours or a plugin's, or raise `TaskError` with the installed ones."""
    ours = TASKS.get(ALIASES.get(name, name))
    if ours is not None:
        return ours
    from ..discovery import TASKS as GROUP
    from ..discovery import all_plugins, find_plugin

    plugins = all_plugins(GROUP)
    if not any(plugin.matches(name) for plugin in plugins):
        hint = REGRESSION if name.lower() == "regression" else ""
        if name.startswith("demo:"):
            hint = f"; a data set is chosen with --dataset {name}"
        raise TaskError(unknown("task", name, [*TASKS, *ALIASES, *(plugin.name for plugin in plugins)]) + hint)
    return load_task(find_plugin(name, GROUP))


def load_task(plugin: Plugin) -> type[Task]:
    """Import a plugin's task and return its class, or raise `TaskError` with the reason why it can't be used."""
    cls = plugin.load_class(Task)  # type: ignore[type-abstract]
    if getattr(cls, "name", None) != plugin.name:
        raise TaskError(f"{plugin.label} has the name {getattr(cls, 'name', None)!r}: {plugin.target}")
    try:
        options(cls)
    except Exception as error:  # an annotation can be any expression
        raise TaskError(f"{plugin.label}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return cls
