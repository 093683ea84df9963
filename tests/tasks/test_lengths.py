"""Texts over the limit of tokens are read in windows or cut, and counted; the default limit follows rows and base."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from adapterkit import Base, Registry, run
from adapterkit.errors import OptionError
from adapterkit.evaluation.evaluate import evaluate, predict, predictions
from adapterkit.evaluation.outputs import outputs
from adapterkit.features.lengths import count_cut, token_counts, with_length
from adapterkit.features.tokenize import tokenized
from adapterkit.pool import Pool
from adapterkit.tasks import task_class
from adapterkit.tasks.windows import mean_of_windows, truncated
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made

WORDS = ["lovely", "food", "awful", "film", "great", "staff", "dull", "hotel"]


def text(words: int, first: int = 0) -> str:
    return " ".join(WORDS[(first + i * 3) % len(WORDS)] for i in range(words))


def rows(lengths: list[int]) -> list[dict[str, Any]]:
    return [{"text": text(n, i), "label": "ab"[i % 2]} for i, n in enumerate(lengths)]


def classification(**options: Any) -> Any:
    return task_class("text-classification")(
        text_column_name=("text",),
        label_column_name="label",
        labels=("a", "b"),
        problem_type="single_label_classification",
        **options,
    )


def dataset(values: list[dict[str, Any]]) -> Any:
    from adapterkit.data.rows import memory_dataset

    return memory_dataset(values, "rows")


@functools.cache
def tiny_tokenizer() -> Any:
    return tiny.tokenizer()


def tokens(value: str) -> int:
    return len(tiny_tokenizer()(value)["input_ids"])


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Return a tiny base that takes 400 tokens."""
    folder = tiny.make("bert", tmp_path_factory.mktemp("wide") / "base", max_position_embeddings=400)
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 400
    tokenizer.save_pretrained(folder)
    return Base.load(str(folder))


