"""Whatever a column holds, a task reads it or refuses it with a line: in its check, and where it predicts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterkit.errors import AdapterkitError, DataError
from adapterkit.tasks import (
    MultipleChoice,
    QuestionAnswering,
    Task,
    Text2TextGeneration,
    TextGeneration,
    TokenClassification,
)
from adapterkit.tasks.answer_forms import answers_of
from adapterkit.tasks.choices import choices_of, chosen
from adapterkit.tasks.columns import Columns
from adapterkit.tasks.conversations import content_text, is_chat, messages_of, tools_of, unread_keys
from adapterkit.tasks.inputs import inputs_of
from adapterkit.tasks.values import text_of

KEYS = ["text", "answer_start", "role", "from", "content", "value", "tool_calls", "function", "name", "arguments"]
KEYS += ["label", "A", "B", "en", "de", "type", "weight", "images"]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 99),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        ["user", "assistant", "text", "[", "[{'role': 'user'}]", '{"text": 1}', "Ann", "[]", "{}", "1", "A"]
    ),
)
ANY = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@MANY
@given(ANY, ANY)
def test_answers_are_read_or_refused(value: Any, start: Any) -> None:
    try:
        answers = answers_of(value, start)
    except ValueError:
        return
    assert all(isinstance(text, str) and text.strip() for text, _ in answers)
    assert all(place is None or type(place) is int for _, place in answers)


@MANY
@given(ANY)
def test_messages_are_read_or_refused(value: Any) -> None:
    try:
        messages = messages_of(value)
    except ValueError:
        return
    assert is_chat(value)
    assert all(isinstance(content_text(message), str) for message in messages)
    assert unread_keys(value, "") <= {*KEYS}


@MANY
@given(ANY, ANY, st.integers(0, 1))
def test_choices_are_read_or_refused(value: Any, label: Any, first: int) -> None:
    try:
        texts, keys = choices_of(value)
    except ValueError:
        return
    assert len(texts) >= 2
    assert len(keys) in (0, len(texts))
    try:
        number = chosen(label, texts, keys, first)
    except ValueError:
        return
    assert number is None or 0 <= number < len(texts)


@MANY
@given(ANY)
def test_tools_are_read_or_refused(value: Any) -> None:
    try:
        assert isinstance(tools_of(value), list)
    except ValueError:
        return


TASKS: dict[str, tuple[Task, list[str]]] = {
    "question-answering": (QuestionAnswering(), ["question", "context", "answers"]),
    "multiple-choice": (MultipleChoice(), ["question", "choices", "answer"]),
    "text2text-generation": (Text2TextGeneration(), ["instruction", "input", "output"]),
    "translation": (Text2TextGeneration(source_lang="en", target_lang="de"), ["translation"]),
    "chats": (TextGeneration(), ["messages", "system", "tools"]),
    "prompts": (TextGeneration(), ["prompt", "input", "completion"]),
}


def refusal(task: Task, data: Any) -> str:
    """Return why a task refuses rows, or nothing."""
    try:
        task.check(data, "a.jsonl")
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_task_checks_and_predicts_any_row_without_a_traceback(name: str) -> None:
    task, names = TASKS[name]
    task = task.with_columns(names)

    @MANY
    @given(st.fixed_dictionaries(dict.fromkeys(names, ANY)))
    def check(row: dict[str, Any]) -> None:
        data: Any = Columns({**{key: [value] for key, value in row.items()}, "__line__": [7]})
        reason = refusal(task, data)
        assert reason == "" or reason.startswith("a.jsonl:7: ")
        assert "\n" not in reason
        try:
            inputs = inputs_of(task, row)
        except AdapterkitError:
            return
        assert set(inputs) <= set(task.input_columns)
        assert all(isinstance(text_of(v), str) for v in inputs.values() if not isinstance(v, list | tuple | dict))

    check()


def test_a_list_with_an_empty_word_is_no_text_to_a_tagger() -> None:
    task = TokenClassification(text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-X"))
    with pytest.raises(DataError, match="but a text or a list of words was expected"):
        inputs_of(task, {"tokens": ["Ann", "", "Lee"]})
    assert inputs_of(task, {"tokens": ["Ann", "Lee"]}) == {"tokens": ["Ann", "Lee"]}
