"""Chats, tools and answers whose objects have other types from row to row are read as they are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import read
from adapterkit.errors import DataError
from adapterkit.tasks import QuestionAnswering, Task, TextGeneration
from adapterkit.tasks.conversations import messages_of
from adapterkit.tasks.inputs import inputs_of

ANSWER = {"role": "assistant", "content": "soup"}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": "cook", "arguments": arguments}}]}


def read_for(task: Task, path: Path, *rows: dict[str, Any]) -> tuple[Task, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = task.with_columns(read(str(path), columns=[]).column_names)
    data = read(str(path), columns=chosen.columns_read, parses=chosen.parses)
    chosen.check(data, path.name)
    return chosen, data


@pytest.mark.parametrize(
    "chats",
    [
        [[user([{"type": "text", "text": "Cook"}]), ANSWER]],
        [[user("Cook"), ANSWER], [user([{"type": "text", "text": "Eat"}]), ANSWER]],
        [[user("Cook"), call({"a": 1}), ANSWER], [user("Cook"), call({"a": "x", "b": [1]}), ANSWER]],
        [[user("Cook"), call("{}"), ANSWER], [user("Cook"), call({"a": 1}), ANSWER]],
    ],
)
def test_messages_of_several_types_are_read_as_prediction_reads_them(chats: list[Any], tmp_path: Path) -> None:
    task, data = read_for(TextGeneration(), tmp_path / "a.jsonl", *({"messages": chat} for chat in chats))
    for chat, cell in zip(chats, data["messages"], strict=True):
        assert messages_of(inputs_of(task, {"messages": chat})["messages"]) == messages_of(cell) == messages_of(chat)


def test_schemas_of_tools_may_have_defaults_of_several_types(tmp_path: Path) -> None:
    schemas = [[{"name": "f", "parameters": {"x": {"default": value}}}] for value in (1, "one", [1])]
    rows = ({"messages": [user("Cook"), ANSWER], "tools": tools} for tools in schemas)
    _, data = read_for(TextGeneration(), tmp_path / "a.jsonl", *rows)
    assert [json.loads(cell) for cell in data["tools"]] == schemas


def test_answers_in_two_forms_are_read(tmp_path: Path) -> None:
    question = {"question": "Who?", "context": "Ann sings."}
    forms = [[{"text": "Ann", "answer_start": 0}], {"text": ["Ann"], "answer_start": [0]}]
    task, data = read_for(QuestionAnswering(), tmp_path / "a.jsonl", *(question | {"answers": form} for form in forms))
    assert isinstance(task, QuestionAnswering)
    assert task._references(data) == [["Ann"], ["Ann"]]


@pytest.mark.parametrize("other", ["hello", {"a": 1}, [1], [{"text": "hi"}]])
def test_what_is_no_chat_among_chats_is_refused(other: Any, tmp_path: Path) -> None:
    chats = [[user([{"type": "text", "text": "Cook"}]), ANSWER], other]
    with pytest.raises(DataError, match=r"a\.jsonl:[12]: "):
        read_for(TextGeneration(), tmp_path / "a.jsonl", *({"messages": chat} for chat in chats))


@pytest.mark.parametrize("values", [({"a": 1}, {"a": "x"}), (["a"], [1])])
def test_objects_of_several_types_are_no_texts(values: tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:2: text is .*as in the rows before"):
        read_for(TextGeneration(), tmp_path / "a.jsonl", *({"text": value} for value in values))
