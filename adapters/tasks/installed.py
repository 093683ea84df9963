"""Look up tasks by name: adapterkit's own and those of plugins."""

from __future__ import annotations

from ..discovery import TASKS as GROUP
from ..discovery import Plugin, all_plugins, find_plugin
from ..errors import TaskError, unknown
from ..options import options
from .fill_mask import FillMask
from .multiple_choice import MultipleChoice
from .question_answering import QuestionAnswering
from .sentence_similarity import SentenceSimilarity
from .task import Task
from .text2text_generation import Text2TextGeneration
from .text_classification import TextClassification
from .text_generation import TextGeneration
from .text_ranking import TextRanking
from .token_classification import TokenClassification

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        QuestionAnswering,
        MultipleChoice,
        TokenClassification,
        Text2TextGeneration,
        TextGeneration,
        SentenceSimilarity,
        TextRanking,
        TextClassification,
        FillMask,
    )
}
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
    plugins = all_plugins(GROUP)
    if not any(plugin.matches(name) for plugin in plugins):
        hint = REGRESSION if name.lower() == "regression" else ""
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
