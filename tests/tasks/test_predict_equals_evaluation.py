"""What predict makes of a row equals what evaluation made of the same row, whatever the row holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from adapterkit import Adapter, Base, Registry
from adapterkit.data.blank import is_blank
from adapterkit.data.rows import memory_dataset
from adapterkit.data.splits import read
from adapterkit.evaluation.evaluate import evaluate, predict
from adapterkit.pool import Pool
from adapterkit.store.publish import publish
from adapterkit.tasks import task_class
from adapterkit.tasks.word_split import split
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.families import slow

pytestmark = pytest.mark.filterwarnings("ignore::adapterkit.errors.TruncationWarning")  # long texts are among the rows
TOLERANCE = 2e-5  # of a score: fp32 sums of at most 80 terms through 3 blocks, in batches of other shapes
PROPERTY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RULE = (
    "punctuation",
    "each",
    "inside='",
    "inside=-",
    "inside=\u2019",
    "digits=.",
    "suffix='s",
    "initials",
    "runs",
    "word=Mr.",
)
ALPHABET = st.one_of(
    st.sampled_from("ab Zé.,'-_\u0301\u093f\u0915\u200d\u200b\u00ad王ก\u0e31\u0627👍🏽🇩🇪\ufb01ß İ1½"),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.text(ALPHABET, min_size=1, max_size=120).filter(lambda text: not is_blank(text))
WORDS = st.lists(
    st.text(ALPHABET, min_size=1, max_size=12).map(lambda text: "".join(text.split())).filter(bool),
    min_size=1,
    max_size=60,
).filter(lambda words: not all(map(is_blank, words)))
LABELS = ("O", "B-X", "I-X", "B-Y")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base.load(str(tiny.make("bert", tmp_path_factory.mktemp("base") / "bert")))


def tagger(rule: tuple[str, ...] = RULE) -> Any:
    return task_class("token-classification")(
        text_column_name=("tokens",), label_column_name="tags", labels=LABELS, max_seq_length=24, word_split=rule,
        tag_scheme="prefixed",
    )  # fmt: skip


def classifier(**options: Any) -> Any:
    options = {"problem_type": "single_label_classification", "labels": ("a", "b", "c"), **options}
    return task_class("text-classification")(
        text_column_name=("text",), label_column_name="label", max_seq_length=24, **options
    )


@pytest.fixture(scope="module")
def adapters(base: Base) -> dict[str, Adapter]:
    """Return an adapter of each task."""
    tasks = {
        "tagger": tagger(),
        "pair": task_class("text-classification")(
            text_column_name=("first", "second"),
            label_column_name="label",
            max_seq_length=24,
            labels=("a", "b"),
            problem_type="single_label_classification",
        ),
        "question": task_class("question-answering")(
            question_column_name="question",
            context_column_name="context",
            answer_column_name="answers",
            max_seq_length=48,
            doc_stride=8,
        ),
        "choice": task_class("multiple-choice")(
            context_column_name="context",
            endings_column_name=("endings",),
            label_column_name="label",
            max_seq_length=24,
        ),
    }
    return {name: made.adapter(base, task) for name, task in tasks.items()}


def near(answer: Any) -> Any:
    """Return an answer whose numbers are compared within the tolerance."""
    if isinstance(answer, dict):
        return {key: near(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [near(value) for value in answer]
    return pytest.approx(answer, abs=TOLERANCE) if isinstance(answer, float) else answer


def assert_near(answers: list[Any], others: list[Any]) -> None:
    """Assert that answers are equal, unless two labels are as likely as each other within the tolerance."""
    for answer, other in zip(answers, others, strict=True):
        assert answer == near(other)


@pytest.mark.slow
@PROPERTY
@given(rows=st.lists(WORDS, min_size=1, max_size=5), data=st.data())
def test_words_have_the_entities_that_evaluation_has(
    rows: list[list[str]], data: st.DataObject, base: Base, adapters: dict[str, Adapter]
) -> None:
    tags = [[data.draw(st.sampled_from(LABELS)) for _ in words] for words in rows]
    adapter = adapters["tagger"]
    labelled = memory_dataset([{"tokens": w, "tags": t} for w, t in zip(rows, tags, strict=True)], "rows")
    evaluated = evaluate(base, adapter, labelled).answers
    assert_near(predict(base, adapter, [{"tokens": words} for words in rows]), evaluated)
    for words, expected in zip(rows, evaluated, strict=True):
        assert_near([predict(base, adapter, {"tokens": words})], [expected])
        text = " ".join(words)
        if [text[start:end] for start, end in split(text, RULE)] == words:
            assert_near([predict(base, adapter, text)], [expected])


@pytest.mark.slow
@PROPERTY
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_a_text_has_the_entities_of_its_words_at_their_places(
    texts: list[str], base: Base, adapters: dict[str, Adapter]
) -> None:
    adapter = adapters["tagger"]
    texts = [text for text in texts if adapter.task.rows([text])["tokens"][0]]  # one without words is refused
    words = adapter.task.rows(texts)["tokens"]
    by_text = predict(base, adapter, texts)
    for text, row, answer in zip(texts, words, by_text, strict=True):
        assert all(text[e["start"] : e["end"]] == e["text"] for e in answer["entities"])
        (by_words,) = predict(base, adapter, [{"tokens": row}])
        assert [e["entity"] for e in answer["entities"]] == [e["entity"] for e in by_words["entities"]]
        assert [e["score"] for e in answer["entities"]] == near([e["score"] for e in by_words["entities"]])


KINDS: dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]] = {
    "one label": ({}, st.sampled_from(["a", "b", "c"])),
    "several labels": (
        {"problem_type": "multi_label_classification"},
        st.lists(st.sampled_from(["a", "b"]), unique=True),
    ),
    "a number": ({"problem_type": "regression", "labels": ()}, st.floats(-5, 5, width=32).map(lambda x: x + 0.25)),
    "windows": ({"long_texts": "windows"}, st.sampled_from(["a", "b", "c"])),
}


@pytest.mark.parametrize("kind", ["several labels", "windows", *slow("one label", "a number")])
def test_a_text_has_the_answer_that_evaluation_has(kind: str, base: Base, tmp_path: Path) -> None:
    options, labels = KINDS[kind]
    adapter = made.adapter(base, classifier(**options))
    registry = Registry(tmp_path / "registry.json")
    publish(registry, "a", adapter)

    @settings(max_examples=12, deadline=None)
    @given(rows=st.lists(st.tuples(TEXTS, labels), min_size=1, max_size=5))
    def holds(rows: list[tuple[str, Any]]) -> None:
        texts = [text for text, _ in rows]
        evaluated = evaluate(base, adapter, memory_dataset([{"text": t, "label": v} for t, v in rows], "rows")).answers
        assert_near(predict(base, adapter, texts), evaluated)
        assert_near(predict(base, adapter, [{"text": text} for text in texts]), evaluated)
        assert_near([predict(base, adapter, text) for text in texts], evaluated)
        assert_near(pool.predict(texts, "a"), evaluated)

    with Pool(base, registry=registry) as pool:
        holds()


@pytest.fixture(scope="module")
def collapsing(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Return a base whose tokenizer drops spaces, marks and characters without a width, as BERT's does."""
    folder = tiny.make("bert", tmp_path_factory.mktemp("collapsing") / "bert")
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.save_pretrained(folder)
    return Base.load(str(folder))


