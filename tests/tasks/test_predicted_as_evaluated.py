"""What predict makes of a row is what evaluation made of the same row, whatever the row."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adapterkit import Adapter, Base, predict
from adapterkit.data import memory_dataset
from adapterkit.data.blank import is_blank
from adapterkit.errors import DataError
from adapterkit.evaluation.evaluate import evaluate
from adapterkit.tasks import Task, task_class
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers import tolerance

pytestmark = pytest.mark.filterwarnings("ignore::adapterkit.errors.TruncationWarning")  # long texts are among the rows
FAMILIES = {
    "question-answering": "bert",
    "multiple-choice": "bert",
    "text2text-generation": "t5",
    "text-generation": "llama",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "question-answering": {"max_seq_length": 32, "doc_stride": 8},
    "multiple-choice": {"max_seq_length": 24},
    "text2text-generation": {"max_seq_length": 24, "max_target_length": 4},
    "text-generation": {"max_seq_length": 48, "max_new_tokens": 4},
}
ALPHABET = st.sampled_from("ab e.,'-\t\n\"[{5É北กक\u093f\u0301\u200d👍ш")
TEXT = st.text(ALPHABET, min_size=1, max_size=20).filter(lambda text: not is_blank(text))
CELLS = st.one_of(TEXT, st.integers(0, 99), st.floats(0, 9, width=16), st.lists(TEXT, min_size=1, max_size=3))
EMPTY = st.one_of(TEXT, st.just(""), st.none())


@functools.cache
def base_of(name: str) -> Base:
    folder = tempfile.TemporaryDirectory()
    head = tiny.HEADS.get(name, "AutoModel")
    base = Base.load(str(tiny.make(FAMILIES[name], Path(folder.name) / "base", head=head)))
    base.folder = folder  # type: ignore[attr-defined]  # as long as the base
    return base


def check_alike(name: str, row: dict[str, Any]) -> None:
    """Compare the answer of an evaluation of one row with the prediction for it, with and without its answer."""
    data = memory_dataset([row, row], "rows")
    task: Task = task_class(name)(**OPTIONS[name]).with_columns(data.column_names)
    task.check(data, "rows")
    task = task.fit(data)
    adapter: Adapter = made.adapter(base_of(name), task, std=0.3)
    try:
        evaluated = evaluate(base_of(name), adapter, data.select([0])).answers[0]
    except DataError as error:  # the tiny base has room for 64 tokens
        assume("exceeds the" not in str(error))
        raise
    inputs = {key: value for key, value in row.items() if key in task.input_columns}
    as_json = json.loads(json.dumps(inputs))
    for rows in (row, inputs, as_json):
        predicted = predict(base_of(name), adapter, [rows])[0]
        assert predicted == tolerance.near(evaluated, tolerance.TINY_PAIR)


def alike(name: str, rows: st.SearchStrategy[dict[str, Any]]) -> Any:
    checked = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    return checked(given(rows)(lambda row: check_alike(name, row)))


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    answer, before, after = (draw(TEXT) for _ in range(3))
    context = before + answer + after
    form = draw(st.sampled_from(["text", "list", "object", "objects", "none"]))
    forms: dict[str, Any] = {
        "text": answer,
        "list": [answer],
        "object": {"text": [answer], "answer_start": [len(before)]},
        "objects": [{"text": answer, "answer_start": len(before)}],
        "none": {"text": [], "answer_start": []},
    }
    question = draw(TEXT.filter(lambda text: len(text) < 9))
    return {
        "id": draw(st.one_of(st.integers(0, 9), TEXT)),
        "question": question,
        "context": context,
        "answers": forms[form],
    }


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    texts = draw(st.lists(TEXT.filter(lambda t: "[" not in t and "{" not in t), min_size=2, max_size=4))
    keys = list("ABCD"[: len(texts)])
    right = draw(st.integers(0, len(texts) - 1))
    form = draw(st.sampled_from(["list", "keyed", "objects", "columns"]))
    row: dict[str, Any] = {"question": draw(CELLS)}
    if form == "columns":
        return {**row, **{f"option{i}": text for i, text in enumerate(texts)}, "label": right}
    if form == "list":
        return {**row, "options": texts, "answer": keys[right]}
    if form == "keyed":
        return {**row, "choices": {"text": texts, "label": keys}, "answerKey": keys[right]}
    objects = [{"label": key, "text": text} for key, text in zip(keys, texts, strict=True)]
    return {**row, "choices": objects, "answerKey": keys[right]}


PAIRS = st.one_of(
    st.fixed_dictionaries({"source": CELLS, "target": TEXT}),
    st.fixed_dictionaries({"instruction": TEXT, "input": EMPTY, "output": TEXT}),
    st.fixed_dictionaries({"translation": st.fixed_dictionaries({"en": TEXT, "de": TEXT})}),
)


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    question, answer = draw(TEXT), draw(TEXT)
    part = [{"type": "text", "text": question}]
    form = draw(st.sampled_from(["openai", "parts", "sharegpt", "trl", "alpaca", "dolly", "prompt", "tools"]))
    calls = [{"type": "function", "function": {"name": "f", "arguments": json.dumps({"a": answer})}}]
    forms: dict[str, dict[str, Any]] = {
        "openai": {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]},
        "parts": {
            "messages": [
                {"role": "user", "content": part},
                {"role": "assistant", "content": [{"type": "text", "text": answer}]},
            ]
        },
        "sharegpt": {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]},
        "trl": {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": answer}],
        },
        "alpaca": {"instruction": question, "input": draw(EMPTY), "output": answer},
        "dolly": {"instruction": question, "context": draw(EMPTY), "response": answer, "category": "qa"},
        "prompt": {"prompt": draw(CELLS), "completion": answer},
        "tools": {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": "", "tool_calls": calls},
            ],
            "tools": json.dumps([{"type": "function", "function": {"name": "f"}}]),
        },
    }
    return forms[form]


ROWS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "question-answering": questions(),
    "multiple-choice": choices(),
    "text2text-generation": PAIRS,
    "text-generation": conversations(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_predicted_as_it_is_evaluated(name: str) -> None:
    alike(name, ROWS[name])()
