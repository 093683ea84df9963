"""A task of every kind that needs no decoder, with texts for it."""

from __future__ import annotations

import itertools

import transformers

from adapterkit import Base
from adapterkit.tasks import Task, task_class
from adapterkit.testing import tiny
from tests.helpers.adapters import TEXTS, classes


def kinds() -> dict[str, tuple[Task, list[str]]]:
    """Return a task of every kind that needs no decoder, with texts for it."""
    contexts = [" ".join([*TEXTS * n, "the answer is here", *TEXTS]) for n in (1, 3)]
    return {
        "classes": (classes(4), TEXTS),
        "several": (classes(3, "multi_label_classification"), TEXTS),
        "number": (classes(1, "regression"), TEXTS),
        "pair": (
            task_class("text-classification")(
                text_column_name=("premise", "hypothesis"),
                label_column_name="label",
                labels=("no", "yes"),
                problem_type="single_label_classification",
            ),
            [f"{a}\t{b}" for a, b in itertools.pairwise(TEXTS)],
        ),
        "entities": (
            task_class("token-classification")(
                text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-a", "I-a")
            ),
            TEXTS,
        ),
        "questions": (
            task_class("question-answering")(
                question_column_name="q", context_column_name="c", answer_column_name="a", max_seq_length=48
            ),
            [f"what is it?\t{context}" for context in contexts],
        ),
        "choices": (
            task_class("multiple-choice")(
                context_column_name="c", endings_column_name=("e",), label_column_name="label"
            ),
            ["a film\tfine\tdull", "the staff\twere rude\tcame again"],
        ),
        "vectors": (
            task_class("sentence-similarity")(
                text_column_name=("anchor", "positive"), pooling="mean", normalize="yes", max_seq_length=48
            ),
            TEXTS,
        ),
        "ranking": (
            task_class("text-ranking")(query_column_name="q", passage_column_name="p", label_column_name="l"),
            [f"a film\t{text}" for text in TEXTS],
        ),
        "masks": (
            task_class("fill-mask")(text_column_name=("text",)),
            [f"a {tiny.SPECIAL[tiny.MASK]} film", f"i want my {tiny.SPECIAL[tiny.MASK]} back"],
        ),
    }


def has_head(base: Base, task: Task) -> bool:
    if not task.auto_class:
        return True
    try:
        getattr(transformers, task.auto_class).from_config(base.model.config)
    except ValueError:
        return False
    return True