@pytest.mark.slow
@pytest.mark.parametrize("gap", [" ", "\n", "\u200b", "\u0301", "a"])
def test_what_follows_a_long_gap_is_read_in_every_way_of_prediction(
    gap: str, collapsing: Base, adapters: dict[str, Adapter], tmp_path: Path
) -> None:
    texts = [f"ab{gap * 40_000} {word}" for word in ("soup", "film", "x y z")]
    registry = Registry(tmp_path / "registry.json")
    tasks = {"text": classifier(), "pair": adapters["pair"].task, "choice": adapters["choice"].task}
    rows: dict[str, list[dict[str, Any]]] = {
        "text": [{"text": text} for text in texts],
        "pair": [{"first": text, "second": text} for text in texts],
        "choice": [{"context": text, "endings": ["a", "b", text]} for text in texts],
    }
    for name, task in tasks.items():
        publish(registry, name, made.adapter(collapsing, task))
    with Pool(collapsing, registry=registry) as pool:
        for name in tasks:
            labelled = [{**row, "label": 1 if name == "choice" else "a"} for row in rows[name]]
            evaluated = evaluate(collapsing, registry.load(name), memory_dataset(labelled, "rows")).answers
            assert_near(pool.predict(rows[name], name), evaluated)
            assert_near([pool.predict([row], name)[0] for row in rows[name]], evaluated)
        scores = {answer["score"] for answer in pool.predict(texts, "text")}
    assert len(scores) == (1 if gap == "a" else 3)


