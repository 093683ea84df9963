"""Every task with every strategy on every family: it trains, saves, reloads with equal outputs, and predicts."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from adapterkit import Base, Plan, Registry, predict, run
from adapterkit.discovery import installed
from adapterkit.errors import DataError, TaskError
from adapterkit.evaluation.evaluate import evaluate
from adapterkit.features.tokenize import tokenized
from adapterkit.tasks import TASKS, infer_task, task_class
from adapterkit.testing import tiny
from tests.helpers.bases import same, state
from tests.helpers.families import ON, tried
from tests.helpers.files import SHARED
from tests.helpers.rows import ASK, ROWS
from tests.helpers.task_plans import plan

STRATEGIES = [found.name for found in installed()]


@pytest.mark.product
@pytest.mark.parametrize(
    ("family", "task", "strategy"),
    [  # of BERT all of them; of the others each task with one strategy, each of which has its turn
        (family, task, strategy)
        for f, family in enumerate(tiny.CONFIGS)
        for t, task in enumerate(TASKS)
        for s, strategy in enumerate(STRATEGIES)
        if tried(family, task) and ((family == "bert" and task not in ON) or (f + t - s) % len(STRATEGIES) == 0)
    ],
)
def test_every_task_and_strategy_trains_saves_reloads_and_predicts(
    family: str,
    task: str,
    strategy: str,
    rows_of: Callable[..., Path],
    base_for: Callable[[str, str], Base],
    registry: Registry,
) -> None:
    base = base_for(family, task)
    before = state(base)
    file = rows_of(task)
    report = run(plan(task, file, strategy), registry, base=base)
    assert same(state(base), before)
    assert report.trained_parameters > 0

    here = predict(base, report.adapter, [ASK[task]])
    there = Base.load(base.path)
    adapter = registry.load("tiny")
    assert set(adapter.tensors) == set(report.adapter.tensors)
    assert predict(there, adapter, [ASK[task]]) == here
    found = evaluate(there, adapter, _data(file))
    again = evaluate(base, report.adapter, _data(file))
    assert found.metrics.values == again.metrics.values
    validation = report.metrics["validation"]
    for name, value in found.metrics.values.items():
        if name in validation:
            assert value == pytest.approx(validation[name], abs=1e-4), name
    assert same(state(there), before)


def _data(file: Path) -> Any:
    from adapterkit.data import splits

    return splits.read(str(file))


@pytest.mark.parametrize("task", [task for task in TASKS if task != "fill-mask"])
def test_the_task_is_told_from_the_columns(task: str) -> None:
    assert infer_task(ROWS[task](1)) == task


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"premise": "a", "hypothesis": "b", "label": "x"}, "text-classification"),
        ({"question": "a", "sentence": "b", "label": 0}, "text-classification"),
        ({"text": "a", "labels": ["x"]}, "text-classification"),
        ({"tokens": ["a"], "slots": ["O"], "intent": "x"}, "token-classification"),
        ({"translation": {"en": "a", "sv": "b"}}, "text2text-generation"),
        ({"document": "a", "summary": "b"}, "text2text-generation"),
        ({"messages": [{"role": "user", "content": "a"}]}, "text-generation"),
        ({"text": "a"}, "text-generation"),
        ({"sent1": "a", "ending0": "b", "ending1": "c", "label": 0}, "multiple-choice"),
    ],
)
def test_the_task_is_told_from_usual_columns(row: dict[str, Any], task: str) -> None:
    assert infer_task(row) == task


def test_columns_of_no_task_are_an_error() -> None:
    with pytest.raises(TaskError, match="no task fits the columns a, b, c; give --task, one of fill-mask"):
        infer_task({"a": 1, "b": 2, "c": 3})


@pytest.mark.parametrize(
    ("row", "columns", "task"),
    [
        ({"body": "a", "stars": "5", "id": "1"}, {"text": "body", "label": "stars"}, "text-classification"),
        ({"one": "a", "two": "b", "same": 0, "id": 1}, {"text": "one,two", "label": "same"}, "text-classification"),
        ({"w": ["a"], "t": ["O"], "id": 1}, {"text": "w", "label": "t"}, "token-classification"),
        ({"q": "a", "c": "b", "a": "b"}, {"question": "q", "context": "c", "answer": "a"}, "question-answering"),
        ({"in": "a", "out": "b"}, {"prompt": "in", "completion": "out"}, "text-generation"),
        ({"in": "a", "out": "b"}, {"source": "in", "target": "out"}, "text2text-generation"),
        (
            {"c": "a", "x": "b", "y": "c", "n": 0},
            {"context": "c", "endings": "x,y", "label": "n"},
            "multiple-choice",
        ),
        ({"text": "x", "body": "a", "stars": "5"}, {"text": "body", "label": "stars"}, "text-classification"),
    ],
)
def test_the_task_is_inferred_from_column_options(row: dict[str, Any], columns: dict[str, str], task: str) -> None:
    assert infer_task(row, {f"{name}_column_name": column for name, column in columns.items()}) == task


def test_an_error_of_inference_suggests_the_options_that_would_complete_the_command() -> None:
    row = {"id": 1, "title": "Fine", "body": "a lovely place to stay", "stars": 5}
    with pytest.raises(TaskError, match="no task fits the columns id, title, body, stars") as raised:
        infer_task(row)
    suggestion = raised.value.suggestion
    assert suggestion == ("--text-column", "body", "--label-column", "stars")
    named = {
        f"{flag.strip('-').replace('-', '_')}_name": column
        for flag, column in zip(suggestion[::2], suggestion[1::2], strict=True)
    }
    assert infer_task(row, named) == "text-classification"
    with pytest.raises(DataError, match="which column is the label") as raised_too:
        task_class("text-classification")().with_columns(["text", "a", "b"])
    assert raised_too.value.suggestion == ("--label-column", "b")


def test_other_names_of_tasks_are_known() -> None:
    assert task_class("ner").name == "token-classification"
    assert task_class("summarization").name == "text2text-generation"


@pytest.mark.slow
def test_a_small_t5_learns_to_copy_and_reverse(
    tmp_path: Path, rows_of: Callable[..., Path], registry: Registry
) -> None:
    letters = random.Random(0)
    drawn = {tuple(letters.choices("abcdefgh", k=letters.randint(2, 4))) for _ in range(6000)}
    texts = sorted(drawn)
    letters.shuffle(texts)

    def row(i: int) -> dict[str, Any]:
        return {"source": " ".join(texts[i]), "target": " ".join([*texts[i], *reversed(texts[i])])}

    train = rows_of("train", 1500, row)
    held_out = rows_of("held-out", 150, lambda i: row(1500 + i))
    each_epoch = rows_of("each-epoch", 15, lambda i: row(1650 + i))
    size = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_decoder_layers": 1, "dropout_rate": 0.0}
    base = tiny.make("t5", tmp_path / "base", head="AutoModelForSeq2SeqLM", wide=False, **size)
    files = {
        "train_file": str(train),
        "validation_file": str(each_epoch),
        "test_file": str(held_out),
        "base": str(base),
    }
    options = {"learning_rate": 5e-3, "num_train_epochs": 14, "per_device_train_batch_size": 32}
    report = run(Plan.resolve({**files, **options, "strategy": "full", "max_target_length": 16}), registry)
    assert report.metrics["test"]["exact_match"] > 95
    assert report.metrics["test"]["n"] == 150
    few = {"num_train_epochs": 1, "max_train_samples": 32, "max_eval_samples": 8}
    beams = run(Plan.resolve({**files, **options, **few, "strategy": "full", "num_beams": 2}), registry)
    assert len(predict(Base.load(str(base)), beams.adapter, ["a b c"])) == 1


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED.parent / "bases" / "stories260K").is_dir(), reason="stories260K is not here")
@pytest.mark.parametrize(("strategy", "rate"), [("lora", 1e-2), ("full", 2e-3)])
def test_a_real_language_model_gets_better_at_shakespeare(
    strategy: str, rate: float, tmp_path: Path, registry: Registry
) -> None:
    lines = (SHARED / "text" / "tinyshakespeare.txt").read_text().splitlines()
    (tmp_path / "train.txt").write_text("\n".join(lines[:900]))
    (tmp_path / "held-out.txt").write_text("\n".join(lines[-150:]))
    base = Base.load(str(SHARED.parent / "bases" / "stories260K"))
    files = {"train_file": str(tmp_path / "train.txt"), "validation_file": str(tmp_path / "held-out.txt")}
    values = {**files, "strategy": strategy, "learning_rate": rate, "num_train_epochs": 2, "base": base.path}
    report = run(Plan.resolve({**values, "max_new_tokens": 20}), registry, base=base)

    before = _perplexity(base, report.adapter, tmp_path / "held-out.txt")
    after = report.metrics["validation"]["perplexity"]
    assert after < 0.5 * before, (before, after)
    said = predict(base, report.adapter, ["ROMEO: O, she doth"])[0]["generated_text"]
    assert said.strip()


def _perplexity(base: Base, adapter: Any, file: Path) -> float:
    """Measure the base itself with transformers' own model, on the same blocks."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base.path)
    blocks = tokenized(adapter.task, _data(file), base, labelled=False)
    total, count = 0.0, 0
    for block in blocks["input_ids"]:
        ids = torch.tensor([block])
        with torch.no_grad():
            total += model(input_ids=ids, labels=ids).loss.item() * (len(block) - 1)
        count += len(block) - 1
    return math.exp(total / count)


def test_a_question_that_leaves_its_context_no_room_is_said(
    rows_of: Callable[..., Path], base_for: Callable[[str, str], Base], registry: Registry
) -> None:
    row = {**ROWS["question-answering"](0), "question": "what is it " * 20}
    file = rows_of("question-answering", 4, lambda i: row)
    with pytest.raises(
        DataError, match=r"^the question 'what is it .*' has \d+ tokens; beside a context, max_seq_length=32"
    ):
        run(plan("question-answering", file, "lora"), registry, base=base_for("bert", "question-answering"))
    assert registry.adapters() == {}
