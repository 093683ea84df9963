"""Sources and targets in the forms of translation, summarization and instruction data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from adapterkit.data import read
from adapterkit.errors import DataError, TaskError
from adapterkit.tasks import Text2TextGeneration, infer_task
from adapterkit.tasks.columns import columns_of


class Plain:
    """A tokenizer that shows what it was called with."""

    def __call__(
        self, texts: list[str] | None = None, text_target: list[str] | None = None, **_: Any
    ) -> dict[str, Any]:
        values = texts if text_target is None else text_target
        return {"input_ids": values, "attention_mask": values}


def fitted(path: Path) -> tuple[Text2TextGeneration, Dataset]:
    data = read(str(path))
    task = Text2TextGeneration().with_columns(data.column_names)
    task.check(data, path.name)
    task = task.fit(data)
    task.check(data, path.name)
    return task, data


LAYOUTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "source and target": ({"source": "a", "target": "b"}, "a", "b"),
    "a summary": ({"article": "a b", "highlights": "a", "id": "1"}, "a b", "a"),
    "a dialogue of turns": ({"dialogue": ["A: hi", "B: hi"], "summary": "greeting"}, "A: hi B: hi", "greeting"),
    "a translation": ({"translation": {"en": "a", "de": "b"}}, "a", "b"),
    "a column named translation": ({"source": "a", "translation": "b"}, "a", "b"),
    "Alpaca": ({"instruction": "Reverse.", "input": "a b", "output": "b a"}, "Reverse.\na b", "b a"),
    "Alpaca without an input": ({"instruction": "Say hi.", "input": "", "output": "hi"}, "Say hi.", "hi"),
    "Dolly": ({"instruction": "Who?", "context": "Ann.", "response": "Ann"}, "Who?\nAnn.", "Ann"),
    "a question about a context": ({"question": "Who?", "context": "Ann.", "answer": ["Ann"]}, "Who?\nAnn.", "Ann"),
    "numbers": ({"source": 12.0, "target": 13}, "12", "13"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read_whole_and_alike_in_training_and_prediction(layout: str, tmp_path: Path) -> None:
    row, source, target = LAYOUTS[layout]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    task, data = fitted(path)
    features = task.tokenize(data[:], Plain(), labelled=True)
    assert (features["input_ids"], features["labels"], task.references(data)) == ([source], [target], [target])
    assert task.prompts(columns_of(task, [row]).values, Plain())["input_ids"] == [source]


def test_a_cell_of_a_table_holds_a_translation(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('translation\n"{\'en\': \'a\', \'de\': \'b\'}"\n"{""en"": ""c"", ""de"": ""d""}"\n')
    task, data = fitted(path)
    features = task.tokenize(data[:], Plain(), labelled=True)
    assert (features["input_ids"], features["labels"]) == (["a", "c"], ["b", "d"])


def test_an_input_may_be_left_out_and_is_no_part_of_older_manifests() -> None:
    task = Text2TextGeneration().with_columns(["instruction", "input", "output"])
    for row in ({"instruction": "a"}, {"instruction": "a", "input": None}, "a", "a\t"):
        assert task.prompts(columns_of(task, [row]).values, Plain())["input_ids"] == ["a"]
    assert task.prompts(columns_of(task, ["a\tb"]).values, Plain())["input_ids"] == ["a\nb"]
    assert task.describe_columns() == "instruction + input -> output"
    assert "input_column_name" not in Text2TextGeneration().with_columns(["source", "target"]).recorded()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a source that is an object": ({"source": {"a": 1}, "target": "b"}, "source is {'a': 1}, but a text was expected"),
    "several targets": (
        {"source": "a", "target": ["b", "c"]},
        "target is a list of 2 texts, but one text was expected",
    ),
    "an empty target": ({"source": "a", "target": ""}, "target is empty"),
    "a translation that is a text": (
        {"translation": "a"},
        "translation is a, but an object with a text in each language",
    ),
    "a language that is no text": ({"translation": {"en": "a", "de": {"x": 1}}}, "translation is {'x': 1}, but a text"),
    "a language that is empty": ({"translation": {"en": "a", "de": ""}}, "translation has no 'de'; it has en, de"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cant_be_read_is_refused_with_file_and_line(name: str, tmp_path: Path) -> None:
    row, reason = BAD[name]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError) as caught:
        fitted(path)
    assert str(caught.value).startswith("a.jsonl:1: ")
    assert reason in str(caught.value)


def test_several_references_of_a_translation_are_refused_and_a_single_one_is_read(tmp_path: Path) -> None:
    for number, target in enumerate((["b", "c"], ["b"])):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps({"translation": {"en": "a", "de": target}}) + "\n")
        data = read(str(path))
        task = Text2TextGeneration(source_lang="en", target_lang="de").with_columns(data.column_names)
        if len(target) == 1:
            task.check(data, "a")
            assert task._targets(data) == ["b"]
        else:
            with pytest.raises(DataError, match="a:1: translation is a list of 2 texts, but one text was expected"):
                task.check(data, "a")


def test_columns_named_by_two_languages_suggest_a_translation() -> None:
    with pytest.raises(TaskError) as caught:
        infer_task({"en": "a soup", "pt_BR": "uma sopa"})
    command = ("--task", "translation", "--source-column", "en", "--target-column", "pt_BR")
    assert caught.value.suggestion == command