@pytest.mark.slow
@PROPERTY
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_a_pair_has_the_answer_that_evaluation_has(
    rows: list[tuple[str, str]], base: Base, adapters: dict[str, Adapter]
) -> None:
    adapter = adapters["pair"]
    data = [{"first": a, "second": b, "label": "a"} for a, b in rows]
    evaluated = evaluate(base, adapter, memory_dataset(data, "rows")).answers
    assert_near(predict(base, adapter, [{"first": a, "second": b} for a, b in rows]), evaluated)
    if not any("\t" in text for row in rows for text in row):
        assert_near(predict(base, adapter, [f"{a}\t{b}" for a, b in rows]), evaluated)


@pytest.mark.slow
@PROPERTY
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_a_question_has_the_answer_that_evaluation_has(
    rows: list[tuple[str, str]], base: Base, adapters: dict[str, Adapter]
) -> None:
    rows = [(question[:6], context) for question, context in rows if question[:6].strip()]
    if not rows:
        return
    adapter = adapters["question"]
    data = [{"question": q, "context": c, "answers": {"text": [c], "answer_start": [0]}} for q, c in rows]
    evaluated = evaluate(base, adapter, memory_dataset(data, "rows")).answers
    assert_near(predict(base, adapter, [{"question": q, "context": c} for q, c in rows]), evaluated)


@pytest.mark.slow
@PROPERTY
@given(rows=st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=3, max_size=3)), min_size=1, max_size=3))
def test_a_choice_has_the_answer_that_evaluation_has(
    rows: list[tuple[str, list[str]]], base: Base, adapters: dict[str, Adapter]
) -> None:
    adapter = adapters["choice"]
    data = [{"context": context, "endings": endings, "label": 1} for context, endings in rows]
    evaluated = evaluate(base, adapter, memory_dataset(data, "rows")).answers
    rows_to_predict = [{"context": context, "endings": endings} for context, endings in rows]
    assert_near(predict(base, adapter, rows_to_predict), evaluated)


@PROPERTY
@given(rows=st.lists(st.tuples(TEXTS, WORDS), min_size=1, max_size=4))
def test_rows_that_are_written_and_read_are_the_same(rows: list[tuple[str, list[str]]], tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    columns = [{"text": text, "tokens": words} for text, words in rows]
    data = memory_dataset(columns, "rows")
    lines = [json.dumps(row, ensure_ascii=False) for row in columns]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "rows.json").write_text(json.dumps(columns), encoding="utf-8")
    parquet.write_table(data.with_format("arrow")[:].drop_columns(["__line__"]), tmp_path / "rows.parquet")
    for file in ("rows.jsonl", "rows.json", "rows.parquet"):
        again = read(str(tmp_path / file))
        assert [{"text": t, "tokens": w} for t, w in zip(again["text"], again["tokens"], strict=True)] == columns, file
