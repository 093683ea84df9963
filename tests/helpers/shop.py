"""A registry with an adapter for each task, for `adapt predict`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from adapterkit import Adapter, Base, Registry, predict
from adapterkit.tasks import Task, task_class
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers import tolerance

TEXTS = ["a fine film", "i want my money back, now", "great", "rude staff & “awful” food", 'so "so", really']


ADAPT = str(Path(sys.executable).with_name("adapt"))


def classes(*labels: str, columns: tuple[str, ...] = ("text",), **more: Any) -> Task:
    return task_class("text-classification")(
        **{"problem_type": "single_label_classification", **more},
        text_column_name=columns,
        label_column_name="label",
        labels=labels,
        max_seq_length=64,
    )


TASKS: dict[str, tuple[Task, str]] = {
    "mood": (classes("bad", "good"), "lora"),
    "topic": (classes("food", "film", "staff"), "head-only"),
    "review": (classes("bad", "good", columns=("review",)), "layerwise"),
    "stars": (classes(problem_type="regression"), "lora"),
    "many": (classes("a", "b", "c", problem_type="multi_label_classification", threshold=0.4), "lora"),
    "pair": (classes("yes", "no", columns=("premise", "hypothesis")), "lora"),
    "names": (
        task_class("token-classification")(
            text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-X", "I-X")
        ),
        "lora",
    ),
    "answers": (
        task_class("question-answering")(
            question_column_name="question", context_column_name="context", answer_column_name="answers"
        ),
        "lora",
    ),
    "choice": (
        task_class("multiple-choice")(
            context_column_name="context", endings_column_name=("endings",), label_column_name="label"
        ),
        "lora",
    ),
    "swag": (
        task_class("multiple-choice")(
            context_column_name="context",
            question_column_name="begin",
            endings_column_name=("ending0", "ending1"),
            label_column_name="label",
        ),
        "lora",
    ),
}


OTHERS: dict[str, tuple[str, str, Task]] = {  # on bases of their own: family, head, task
    "far": ("bert", "AutoModel", classes("bad", "good")),
    "words": ("bert", "AutoModelForMaskedLM", task_class("fill-mask")(text_column_name=("text",))),
    "on": (
        "gpt2",
        "AutoModelForCausalLM",
        task_class("text-generation")(
            prompt_column_name="prompt", completion_column_name="completion", max_new_tokens=4
        ),
    ),
    "chat": (
        "gpt2",
        "AutoModelForCausalLM",
        task_class("text-generation")(text_column_name=("messages",), max_new_tokens=4),
    ),
    "german": (
        "t5",
        "AutoModelForSeq2SeqLM",
        task_class("text2text-generation")(
            source_column_name="translation",
            target_column_name="translation",
            source_lang="en",
            target_lang="de",
            max_target_length=6,
        ),
    ),
}


class Shop:
    """Adapters that are registered, and what each of them says by itself."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder / "registry.json")
        self.folder = folder
        self.adapters: dict[str, tuple[Base, Adapter]] = {}
        self.base = Base.load(str(tiny.make("bert", folder / "base")))
        for name, (task, strategy) in TASKS.items():
            self.add(name, self.base, task, strategy)
        bases: dict[str, Base] = {}
        for name, (family, head, task) in OTHERS.items():
            if f"{family}-{head}" not in bases:
                made_at = tiny.make(family, folder / f"{family}-{head}", seed=1, head=head)
                bases[f"{family}-{head}"] = Base.load(str(made_at))
            self.add(name, bases[f"{family}-{head}"], task, "lora")

    def add(self, name: str, base: Base, task: Task, strategy: str, seed: int | None = None) -> None:
        seed = len(self.adapters) if seed is None else seed
        few = {"target_modules": ("usual",)} if strategy == "lora" else {}  # with all of them, rounding grows
        adapter = made.adapter(base, task, strategy, seed=seed, std=0.3, **few)
        self.adapters[name] = base, adapter
        about = {"name": base.name, "fingerprint": base.fingerprint}
        entry = {"task": task.name, "strategy": strategy, "base": about, "bytes": 0, "metrics": {}}
        self.registry.add(name, adapter.files(), entry)

    def say(self, name: str, texts: list[Any]) -> list[dict[str, Any]]:
        return predict(*self.adapters[name], texts)


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def close(found: Any, wanted: Any) -> None:
    """Compare nests of values, numbers nearly."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            close(found[key], value)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            close(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=tolerance.TINY_PAIR)
    else:
        assert found == wanted


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def separated(path: Path, rows: list[dict[str, Any]], delimiter: str) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


WRITE: dict[str, Callable[[Path, list[dict[str, Any]]], Any]] = {
    "jsonl": lambda path, rows: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    "json": lambda path, rows: path.write_text(json.dumps({"data": rows})),
    "csv": lambda path, rows: separated(path, rows, ","),
    "tsv": lambda path, rows: separated(path, [{**r, "text": r["text"].replace('"', "")} for r in rows], "\t"),
    "parquet": lambda path, rows: pyarrow.parquet.write_table(table(rows), path),
    "arrow": lambda path, rows: pyarrow.feather.write_feather(table(rows), path),
}
