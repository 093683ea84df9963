"""Tags mark spans in many schemes: with and without types, letters before or after them; entities are measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqeval.metrics
from click.testing import Result
from seqeval import scheme as seqeval_schemes

from adapterkit import run
from adapterkit.metrics import entities, entity_spans
from adapterkit.tasks import task_class
from adapterkit.tasks.columns import Columns
from adapterkit.tasks.tag_schemes import SCHEMES, canonical, detect, scheme_remarks

SENTENCE = ["Ann", "Lee", "met", "Bo", "in", "New", "York", "City"]
SPANS = {("PER", 0, 2), ("PER", 3, 4), ("LOC", 5, 8)}
WITHOUT = "tags without a position are read as inside an entity"
INSIDE = "{} of {} entities begin with a tag for the inside of one"
SEGMENTS = {("_", a, b) for a, b in ((0, 2), (2, 3), (3, 4), (4, 5), (5, 8))}
TAGGED: dict[str, tuple[str, str, set[tuple[str, int, int]]]] = {
    "BIO": ("prefixed", "B-PER I-PER O B-PER O B-LOC I-LOC I-LOC", SPANS),
    "IOB1": ("prefixed", "I-PER I-PER O I-PER O I-LOC I-LOC I-LOC", SPANS),
    "BIOES": ("prefixed", "B-PER E-PER O S-PER O B-LOC I-LOC E-LOC", SPANS),
    "BILOU": ("prefixed", "B-PER L-PER O U-PER O B-LOC I-LOC L-LOC", SPANS),
    "BMES": ("prefixed", "B-PER E-PER O S-PER O B-LOC M-LOC E-LOC", SPANS),
    "BMEWO": ("prefixed", "B-PER E-PER O W-PER O B-LOC M-LOC E-LOC", SPANS),
    "BMES and BIOES": ("prefixed", "B-PER I-PER O S-PER O B-LOC M-LOC E-LOC", SPANS),
    "underscores": ("prefixed", "B_PER I_PER O B_PER O B_LOC I_LOC I_LOC", SPANS),
    "lower case": ("prefixed", "b-PER i-PER o b-PER o b-LOC i-LOC i-LOC", SPANS),
    "letters after types": ("suffixed", "PER-B PER-I O PER-B O LOC-B LOC-I LOC-I", SPANS),
    "underscores after types": ("suffixed", "PER_B PER_I O PER_B O LOC_B LOC_I LOC_I", SPANS),
    "types alone": ("types", "PER PER O O O O O LOC", {("PER", 0, 2), ("LOC", 7, 8)}),
    "BIO without types": ("untyped", "B I O B O B I I", {("_", a, b) for _, a, b in SPANS}),
    "IO without types": ("untyped", "I I O I O I I I", {("_", a, b) for _, a, b in SPANS}),
    "BMES of word segmentation": ("untyped", "B E S S S B M E", SEGMENTS),
    "BILOU without types": ("untyped", "B L O U O B I L", {("_", a, b) for _, a, b in SPANS}),
    "a type without a letter among others": ("prefixed", "B-PER I-PER O O O O O LOC", {("PER", 0, 2), ("LOC", 7, 8)}),
    "parts of speech": ("words", "NOUN NOUN VERB NOUN ADP PROPN PROPN NOUN", set()),
    "parts of speech in a letter": ("words", "N N V N P N N N", set()),
    "a part of speech named O": ("words", "O N V N P O N V", set()),
}  # fmt: skip


@pytest.mark.parametrize("name", TAGGED)
def test_the_scheme_is_detected_and_its_spans_are_read(name: str) -> None:
    scheme, text, expected = TAGGED[name]
    tags = text.split()
    assert detect(tags) == scheme
    if scheme != "words":
        read = canonical(sorted(set(tags)), detect(tags))
        assert set(entity_spans([read[tag] for tag in tags])) == expected


def task(tags: list[list[str]], **options: Any) -> Any:
    rows = [{"tokens": SENTENCE[: len(row)], "tags": row, "__line__": i} for i, row in enumerate(tags)]
    columns = Columns({name: [row[name] for row in rows] for name in rows[0]})
    unfitted = task_class("token-classification")(text_column_name=("tokens",), label_column_name="tags", **options)
    return unfitted.fit(columns), columns


def logits(tags: list[str], labels: tuple[str, ...]) -> Any:
    return np.array([[9.0 if label == tag else 0.0 for label in labels] for tag in tags])


GUESSES = {"Ann": 0, "wrong end": 1, "missing": 2}


@pytest.mark.parametrize("name", [name for name, (scheme, *_) in TAGGED.items() if scheme != "words"])
def test_precision_recall_and_f1_are_those_of_entities(name: str) -> None:
    _, text, expected = TAGGED[name]
    tags = text.split()
    outside = next((tag for tag in tags if tag.upper() == "O"), None)
    fitted, columns = task([tags, tags])
    assert fitted.best == "f1"
    guess = [outside, outside, *tags[2:]] if outside else ["S", "S", *tags[2:]]
    metrics = fitted.metrics([logits(tags, fitted.labels), logits(guess, fitted.labels)], columns).values
    right, true = 2 * len(expected) - 1, 2 * len(expected)
    guessed = right if outside else right + 2
    assert metrics["precision"] == pytest.approx(right / guessed)
    assert metrics["recall"] == pytest.approx(right / true)
    assert metrics["f1"] == pytest.approx(2 * right / (guessed + true))
    table = fitted.tables([logits(tags, fitted.labels)] * 2, columns)["per_type"]
    assert {row["type"]: row["support"] for row in table} == {
        kind: 2 * sum(k == kind for k, *_ in expected) for kind in {k for k, *_ in expected}
    }


@pytest.mark.parametrize(
    ("letters", "scheme"), [("BIO", None), ("BIOES", seqeval_schemes.IOBES), ("BILOU", seqeval_schemes.BILOU)]
)
def test_the_figures_are_seqeval_s(letters: str, scheme: Any) -> None:
    draw = np.random.default_rng(len(letters))
    names = ["O", *(f"{letter}-{kind}" for letter in letters if letter != "O" for kind in ("X", "Y"))]
    truth = [[str(tag) for tag in draw.choice(names, 9)] for _ in range(60)]
    guess = [
        [str(tag) if draw.random() < 0.2 else t for t, tag in zip(row, draw.choice(names, 9), strict=True)]
        for row in truth
    ]
    ours = entities(truth, guess).values
    theirs = seqeval.metrics
    for metric, function in (
        ("precision", theirs.precision_score),
        ("recall", theirs.recall_score),
        ("f1", theirs.f1_score),
    ):
        convert = (lambda rows: rows) if scheme is not seqeval_schemes.BILOU else as_bioes
        assert ours[metric] == pytest.approx(function(convert(truth), convert(guess)))


def as_bioes(rows: list[list[str]]) -> list[list[str]]:
    letters = {"L": "E", "U": "S"}
    return [[letters.get(tag[0], tag[0]) + tag[1:] for tag in row] for row in rows]


def test_entities_of_answers_have_their_offsets_in_every_scheme() -> None:
    text = " ".join(SENTENCE)
    for name, (scheme, tagged, expected) in TAGGED.items():
        if scheme == "words":
            continue
        fitted, _ = task([tagged.split()] * 2)
        (answer,) = fitted.answers(
            [logits(tagged.split(), fitted.labels)], Columns({"tokens": [SENTENCE], "text": [text]}), None
        )
        found = {(e["entity"], e["text"]) for e in answer["entities"]}
        assert found == {(kind, " ".join(SENTENCE[a:b])) for kind, a, b in expected}, name
        assert all(text[e["start"] : e["end"]] == e["text"] for e in answer["entities"])


def test_words_that_are_not_annotated_are_neither_learned_nor_measured() -> None:
    from adapterkit.testing import tiny

    tags = [["B-X", "-", "O", "B-X"], ["O", "O", "-", "B-X"]]
    fitted, columns = task(tags)
    assert fitted.labels == ("B-X", "O")
    fitted.check(columns, "f")
    features = fitted.tokenize(columns.values, tiny.tokenizer(), labelled=True)
    assert [[n for n in row if n >= 0] for row in features["labels"]] == [[0, 1, 0], [1, 1, 0]]
    guess = [["B-X", "B-X", "O", "B-X"], ["O", "O", "B-X", "O"]]
    metrics = fitted.metrics([logits(row, fitted.labels) for row in guess], columns)
    assert (metrics.values["precision"], metrics.values["recall"]) == (1.0, pytest.approx(2 / 3))
    assert "f: 2 words with the tag '-', not annotated, are neither learned nor measured" in fitted.remarks(
        columns, "f", None
    )
    assert task([["N", "-", "V"]])[0].labels == ("-", "N", "V")  # a part of speech


def test_words_chosen_by_an_option_have_no_entities() -> None:
    fitted, columns = task([TAGGED["types alone"][1].split()] * 2, tag_scheme="words")
    assert fitted.best == "accuracy"
    assert "f1_macro" in fitted.metrics([logits(row, fitted.labels) for row in columns["tags"]], columns).values


def test_the_scheme_of_an_adapter_without_one_is_as_before() -> None:
    for labels, best in ((("B", "I", "O"), "accuracy"), (("B-X", "I-X", "O"), "f1"), (("LOC", "O"), "accuracy")):
        before: Any = task_class("token-classification")(
            text_column_name=("t",), label_column_name="tags", labels=labels
        )
        assert before.best == best
        assert not {"tag_scheme", "word_split"} & set(before.recorded())
    assert {"tag_scheme", "word_split"} <= set(task([["O", "B-X"]] * 2)[0].recorded())


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["B-X I-X O", "O B-Y O"], []),
        (["B-X E-X O", "O S-Y O"], []),
        (["I-X I-X O", "O I-Y B-Y"], []),
        (["B I O", "O O B"], ["tags are BIO without types: entities have the type '_'"]),
        (["B M E", "S S B"], ["tags are BMES without types: entities have the type '_'"]),
        (["B-X M-X E-X", "O S-X O"], ["tags are BMESO, before the type of an entity"]),
        (["X-B X-I O", "O Y-B O"], ["tags are BIO, after the type of an entity"]),
        (["B-X I-X M-X", "O S-X O"], ["tags are a mixture of B I M S O, before the type of an entity"]),
        (["X X O O", "O O O Y"], ["tags are types without a position, so neighbours of one type are one entity"]),
        (["B-X O O O", "B-Y O O Y"], [f"{WITHOUT}: Y", INSIDE.format(1, 3)]),
        (["B-X I-X O", "O I-X O", "O B-X O"], [INSIDE.format(1, 3)]),
        (["N V N", "V O N"], []),
    ],
)  # fmt: skip
def test_a_remark_names_the_scheme_and_counts_what_is_unlike_it(tags: list[str], expected: list[str]) -> None:
    rows = [row.split() for row in tags]
    flat = [tag for row in rows for tag in row]
    scheme = detect(flat)
    assert scheme in SCHEMES
    assert scheme_remarks(canonical(sorted(set(flat)), scheme), scheme, rows) == expected


def test_a_run_on_tags_without_types_is_chosen_by_entities(
    tmp_path: Path, adapt: Callable[..., Result], tiny_folder: Callable[..., Path]
) -> None:
    lines = ["lovely\tO", "food\tB", "film\tI", "great\tO", "", "great\tO", "staff\tB", "dull\tO", ""]
    (tmp_path / "rows.conll").write_text("\n".join(lines * 10) + "\n")
    data = ("--train-file", "rows.conll", "--validation-file", "rows.conll", "--base", tiny_folder())
    done = adapt("run", *data, "--strategy", "head-only", "--name", "t", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["metrics"]["validation"]["f1"] == 1.0
    assert "rows.conll: tags are BIO without types: entities have the type '_'" in report["remarks"]
    (answer,) = json.loads(adapt("predict", "t", "lovely food film great", "--json").stdout)
    (entity,) = answer["entities"]
    assert (entity["entity"], entity["start"], entity["end"], entity["text"]) == ("_", 7, 16, "food film")


def test_types_alone_are_measured_as_entities_with_their_remark(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    rows = [{"tokens": ["lovely", "food", "at", "the", "hotel"], "ner_tags": ["O", "DISH", "O", "O", "PLACE"]}] * 12
    report = run(
        strategy="head-only",
        base=str(tiny_folder()),
        train=rows,
        validation=rows,
        watch=None,
        name="t",
        registry=tmp_path / "r.json",
    )
    assert report.metrics["validation"]["f1"] == 1.0
    assert any("types without a position" in remark for remark in report.remarks)
    assert [e["entity"] for e in report.predict("lovely food at the hotel")["entities"]] == ["DISH", "PLACE"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["B-PER|B-ORG", "O"], "types that are several tags in one are read as one type: PER|B-ORG"),
        (["B-PER", "B-Per", "O"], "types that differ in case alone: PER, Per"),
    ],
)
def test_types_that_look_like_mistakes_are_named(tags: list[str], expected: str) -> None:
    scheme = detect(tags)
    assert expected in scheme_remarks(canonical(tags, scheme), scheme, [tags])