# ---- the default


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([5, 9, 20], 128), ([5] * 10 + [60], None), ([2] * 1000 + [100], 128), ([200], 400)],
    ids=["short rows", "long rows", "one of a thousand", "longer than the base takes"],
)
def test_the_default_is_that_of_nearly_all_rows_and_at_most_the_base_s(
    lengths: list[int], expected: int | None, wide_base: Base
) -> None:
    data = rows(lengths)
    longest = max(tokens(row["text"]) for row in data)
    assert expected is not None or 128 < longest < 400
    task = with_length(classification(), dataset(data), wide_base)
    assert task.max_seq_length == (expected or -(-longest // 8) * 8)
    narrow = Base.load(wide_base.name)
    narrow.tokenizer.model_max_length = 48
    assert with_length(classification(), dataset(data), narrow).max_seq_length == 48


def test_the_manifest_records_the_default_and_an_option_means_what_it_says(wide_base: Base, tmp_path: Path) -> None:
    train = rows([60, 9, 30, 8] * 4)
    options = {"strategy": "head-only", "base": wide_base, "train": train, "validation": train, "watch": None}
    inferred = run(**options, registry=tmp_path / "r.json", name="a")
    longest = max(tokens(row["text"]) for row in train)
    assert inferred.adapter.manifest["task"]["options"]["max_seq_length"] == -(-longest // 8) * 8
    assert not any("longer than" in remark for remark in inferred.remarks)
    explicit = run(**options, registry=tmp_path / "r.json", name="b", max_seq_length=32)
    assert explicit.adapter.manifest["task"]["options"]["max_seq_length"] == 32
    folder = Registry(tmp_path / "r.json").folder("a", inferred.version)
    assert f"max_seq_length: {-(-longest // 8) * 8}\n" in (folder / "run.yaml").read_text()
    assert "long_texts" not in explicit.adapter.manifest["task"]["options"]


def test_questions_and_packed_texts_have_the_default_of_their_tasks(wide_base: Base) -> None:
    questions = task_class("question-answering")(
        question_column_name="q", context_column_name="c", answer_column_name="a", max_seq_length=384
    )
    data = dataset([{"q": "who ?", "c": text(300), "a": {"text": [], "answer_start": []}}])
    assert (with_length(questions, data, wide_base).max_seq_length, token_counts(questions, data, wide_base)) == (
        384,
        {},
    )
    plain = task_class("text-generation")(text_column_name=("text",))
    assert with_length(plain, dataset([{"text": text(300)}]), wide_base).max_seq_length == 256


# ---- what is cut is counted


def long_rows(name: str) -> tuple[Any, list[dict[str, Any]], dict[str, int]]:
    """Return a task, rows of which two are too long, and the expected counts by option."""
    long, short = text(40), text(3)
    if name == "pair":
        task = task_class("text-classification")(
            text_column_name=("a", "b"),
            label_column_name="label",
            labels=("x", "y"),
            max_seq_length=32,
            problem_type="single_label_classification",
        )
        texts = [(long, short), (short, long), (short, short)]
        return task, [{"a": a, "b": b, "label": "x"} for a, b in texts], {"max_seq_length": 2}
    if name == "multiple-choice":
        task = task_class(name)(
            context_column_name="c", endings_column_name=("e",), label_column_name="label", max_seq_length=32
        )
        texts = [(short, [short, long]), (long, [short, short]), (short, [short, short])]
        return task, [{"c": c, "e": e, "label": 0} for c, e in texts], {"max_seq_length": 2}
    if name == "text2text-generation":
        task = task_class(name)(source_column_name="s", target_column_name="t", max_seq_length=32, max_target_length=24)
        texts = [(long, short), (long, long), (short, short)]
        return task, [{"s": s, "t": t} for s, t in texts], {"max_seq_length": 2, "max_target_length": 1}
    task = task_class("text-generation")(prompt_column_name="p", completion_column_name="c", max_seq_length=32)
    texts = [(long, short), (short, long), (short, short)]
    return task, [{"p": p, "c": c} for p, c in texts], {"max_seq_length": 2}


@pytest.mark.parametrize("name", ["pair", "multiple-choice", "text2text-generation", "text-generation"])
def test_every_task_that_cuts_counts_what_is_longer(name: str, wide_base: Base) -> None:
    task, data, expected = long_rows(name)
    counts = token_counts(task, dataset(data), wide_base)
    assert {option: int((n > getattr(task, option)).sum()) for option, n in counts.items()} == expected
    features = task.tokenize({key: [row[key] for row in data] for key in data[0]}, wide_base.tokenizer, labelled=True)
    sizes = [max(map(len, ids)) if isinstance(ids[0], list) else len(ids) for ids in features["input_ids"]]
    assert [size == 32 for size in sizes] == [n >= 32 for n in counts["max_seq_length"]]


def test_run_eval_and_predict_report_what_was_cut(
    tmp_path: Path, adapt: Callable[..., Result], tiny_folder: Callable[..., Path]
) -> None:
    lines = [json.dumps(row) for row in rows([40, 3, 4, 50, 5, 6, 2, 3, 41, 4])]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    data = ["--train-file", "rows.jsonl", "--validation-file", "rows.jsonl"]
    options = [*data, "--base", tiny_folder(), "--strategy", "head-only", "--max-seq-length", "32", "--name", "a"]
    expected = "rows.jsonl: 3 of 10 texts are longer than 32 tokens and were cut (the longest has "
    for command in (["plan", *options], ["run", *options], ["eval", "a", "--test-file", "rows.jsonl"]):
        done = adapt(*command)
        assert done.exit_code == 0, done.output
        assert expected in done.output, done.output
    (tmp_path / "more.jsonl").write_text("\n".join(lines[:5]) + "\n")
    done = adapt("predict", "a", "--file", "more.jsonl")
    assert "2 of 5 texts are longer than 32 tokens and were cut" in done.stderr
    assert "longer" not in adapt("predict", "a", text(5)).output


def test_texts_to_predict_are_counted_whatever_their_script() -> None:
    task = classification(max_seq_length=16)
    texts = ["a", "王" * 3, "王芳" * 20, text(2), text(60), "é" * 40]
    columns = {"text": texts}
    assert count_cut(task, columns, tiny.tokenizer()) == sum(tokens(t) > 16 for t in texts) > 1


# ---- windows


def test_the_outputs_of_a_text_s_windows_are_averaged(tiny_base: Base) -> None:
    task = classification(max_seq_length=16, long_texts="windows")
    adapter = made.adapter(tiny_base, task)
    data = rows([30, 3, 50])
    features = tokenized(task, dataset(data), tiny_base, labelled=True)
    assert features["row"][:].count(1) == 1
    assert features["row"][:].count(2) > features["row"][:].count(0) > 1
    assert all(len(ids) <= 16 for ids in features["input_ids"])
    with adapter.attached(tiny_base) as model:
        of_windows = outputs(task, model, features.remove_columns("labels"), tiny_base, batch_size=8)
    by_row = [[o for o, row in zip(of_windows, features["row"], strict=True) if row == i] for i in range(3)]
    expected = [np.mean(windows, axis=0) for windows in by_row]
    averaged = predictions(tiny_base, adapter, [row["text"] for row in data])
    np.testing.assert_allclose(np.stack(averaged), np.stack(expected), atol=2e-5)
    answers = evaluate(tiny_base, adapter, dataset(data)).answers
    for answer, again in zip(answers, predict(tiny_base, adapter, [row["text"] for row in data]), strict=True):
        assert answer["label"] == again["label"]
        assert answer["score"] == pytest.approx(again["score"], abs=2e-5)


def test_a_window_that_is_alone_has_its_output_as_it_is() -> None:
    first, second = np.array([0.1, 0.2], dtype="float32"), np.array([0.3, 0.5], dtype="float32")
    means = mean_of_windows([first, second, first], [0, 1, 1])
    assert means[0] is first
    np.testing.assert_allclose(means[1], (first + second) / 2)


def test_a_pool_answers_long_texts_in_windows(tiny_base: Base, registry: Registry) -> None:
    from adapterkit.store.publish import publish

    task = classification(max_seq_length=16, long_texts="windows")
    adapter = made.adapter(tiny_base, task)
    publish(registry, "a", adapter)
    texts = [text(30), text(3), text(50, 1)]
    with Pool(tiny_base, registry=registry) as pool:
        answers, values = pool.predict(texts, "a"), pool.outputs(texts, "a")
    expected = predict(tiny_base, adapter, texts)
    assert [a["label"] for a in answers] == [a["label"] for a in expected]
    assert [a["score"] for a in answers] == pytest.approx([a["score"] for a in expected], abs=2e-5)
    assert [isinstance(output, list) for output in values] == [True, False, True]


@pytest.mark.slow
def test_a_run_in_windows_learns_from_the_end_of_texts(tiny_base: Base, tmp_path: Path) -> None:
    data = [
        {"text": f"{'great staff ' * 12} {'lovely' if i % 2 else 'awful'}", "label": "ab"[i % 2]} for i in range(24)
    ]
    options: dict[str, Any] = {"strategy": "full", "base": tiny_base, "train": data, "validation": data, "watch": None}
    options |= {"max_seq_length": 24, "learning_rate": 2e-3, "epochs": 12, "registry": tmp_path / "r.json"}
    windows = run(**options, name="w", long_texts="windows")
    cut = run(**options, name="c")
    assert windows.metrics["validation"]["accuracy"] == 1.0 > cut.metrics["validation"]["accuracy"]
    assert any("24 of 24 texts are longer than 24 tokens and are read in windows" in r for r in windows.remarks)
    assert any("24 of 24 texts are longer than 24 tokens and were cut" in r for r in cut.remarks)
    assert windows.metrics["validation"]["n"] == 24


def test_windows_of_pairs_are_refused() -> None:
    with pytest.raises(
        OptionError, match="--long-texts=windows is for one text a row, and text and text_pair are a pair"
    ):
        task_class("text-classification")(long_texts="windows").with_columns(["text", "text_pair", "label"])


def test_entities_at_any_place_of_a_long_row_are_learned_and_predicted(tiny_base: Base, tmp_path: Path) -> None:
    def row(place: int) -> dict[str, Any]:
        words = [WORDS[(place + i) % 4] for i in range(60)]
        words[place] = "hotel"
        return {"tokens": words, "ner_tags": ["B-X" if i == place else "O" for i in range(60)]}

    data = [row(place) for place in range(0, 60, 3)]
    report = run(
        strategy="head-only",
        base=tiny_base,
        train=data,
        validation=data,
        watch=None,
        registry=tmp_path / "r.json",
        name="t",
        max_seq_length=24,
    )
    assert report.metrics["validation"]["f1"] == 1.0
    assert any("20 of 20 texts are longer than 24 tokens and are read in windows" in r for r in report.remarks)
    (entity,) = report.predict(" ".join(data[-1]["tokens"]))["entities"]
    assert entity["text"] == "hotel"


def test_long_pairs_have_the_tokens_that_the_tokenizer_alone_gives_them() -> None:
    tokenizer = tiny_tokenizer()
    texts = [text(n, n) for n in (0, 5, 30, 60, 61)] + [" ".join("ab" * n for n in range(12)), "a" * 150]
    for first, second in itertools.product(texts, texts):
        for limit in (16, 17):
            expected = dict(tokenizer([first], [second], truncation=True, max_length=limit))
            assert truncated(tokenizer, [[first], [second]], limit) == expected


def test_memory_grows_with_the_length_of_a_pair_and_not_with_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, read = tiny_tokenizer(), []
    call = type(tokenizer).__call__
    monkeypatch.setattr(type(tokenizer), "__call__", lambda self, *a, **k: read.append((a, k)) or call(self, *a, **k))
    long = text(20_000)
    assert len(truncated(tokenizer, [[long], [long]], 16)["input_ids"][0]) == 16
    assert all(len(column) < 2_000 for args, options in read if "truncation" in options for (column,) in args)
