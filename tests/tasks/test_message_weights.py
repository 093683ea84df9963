"""Chats whose answers have weight 0 are counted; completions that are marked as bad are refused, row by row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapterkit.data import read
from adapterkit.errors import DataError
from adapterkit.tasks import TextGeneration


def chats(path: Path, *weights: list[int | None]) -> Path:
    rows = []
    for of_one in weights:
        messages = []
        for weight in of_one:
            answer = {"role": "assistant", "content": "soup"} | ({} if weight is None else {"weight": weight})
            messages += [{"role": "user", "content": "Cook"}, answer]
        rows.append({"messages": messages})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_chats_of_which_nothing_is_learned_are_counted(tmp_path: Path) -> None:
    data = read(str(chats(tmp_path / "a.jsonl", [0], [0, 1], [None], [0, 0], [1])))
    task = TextGeneration().with_columns(data.column_names)
    task.check(data, "a")
    assert task.remarks(data, "a", None) == ["a: 2 chats have only answers of weight 0: nothing is learned from them"]


def test_a_file_of_them_alone_is_an_error(tmp_path: Path) -> None:
    data = read(str(chats(tmp_path / "a.jsonl", [0], [0, 0])))
    with pytest.raises(DataError, match="a: all answers have weight 0, so there is nothing to learn"):
        TextGeneration().with_columns(data.column_names).check(data, "a")


def test_completions_to_avoid_are_not_learned(tmp_path: Path) -> None:
    path = tmp_path / "kto.jsonl"
    rows = [{"prompt": f"Cook {i}", "completion": "soup", "label": i != 1} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(str(path))
    task = TextGeneration().with_columns(data.column_names)
    assert [row for row, _ in task.faults(data, "a")] == [1]
    with pytest.raises(DataError, match="a:2: label is false, as of completions to avoid; --skip-bad-rows leaves"):
        task.check(data, "a")
