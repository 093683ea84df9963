"""Columns, labels, losses and answers of the tasks that align tokens with words and characters, value by value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn.functional import cross_entropy

from adapterkit.data.splits import LINE
from adapterkit.errors import DataError
from adapterkit.tasks import Task, task_class
from adapterkit.tasks.columns import Columns
from adapterkit.testing import tiny
from tests.helpers import tolerance

NEAR = tolerance.relative(64)


def tags(*labels: str, **options: Any) -> Task:
    columns = {"text_column_name": ("tokens",), "label_column_name": "tags"}
    return task_class("token-classification")(**{**columns, "labels": labels, **options})


def questions(**options: Any) -> Task:
    columns = {name: name.removesuffix("_column_name") for name in ("question_column_name", "context_column_name")}
    return task_class("question-answering")(**{**columns, "answer_column_name": "answers", **options})


def data_of(**columns: Sequence[Any]) -> Any:
    count = len(next(iter(columns.values())))
    return Columns({LINE: list(range(2, 2 + count)), **columns})


# ---- columns


@pytest.mark.parametrize(("words", "labels"), [("tokens", "ner_tags"), ("words", "pos_tags"), ("Tokens", "bio_tags")])
def test_words_and_tags_are_read_from_columns_of_usual_names(words: str, labels: str) -> None:
    task: Any = task_class("token-classification")().with_columns(["id", labels, words, LINE])
    assert (task.text_column_name, task.label_column_name) == ((words,), labels)
    assert list(task.input_columns) == [words]
    task = task_class("token-classification")(text_column_name=("id",), label_column_name="x")
    task = task.with_columns(["tokens", "tags", "id", "x"])
    assert (task.text_column_name, task.label_column_name) == (("id",), "x")


@pytest.mark.parametrize("question", ["question", "query"])
@pytest.mark.parametrize("context", ["context", "passage", "paragraph"])
@pytest.mark.parametrize("answer", ["answers", "answer", "answer_text"])
def test_questions_are_read_from_columns_of_usual_names(question: str, context: str, answer: str) -> None:
    task: Any = task_class("question-answering")().with_columns(["id", answer, context, question])
    columns = (task.question_column_name, task.context_column_name, task.answer_column_name)
    assert columns == (question, context, answer)


@pytest.mark.parametrize(
    ("task", "columns", "flag", "suggestion"),
    [
        ("question-answering", ["context", "answers"], "--question-column-name", ("--question-column", "context")),
        ("question-answering", ["question", "answers"], "--context-column-name", ("--context-column", "question")),
        ("question-answering", ["question", "context"], "--answer-column-name", ("--answer-column", "question")),
        ("token-classification", ["tags", "x"], "--text-column-name", ("--text-column", "tags")),
        ("token-classification", ["tokens", "x", "y"], "--label-column-name", ("--label-column", "y")),
    ],
)
def test_a_column_that_has_no_usual_name_is_requested_by_its_option(
    task: str, columns: list[str], flag: str, suggestion: tuple[str, str]
) -> None:
    with pytest.raises(DataError, match=f"{flag}; there are {', '.join(columns)}$") as error:
        task_class(task)().with_columns(columns)
    assert error.value.suggestion == suggestion


def test_the_usual_columns_are_those_of_the_options() -> None:
    names = {
        "token-classification": {"text_column_name", "label_column_name"},
        "question-answering": {"question_column_name", "context_column_name", "answer_column_name"},
    }
    for name, options in names.items():
        task: Any = task_class(name)
        assert set(task.usual_columns) == options
        chosen = task().with_columns([columns[0] for columns in task.usual_columns.values()])
        for option, columns in task.usual_columns.items():
            value = getattr(chosen, option)
            assert (value[0] if isinstance(value, tuple) else value) == columns[0]


# ---- token classification


def test_tags_are_sorted_completed_counted_and_weighed_by_their_rarity() -> None:
    rows = data_of(tokens=[["a", "b", "c"], ["d"]], tags=[["O", "B-X", "I-X"], ["B-Y"]])
    task: Any = tags(class_weight="balanced").fit(rows)
    assert task.labels == ("B-X", "B-Y", "I-X", "I-Y", "O")
    # scikit-learn's rule, rows / (labels * count): 4 words, 5 labels; one that no row has counts once
    assert task.label_weights == ("0.8",) * 5
    assert tags().fit(rows).label_weights == ()
    assert task.config() == {
        "num_labels": 5,
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: i for i, label in enumerate(task.labels)},
    }
    frequent: Any = tags(class_weight="balanced").fit(data_of(tokens=[["a"] * 6], tags=[["O"] * 4 + ["P", "P"]]))
    assert frequent.label_weights == ("0.75", "1.5")
    with pytest.raises(DataError, match="'O'"):
        tags().fit(data_of(tokens=[["a"]], tags=[["O"]]))


@pytest.mark.parametrize(
    ("labels", "best"),
    [(("B-X", "O"), "f1"), (("O", "S-X", "E-X", "L-Y", "U-Y", "I-Y"), "f1"), (("NOUN", "O"), "accuracy")],
)
def test_the_best_epoch_is_chosen_by_f1_of_entities_or_by_accuracy_of_other_tags(
    labels: tuple[str, ...], best: str
) -> None:
    assert tags(*labels).best == best


def test_a_words_label_is_on_its_first_token() -> None:
    words = ["the", "old", "mill", "burnt"]
    task, tokenizer = tags("O", "B-X", max_seq_length=32), tiny.tokenizer()
    features = task.tokenize({"tokens": [words], "tags": [["O", "B-X", "O", "B-X"]]}, tokenizer, labelled=True)
    ids, labels = features["input_ids"][0], features["labels"][0]
    (first,) = features["first"]
    assert [labels[i] for i in first] == [0, 1, 0, 1]
    assert [label for i, label in enumerate(labels) if i not in first] == [-100] * (len(ids) - 4)
    begins = [len(tokenizer(" ".join(words[:i]), add_special_tokens=False)["input_ids"]) for i in range(4)]
    lead = ids.index(tokenizer("the", add_special_tokens=False)["input_ids"][0])
    assert first == [lead + begin for begin in begins]


def test_a_words_logits_are_those_of_its_first_token_in_the_order_of_the_windows() -> None:
    task = tags("O", "B-X", "I-X")
    logits = [np.arange(15.0).reshape(5, 3), np.arange(15.0, 30.0).reshape(5, 3), np.zeros((5, 3))]
    windows = {"row": [0, 0, 1], "word": [3, 0, 0], "first": [[2], [1, 3, -1], []]}
    first, second = task.predictions(logits, Columns(windows), None)
    outside = [0.0, -1e4, -1e4]
    assert first.tolist() == [logits[1][1].tolist(), logits[1][3].tolist(), outside, logits[0][2].tolist()]
    assert second.shape == (0, 3)


def test_tags_that_are_no_entities_are_measured_by_word() -> None:
    task = tags("ADJ", "NOUN", "VERB")
    rows = data_of(tokens=[["a", "b", "c"], ["d"]], tags=[["NOUN", "VERB", "ADJ"], ["NOUN"]])
    predictions = [np.eye(3)[[1, 2, 1]], np.eye(3)[[0]]]
    assert task.metrics(predictions, rows).values["accuracy"] == 0.5
    table = {row["label"]: row for row in task.tables(predictions, rows)["per_label"]}
    assert {label: row["support"] for label, row in table.items()} == {"ADJ": 1, "NOUN": 2, "VERB": 1}
    assert (table["NOUN"]["precision"], table["NOUN"]["recall"], table["VERB"]["f1"]) == (0.5, 0.5, 1.0)
    answers = task.answers(predictions, rows, None)
    assert [answer["tags"] for answer in answers] == [["a/NOUN", "b/VERB", "c/NOUN"], ["d/ADJ"]]


def test_entities_have_the_characters_and_the_mean_share_of_their_words() -> None:
    task = tags("O", "B-X", "I-X", "B-Y")
    rows = data_of(tokens=[["New", "York", "is", "Rome"]], tags=[["B-X", "I-X", "O", "B-X"]])
    logits = np.array([[0.0, 2, 0, 0], [0, 0, 3, 0], [1, 0, 0, 0], [0, 0, 0, 4.0]])
    (answer,) = task.answers([logits], rows, None)
    shares = softmax(logits, axis=-1).max(-1)
    assert answer["entities"] == [
        {"entity": "X", "text": "New York", "start": 0, "end": 8, "score": pytest.approx(shares[:2].mean())},
        {"entity": "Y", "text": "Rome", "start": 12, "end": 16, "score": pytest.approx(shares[3])},
    ]
    assert task.metrics([logits], rows).values["f1"] == 0.5
    assert [row["type"] for row in task.tables([logits], rows)["per_type"]] == ["X", "Y"]


# ---- question answering


def test_a_question_is_unanswerable_where_its_score_is_above_the_threshold() -> None:
    spans = [
        {"text": "yes", "start": 4, "end": 7, "score": 3.0, "null_score": -2.0},
        {"text": "no", "start": 0, "end": 2, "score": 1.0, "null_score": 1.5},
    ]
    rows = data_of(question=["a", "b"], context=["say yes", "no"], answers=["yes", {"text": [], "answer_start": []}])
    task: Any = questions(version_2_with_negative=True, null_score_diff_threshold=1.0)
    share = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    assert task.answers(spans, rows, None) == [
        {"answer": "yes", "start": 4, "end": 7, "score": pytest.approx(share(3.0))},
        {"answer": "", "start": None, "end": None, "score": pytest.approx(share(0.5))},
    ]
    assert task.metrics(spans, rows).values["f1"] == 100.0
    always: Any = questions()
    assert [answer["answer"] for answer in always.answers(spans, rows, None)] == ["yes", "no"]
    assert always.metrics(spans, rows).values["f1"] == 50.0
    assert always.calibrate(spans, rows) is always
    assert -2.0 <= task.calibrate(spans, rows).null_score_diff_threshold < 1.5
    assert always.best == "f1"


def test_whether_some_questions_have_no_answer_is_inferred_from_the_training_rows() -> None:
    empty = {"text": [], "answer_start": []}
    without: Any = questions().fit(data_of(question=["a"], context=["b c"], answers=["b"]))
    some: Any = questions().fit(data_of(question=["a"] * 2, context=["b c"] * 2, answers=["b", empty]))
    assert (without.version_2_with_negative, some.version_2_with_negative) == (False, True)
    stated: Any = questions(version_2_with_negative=True)
    assert stated.fit(data_of(question=["a"], context=["b c"], answers=["b"])).version_2_with_negative


def test_the_loss_is_the_mean_of_both_ends_over_positions_that_are_not_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    starts, ends = torch.randn(2, 6, generator=generator), torch.randn(2, 6, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    batch = {"start_positions": torch.tensor([1, 3]), "end_positions": torch.tensor([3, 5]), "attention_mask": mask}
    passed: list[set[str]] = []

    def model(**inputs: Any) -> Any:
        passed.append(set(inputs))
        return SimpleNamespace(start_logits=starts, end_logits=ends)

    expected = 0.0
    for logits, places in ((starts, (1, 3)), (ends, (3, 5))):
        rows = [cross_entropy(logits[i, : mask[i].sum()], torch.tensor(place)) for i, place in enumerate(places)]
        expected += float(sum(rows)) / 2 / 2
    tolerance.assert_near(questions().loss(model, batch), torch.tensor(expected), NEAR)
    del batch["attention_mask"]
    whole = (cross_entropy(starts, batch["start_positions"]) + cross_entropy(ends, batch["end_positions"])) / 2
    tolerance.assert_near(questions().loss(model, batch), whole, NEAR)
    outputs = questions().outputs(model, {**batch, "attention_mask": mask})
    for i, (start, end) in enumerate(outputs):
        assert start.tolist() == starts[i].tolist()
        assert end.tolist() == ends[i].tolist()
    assert passed == [{"attention_mask"}, set(), {"attention_mask"}]


def test_the_answer_of_a_long_context_is_the_best_span_of_all_its_windows() -> None:
    context = "aa bb cc dd"
    offsets = [[[-1, -1], [0, 2], [3, 5]], [[-1, -1], [6, 8], [9, 11]], [[-1, -1], [0, 2]]]
    logits = [([0.5, 1, 0], [0.25, 0, 2]), ([1.0, 5, 0], [2.0, 9, 1]), ([9.0, 1], [9.0, 1])]
    outputs = [(np.array(a, dtype=float), np.array(b, dtype=float)) for a, b in logits]
    features = Columns({"row": [0, 0, 1], "offsets": offsets})
    first, second = questions().predictions(outputs, features, data_of(context=[context, "aa"]))
    assert first == {"text": "cc", "start": 6, "end": 8, "score": 14.0, "null_score": 0.75 - 14.0}
    assert second == {"text": "aa", "start": 0, "end": 2, "score": 2.0, "null_score": 16.0}
    short: Any = questions(max_answer_length=1)
    crossed = [(np.array([0.0, 5, 1]), np.array([0.0, 1, 5]))]
    rows = Columns({"row": [0], "offsets": offsets[:1]})
    assert short.predictions(crossed, rows, data_of(context=[context]))[0]["score"] == 6.0
    (whole,) = questions().predictions(crossed, rows, data_of(context=[context]))
    assert (whole["text"], whole["score"]) == ("aa bb", 10.0)


def test_a_probes_scores_are_starts_and_ends_without_those_of_padding() -> None:
    scores = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    task = questions()
    output = task.probe_output(scores, mask, None, None)
    assert output.start_logits.tolist() == [[0.0, 2.0, -1e4], [6.0, 8.0, 10.0]]
    assert output.end_logits.tolist() == [[1.0, 3.0, -1e4], [7.0, 9.0, 11.0]]
    assert output.loss is None
    labels = {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([1, 0])}
    loss = task.probe_output(scores, mask, None, None, **labels).loss
    ends = (output.start_logits, labels["start_positions"]), (output.end_logits, labels["end_positions"])
    tolerance.assert_near(loss, sum(cross_entropy(*pair) for pair in ends) / 2, NEAR)
    targets = task.probe_targets(labels, [2, 3], None)
    assert targets.tolist() == [[0, 0], [1, 1], [0, 1], [0, 0], [1, 0]]


def test_a_probes_scores_of_words_have_transformers_loss() -> None:
    scores, labels = torch.randn(2, 3, 4), torch.tensor([[0, -100, 3], [2, -100, -100]])
    task = tags("a", "b", "c", "d")
    config = SimpleNamespace(num_labels=4)
    assert task.probe_output(scores, torch.ones(2, 3), None, config).loss is None
    output = task.probe_output(scores, torch.ones(2, 3), None, config, labels=labels)
    tolerance.assert_near(output.loss, cross_entropy(scores.view(-1, 4), labels.view(-1)), NEAR)
    assert torch.equal(output.logits, scores)
