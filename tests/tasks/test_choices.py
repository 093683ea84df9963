"""Choices and the right one among them, in the forms of the benchmarks that people train on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from adapterkit.errors import DataError
from adapterkit.options import build
from adapterkit.tasks import MultipleChoice, infer_task
from adapterkit.tasks.choices import choices_of
from adapterkit.tasks.columns import columns_of
from adapterkit.tasks.inputs import inputs_of
from tests.helpers.multiple_choice import ENDINGS, KEYED, Pairs, fitted, jsonl

Adapt = Callable[..., Result]


LAYOUTS: dict[str, tuple[list[dict[str, Any]], list[int], str]] = {
    "ARC": (
        [{"id": "1", "question": "Cold?", "choices": KEYED, "answerKey": "C"}],
        [2],
        "Cold? | mud",
    ),
    "ARC with numeric keys": (
        [{"question": "Cold?", "choices": {"text": ENDINGS, "label": ["1", "2", "3", "4"]}, "answerKey": "3"}],
        [2],
        "Cold? | mud",
    ),
    "OpenBookQA": ([{"id": "1", "question_stem": "Cold is", "choices": KEYED, "answerKey": "A"}], [0], "Cold is | ice"),
    "CommonsenseQA": (
        [{"question": "Cold?", "question_concept": "cold", "choices": KEYED, "answerKey": "D"}],
        [3],
        "Cold? | sky",
    ),
    "a number beside keys": ([{"question": "Cold?", "choices": KEYED, "label": 1}], [1], "Cold? | fire"),
    "choices as objects": (
        [
            {
                "question": "Cold?",
                "choices": [{"label": k, "text": t} for k, t in zip("ABCD", ENDINGS, strict=True)],
                "answerKey": "B",
            }
        ],
        [1],
        "Cold? | fire",
    ),
    "choices by key": (
        [{"question": "Cold?", "options": dict(zip("ABCD", ENDINGS, strict=True)), "answer": "B"}],
        [1],
        "Cold? | fire",
    ),
    "RACE": (
        [{"article": "It snows.", "question": "What is _?", "options": ENDINGS, "answer": "B", "example_id": "1"}],
        [1],
        "It snows. | What is _? fire",
    ),
    "HellaSwag": (
        [
            {
                "ind": 1,
                "ctx_a": "It",
                "ctx_b": "is",
                "ctx": "It is",
                "endings": ENDINGS,
                "label": "3",
                "activity_label": "x",
            }
        ],
        [3],
        "It is | sky",
    ),
    "SWAG": (
        [{"sent1": "It snows.", "sent2": "There is", **{f"ending{i}": e for i, e in enumerate(ENDINGS)}, "label": 2}],
        [2],
        "It snows. | There is mud",
    ),
    "PIQA": ([{"goal": "Cool it", "sol1": "use ice", "sol2": "use fire", "label": 0}], [0], "Cool it | use ice"),
    "COPA": (
        [{"premise": "It snowed.", "choice1": "cold", "choice2": "hot", "question": "cause", "idx": 0, "label": 1}],
        [1],
        "It snowed. | cause hot",
    ),
    "WinoGrande": (
        [{"sentence": "_ is cold", "option1": "ice", "option2": "fire", "answer": a} for a in ("1", "2")],
        [0, 1],
        "_ is cold | ice",
    ),
    "SocialIQA": (
        [
            {"context": "It snows.", "question": "And?", "answerA": "a", "answerB": "b", "answerC": "c", "label": label}
            for label in ("3", "1")
        ],
        [2, 0],
        "It snows. | And? c",
    ),
    "MMLU": ([{"question": "Cold?", "subject": "ice", "choices": ENDINGS, "answer": 3}], [3], "Cold? | sky"),
    "a column for each letter": (
        [{"question": "Cold?", **dict(zip("ABCD", ENDINGS, strict=True)), "answer": "c"}],
        [2],
        "Cold? | mud",
    ),
    "MedMCQA": (
        [{"question": "Cold?", **dict(zip(("opa", "opb", "opc", "opd"), ENDINGS, strict=True)), "cop": 1}],
        [1],
        "Cold? | fire",
    ),
    "the answer's text": ([{"question": "Cold?", "options": ENDINGS, "answer": "fire"}], [1], "Cold? | fire"),
    "SciQ": (
        [
            {
                "question": "Cold?",
                "distractor3": "sky",
                "distractor1": "ice",
                "distractor2": "fire",
                "correct_answer": "mud",
                "support": "It snows.",
            }
        ],
        [0],
        "It snows. | Cold? mud",
    ),
    "SciQ without support": (
        [
            {
                "question": "Cold?",
                **{f"distractor{i}": ending for i, ending in enumerate(ENDINGS[:3], start=1)},
                "correct_answer": "sky",
                "support": "",
            }
        ],
        [0],
        " | Cold? sky",
    ),
    "alphaNLI": (
        [
            {"story_id": "1", "obs1": "It snows.", "obs2": "I fell.", "hyp1": "ice", "hyp2": "fire", "label": label}
            for label in ("1", "2")
        ],
        [0, 1],
        "It snows. | I fell. ice",
    ),
    "ARC as it is published": (
        [
            {
                "id": "1",
                "question": {
                    "stem": "Cold?",
                    "choices": [{"text": t, "label": k} for k, t in zip("ABCD", ENDINGS, strict=True)],
                },
                "answerKey": "C",
            }
        ],
        [2],
        "Cold? | mud",
    ),
    "CommonsenseQA as it is published": (
        [
            {
                "answerKey": "B",
                "id": "1",
                "question": {
                    "question_concept": "cold",
                    "choices": [{"label": k, "text": t} for k, t in zip("ABCD", ENDINGS, strict=True)],
                    "stem": "Cold?",
                },
            }
        ],
        [1],
        "Cold? | fire",
    ),
    "RACE as it is published": (
        [
            {
                "answers": ["B", "A"],
                "options": [ENDINGS, ENDINGS[::-1]],
                "questions": ["What is _?", "Which?"],
                "article": "It snows.",
                "id": "high1.txt",
            }
        ],
        [1, 0],
        "It snows. | What is _? fire",
    ),
    "DREAM": (
        [{"dialogue": ["A: cold!", "B: yes"], "question": "What?", "choice": ENDINGS, "answer": "mud"}],
        [2],
        "A: cold! B: yes | What? mud",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read_whole_and_alike_in_training_and_prediction(layout: str, tmp_path: Path) -> None:
    rows, targets, right = LAYOUTS[layout]
    task, data = fitted(jsonl(tmp_path / "a.jsonl", *rows))
    assert infer_task(data[0]) == "multiple-choice"
    features = task.tokenize(data[:], Pairs(), labelled=True)
    assert features["labels"] == targets
    assert features["input_ids"][0][targets[0]] == right
    predicted = task.prompts(columns_of(task, list(data)).values, Pairs())
    assert predicted["input_ids"] == features["input_ids"]


def test_the_label_of_an_answer_is_counted_as_in_the_file_and_has_its_key(tmp_path: Path) -> None:
    import numpy as np

    for layout, expected in (("WinoGrande", {"label": 2}), ("ARC", {"label": 1, "key": "B"}), ("PIQA", {"label": 1})):
        task, data = fitted(jsonl(tmp_path / "a.jsonl", *LAYOUTS[layout][0]))
        answer = task.answers(
            [np.array([0.0, 1.0, 0.0, 0.0][: 4 if "key" in expected else 2])], data.select([0]), None
        )[0]
        assert {key: answer[key] for key in answer if key in ("label", "key")} == expected
    assert fitted(jsonl(tmp_path / "a.jsonl", *LAYOUTS["WinoGrande"][0]))[0].recorded()["first_label"] == 1


def test_numbers_from_0_have_the_manifest_of_before(tmp_path: Path) -> None:
    task, _ = fitted(jsonl(tmp_path / "a.jsonl", *LAYOUTS["SWAG"][0]))
    assert "first_label" not in task.recorded()
    assert build(MultipleChoice, task.recorded()) == task


def test_labels_that_are_numbers_from_1_and_from_0_are_told_apart_by_all_rows(tmp_path: Path) -> None:
    row = {"question": "Cold?", "choices": ["a", "b"]}
    one = jsonl(tmp_path / "a.jsonl", *[{**row, "label": label} for label in (1, 2, 1)])
    assert fitted(one)[0].first_label == 1
    zero = jsonl(tmp_path / "b.jsonl", *[{**row, "label": label} for label in (1, 0, 1)])
    assert fitted(zero)[0].first_label == 0
    both = jsonl(tmp_path / "c.jsonl", *[{**row, "label": label} for label in (1, 0, 2)])
    with pytest.raises(DataError, match=r"c\.jsonl:3: the label is '2', but there are endings 0 to 1"):
        fitted(both)


CELLS = [
    json.dumps(ENDINGS),
    repr(ENDINGS),
    json.dumps(KEYED),
    repr(KEYED),
    "{'text': array(['ice', 'fire', 'mud', 'sky'], dtype=object), 'label': array(['A', 'B', 'C', 'D'], dtype=object)}",
]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_of_a_table_holds_choices(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('question,choices,answerKey\nCold?,"' + cell.replace('"', '""') + '",C\n')
    task, data = fitted(path)
    assert task.tokenize(data[:], Pairs(), labelled=True)["labels"] == [2]
    assert task.tokenize(data[:], Pairs(), labelled=False)["input_ids"] == [[f"Cold? | {e}" for e in ENDINGS]]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "choices without texts": (
        {"choices": {"label": ["A", "B"]}, "answerKey": "A"},
        "a list of at least 2 endings was expected",
    ),
    "one choice": ({"choices": {"text": ["ice"], "label": ["A"]}, "answerKey": "A"}, "1 endings, but at least 2"),
    "an empty choice": (
        {"choices": {"text": ["ice", ""], "label": ["A", "B"]}, "answerKey": "A"},
        "an ending is empty",
    ),
    "a key twice": (
        {"choices": {"text": ["ice", "mud"], "label": ["A", "A"]}, "answerKey": "A"},
        "a different one for each",
    ),
    "a key too few": (
        {"choices": {"text": ["ice", "mud"], "label": ["A"]}, "answerKey": "A"},
        "a different one for each",
    ),
    "a key that is none": ({"choices": KEYED, "answerKey": "E"}, "the label is 'E', but there are endings A, B, C, D"),
    "no key": ({"choices": KEYED, "answerKey": ""}, "answerKey is empty"),
    "a letter too far": ({"choices": ENDINGS, "answerKey": "E"}, "the label is 'E', but there are endings 0 to 4"),
    "several answers": ({"choices": ENDINGS, "answerKey": ["A"]}, "the label is '['A']'"),
    "choices of lists": (
        {"choices": [["ice"], ["mud"]], "answerKey": "A"},
        "a list of at least 2 endings was expected",
    ),
    "a question of parts": (
        {"question": {"stem": "Cold?"}, "choices": ENDINGS, "answerKey": "A"},
        "but a text was expected",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cant_be_read_is_refused_with_file_and_line(name: str, tmp_path: Path) -> None:
    row, reason = BAD[name]
    with pytest.raises(DataError) as caught:
        fitted(jsonl(tmp_path / "a.jsonl", {"question": "Cold?", **row}))
    assert str(caught.value).startswith("a.jsonl:1: ")
    assert reason in str(caught.value)


def test_what_predict_cant_read_is_refused_there_too() -> None:
    task = MultipleChoice().with_columns(["question", "choices", "answerKey"])
    for row, reason in list(BAD.values())[:4]:
        with pytest.raises(DataError, match="a list of at least 2 endings was expected"):
            inputs_of(task, {"question": "Cold?", **row})
        with pytest.raises(ValueError, match=reason.split(",")[0]):
            choices_of(row["choices"])
