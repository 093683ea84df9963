"""Rows of choices in files, the task fitted to them, and a tokenizer that shows what it was called with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import Dataset

from adapterkit.data import read
from adapterkit.tasks import MultipleChoice

ENDINGS = ["ice", "fire", "mud", "sky"]
KEYED = {"text": ENDINGS, "label": ["A", "B", "C", "D"]}


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fitted(path: Path) -> tuple[MultipleChoice, Dataset]:
    """Return the task as a run has it: checked, fitted to the rows, and checked again."""
    data = read(str(path))
    task = MultipleChoice().with_columns(data.column_names)
    task.check(data, path.name)
    task = task.fit(data)
    task.check(data, path.name)
    return task, data


class Pairs:
    """A tokenizer that shows what it was called with."""

    def __call__(self, first: list[str], second: list[str], **_: Any) -> dict[str, Any]:
        return {"input_ids": [f"{a} | {b}" for a, b in zip(first, second, strict=True)]}
