"""Metrics equal their reference implementations, and their intervals hold what they claim."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import string
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import sacrebleu
import scipy.stats
import seqeval.metrics
import seqeval.metrics.sequence_labeling
import sklearn.metrics
from rouge_score.rouge_scorer import RougeScorer
from torchmetrics.functional.text import squad as torchmetrics_squad

from adapterkit import metrics
from adapterkit.errors import DataError
from adapterkit.metrics import bootstrap

TEXTS = [
    *("the cat sat on the mat .", "A cat sat on a mat!", "It's 3.5%, isn't it?", "Hello, world", "the the the the"),
    *("Der Hund läuft — schnell…", "猫 が 座る", "", "   ", "the", "U.S.A. vs. U.K.", "ünïcödé a an the", "x"),
    *("don't stop, don't stop", "(hi) [there]", "1,000.50 and 2-3", "tab\tand\nline", "An", "a . b ! c ?", "!!!"),
]


def close(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


# ---- labels


def some_labels(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return truth and guess: many labels or few, often right or never, some labels absent."""
    rng = np.random.default_rng(seed)
    n, labels = int(rng.integers(1, 60)), int(rng.integers(1, 9))
    truth = rng.integers(0, labels, n)
    return truth, np.where(rng.random(n) < rng.random(), truth, rng.integers(0, labels, n)), labels + seed % 3


@pytest.mark.parametrize("seed", range(40))
def test_labels_are_measured_as_by_scikit_learn(seed: int) -> None:
    truth, guess, num_labels = some_labels(seed)
    found = metrics.classification(truth.tolist(), guess.tolist(), num_labels).values
    with warnings.catch_warnings(action="ignore"):
        wanted = {
            "accuracy": sklearn.metrics.accuracy_score(truth, guess),
            "f1_macro": sklearn.metrics.f1_score(truth, guess, average="macro", zero_division=0.0),
            "f1_micro": sklearn.metrics.f1_score(truth, guess, average="micro", zero_division=0.0),
            "matthews": sklearn.metrics.matthews_corrcoef(truth, guess),
        }
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_tables_of_labels_are_those_of_scikit_learn(seed: int) -> None:
    truth, guess, num_labels = some_labels(seed)
    matrix = metrics.confusion_matrix(truth.tolist(), guess.tolist(), num_labels)
    with warnings.catch_warnings(action="ignore"):
        assert matrix == sklearn.metrics.confusion_matrix(truth, guess, labels=range(num_labels)).tolist()
    table = metrics.label_table(truth.tolist(), guess.tolist(), [f"label {i}" for i in range(num_labels)])
    columns = sklearn.metrics.precision_recall_fscore_support(truth, guess, labels=range(num_labels), zero_division=0.0)
    for i, row in enumerate(table):
        assert list(row) == ["label", "precision", "recall", "f1", "support"]
        assert row["label"] == f"label {i}"
        assert list(row.values())[1:] == pytest.approx([column[i] for column in columns])
    json.dumps([matrix, table])


@pytest.mark.parametrize("seed", range(40))
def test_many_labels_a_row_are_measured_as_by_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 50)), int(rng.integers(2, 7)))
    truth, guess = rng.random(shape) < rng.random(shape[1]), rng.random(shape) < rng.random(shape[1])
    truth[:, 0] &= seed % 2 == 0  # in half of the trials nobody has the first label
    guess = np.where(rng.random((shape[0], 1)) < 0.5, truth, guess)
    found = metrics.multilabel(truth, guess).values
    options = {"zero_division": 0.0}
    assert found == pytest.approx(
        {
            "f1_micro": sklearn.metrics.f1_score(truth, guess, average="micro", **options),
            "f1_macro": sklearn.metrics.f1_score(truth, guess, average="macro", **options),
            "accuracy": sklearn.metrics.accuracy_score(truth, guess),
            "precision_micro": sklearn.metrics.precision_score(truth, guess, average="micro", **options),
            "recall_micro": sklearn.metrics.recall_score(truth, guess, average="micro", **options),
        }
    )


# ---- numbers


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_numbers_are_measured_as_by_scipy(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 60))
    truth = rng.normal(size=n) * scale + rng.integers(0, 3) * scale
    guess = truth * rng.normal() + rng.normal(size=n) * scale
    if seed % 2:  # with ties
        truth, guess = np.round(truth / scale) * scale, np.round(guess / scale) * scale
    truth[0], guess[0] = truth[0] + 2 * scale, guess[0] - 3 * scale  # so that neither is constant
    found = metrics.regression(truth.tolist(), guess.tolist()).values
    assert close(found["pearson"], scipy.stats.pearsonr(truth, guess).statistic)
    assert close(found["spearman"], scipy.stats.spearmanr(truth, guess).statistic)
    assert found["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(truth, guess))


def test_the_resamples_of_correlations_are_those_of_rows_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth = np.round(rng.normal(size=30), 1)
    guess = np.round(truth + rng.normal(size=30), 1)
    kept: dict[str, np.ndarray] = {}
    original = bootstrap._interval
    monkeypatch.setattr(
        bootstrap, "_interval", lambda value, draws: kept.update({str(value): draws}) or original(value, draws)
    )
    found = metrics.regression(truth.tolist(), guess.tolist()).values
    drawn = [np.repeat(np.arange(30), weights.astype(int)) for weights in np.concatenate([*bootstrap._resamples(30)])]
    assert len(drawn) == bootstrap.RESAMPLES
    for name, reference in (("pearson", scipy.stats.pearsonr), ("spearman", scipy.stats.spearmanr)):
        wanted = [reference(truth[rows], guess[rows]).statistic for rows in drawn]
        assert kept[str(found[name])] == pytest.approx(np.array(wanted))


def test_a_correlation_with_a_constant_is_zero() -> None:
    for truth, guess in (([0.1] * 7, [1.0, 2, 3, 4, 5, 6, 7]), ([1.0, 2, 3], [0.3] * 3), ([0.7] * 5, [0.1] * 5)):
        found = metrics.regression(truth, guess)
        for name in ("pearson", "spearman"):
            assert (found.values[name], found.intervals[name]) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_an_error(wrong: float) -> None:
    with pytest.raises(DataError, match=r"prediction 2 of 3 is (nan|inf)"):
        metrics.regression([1.0, 2.0, 3.0], [1.0, wrong, 3.0])
    with pytest.raises(DataError, match=r"likelihood 1 of 1 is (nan|inf)"):
        metrics.perplexity([wrong], [3])


def test_perplexity_is_of_tokens_and_not_of_rows() -> None:
    found = metrics.perplexity([10.0, 2.0, 0.0], [5, 10, 0])
    assert found.values == pytest.approx({"perplexity": math.exp(12 / 15), "loss": 12 / 15})
    assert found.n == 2  # the last has no token
    assert found.intervals["loss"] == pytest.approx((0.2, 2.0))
    assert metrics.perplexity([1e9], [1]).values["perplexity"] == pytest.approx(sys.float_info.max)


# ---- entities

LETTERS = {"IOB1": "OIIIB", "IOB2": "OOBII", "BIOES": "OOBIES"}


def tag_soup(rng: random.Random, letters: str, sentences: int) -> list[list[str]]:
    """Return sentences of tags in any order, most of them against their scheme."""

    def tag() -> str:
        letter = rng.choice(letters)
        return letter if letter == "O" else letter + rng.choice(["-PER", "-LOC", "-a-b", "-PER", ""])

    return [[tag() for _ in range(rng.randint(1, 9))] for _ in range(sentences)]


@pytest.mark.parametrize("letters", LETTERS.values(), ids=LETTERS)
@pytest.mark.parametrize("seed", range(30))
def test_entities_are_measured_as_by_seqeval(letters: str, seed: int) -> None:
    rng = random.Random(seed)
    truth = tag_soup(rng, letters, rng.randint(1, 25))
    guess = [[tag if rng.random() < 0.7 else other for tag in row] for row in truth for other in (rng.choice(row),)]
    for row in truth:
        wanted = seqeval.metrics.sequence_labeling.get_entities(row)
        assert metrics.entity_spans(row) == [(type_, start, last + 1) for type_, start, last in wanted]
    found = metrics.entities(truth, guess).values
    table = metrics.entity_table(truth, guess)
    with warnings.catch_warnings(action="ignore"):
        for name in ("precision", "recall", "f1", "accuracy"):
            reference = getattr(seqeval.metrics, f"{name}_score")
            assert close(found[name], reference(truth, guess)), name
        columns = seqeval.metrics.sequence_labeling.precision_recall_fscore_support(truth, guess, average=None)
    assert [list(row.values())[1:] for row in table] == [pytest.approx(list(row)) for row in zip(*columns, strict=True)]
    assert [row["type"] for row in table] == sorted(
        {type_ for row in (*truth, *guess) for type_, _, _ in metrics.entity_spans(row)}
    )


def test_bilou_is_read_as_bioes() -> None:
    assert metrics.entity_spans(["U-PER", "B-LOC", "L-LOC", "L-LOC"]) == [("PER", 0, 1), ("LOC", 1, 3), ("LOC", 3, 4)]


@pytest.mark.parametrize("tag", ["NOUN", "ORG", "PER-B", "B_PER", "", "b-PER"])
def test_what_is_no_tag_of_an_entity_is_an_error(tag: str) -> None:
    with pytest.raises(DataError, match="is no tag of an entity; expected O, or B, I"):
        metrics.entity_spans(["O", tag])


# ---- answers


def squads(seed: int, unanswerable: float) -> tuple[list[str], list[list[str]], list[float]]:
    """Return predictions, answers and distinct scores of no answer, negative ones among them."""
    rng = random.Random(seed)
    n = rng.randint(2, 40)
    answers = [[] if rng.random() < unanswerable else rng.choices(TEXTS, k=rng.randint(1, 3)) for _ in range(n)]
    others = [rng.choice(TEXTS) for _ in range(n)]
    predictions = [rng.choice([*row, other]) for row, other in zip(answers, others, strict=True)]
    return predictions, answers, [rng.gauss(0 if row else 2, 3) for row in answers]


def reference(prediction: str, answers: list[str]) -> tuple[float, float]:
    """Return exact match and F1 of one row: torchmetrics' of an answer, and by definition where there is none."""
    if not answers:
        return (100.0 * (prediction == ""),) * 2
    target = {"answers": {"answer_start": [0] * len(answers), "text": answers}, "id": "0"}
    found = torchmetrics_squad([{"prediction_text": prediction, "id": "0"}], [target])
    return float(found["exact_match"]), float(found["f1"])


def without_articles_alone(predictions: list[str], answers: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Leave out answers such as "the", of which nothing is left to compare, and on which references differ."""
    plain = [text if _something(text) else "" for text in predictions]
    return plain, [[text for text in row if _something(text)] for row in answers]


def _something(text: str) -> bool:
    words = text.lower().translate(str.maketrans("", "", string.punctuation)).split()
    return any(word not in ("a", "an", "the") for word in words)


@pytest.mark.parametrize("unanswerable", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("seed", range(15))
def test_answers_are_measured_as_squad_defines(seed: int, unanswerable: float) -> None:
    predictions, answers = without_articles_alone(*squads(seed, unanswerable)[:2])
    found = dict(metrics.squad(predictions, answers).values)
    rows = np.array([reference(*row) for row in zip(predictions, answers, strict=True)])
    has = np.array([bool(row) for row in answers])
    assert found.pop("exact_match") == pytest.approx(rows[:, 0].mean(), abs=1e-4)
    assert found.pop("f1") == pytest.approx(rows[:, 1].mean(), abs=1e-4)
    both = has.any() and not has.all()
    wanted = {"HasAns_exact": rows[has, 0], "HasAns_f1": rows[has, 1], "NoAns_exact": rows[~has, 0]}
    wanted["NoAns_f1"] = rows[~has, 1]
    assert found == pytest.approx({k: v.mean() for k, v in wanted.items()} if both else {}, abs=1e-4)


def f1_at(threshold: float, predictions: list[str], answers: list[list[str]], scores: list[float]) -> float:
    chosen = ["" if score > threshold else text for score, text in zip(scores, predictions, strict=True)]
    _, f1 = np.transpose([metrics.answers._best(*pair) for pair in zip(chosen, answers, strict=True)])
    return 100 * float(f1.mean())


@pytest.mark.parametrize("seed", range(60))
def test_no_other_threshold_has_a_better_f1(seed: int) -> None:
    predictions, answers, scores = squads(seed, [0.0, 0.3, 0.9, 1.0][seed % 4])
    scores = [float(round(score)) for score in scores]  # many are equal
    threshold, found = metrics.best_threshold(scores, predictions, answers)
    assert close(found.values["f1"], f1_at(threshold, predictions, answers, scores))
    best = max(f1_at(other, predictions, answers, scores) for other in [-math.inf, *scores])
    assert close(found.values["f1"], best)


# ---- texts


@pytest.mark.parametrize("seed", range(30))
def test_texts_are_measured_as_by_sacrebleu_and_rouge_score(seed: int) -> None:
    rng = random.Random(seed)
    references = rng.choices(TEXTS, k=rng.randint(1, 30))
    predictions = [rng.choice([text, text[: len(text) // 2], rng.choice(TEXTS)]) for text in references]
    if seed % 2:
        references = [" ".join(rng.choices(TEXTS, k=4)) for _ in references]
        predictions = [" ".join(rng.sample(words := text.split(" "), len(words))) for text in references]
    found = metrics.text(predictions, references).values
    assert close(found["sacrebleu"], sacrebleu.corpus_bleu(predictions, [references]).score)
    assert close(found["chrf"], sacrebleu.corpus_chrf(predictions, [references]).score)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    rows = [scorer.score(reference, text) for text, reference in zip(predictions, references, strict=True)]
    for name in ("rouge1", "rouge2", "rougeL"):
        assert close(found[name], 100 * float(np.mean([row[name].fmeasure for row in rows]))), name
    same = [text.strip() == reference.strip() for text, reference in zip(predictions, references, strict=True)]
    assert close(found["exact_match"], 100 * sum(same) / len(same))


def test_a_corpus_without_a_common_4_gram_is_smoothed_as_by_sacrebleu() -> None:
    found = metrics.text(["a b c d e"], ["a b c x e"]).values["sacrebleu"]
    assert close(found, sacrebleu.corpus_bleu(["a b c d e"], [["a b c x e"]]).score)
    assert found > 0


def test_the_resamples_of_texts_are_those_of_sacrebleu_on_rows_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    references = [" ".join(rng.choices(TEXTS, k=4)) for _ in range(12)]
    predictions = [text.replace("a", "e", rng.randint(0, 3)) for text in references]
    kept: dict[str, np.ndarray] = {}
    original = bootstrap._interval
    monkeypatch.setattr(bootstrap, "RESAMPLES", 25)
    monkeypatch.setattr(
        bootstrap, "_interval", lambda value, draws: kept.update({str(value): draws}) or original(value, draws)
    )
    found = metrics.text(predictions, references).values
    for i, weights in enumerate(np.concatenate([*bootstrap._resamples(12)])):
        rows = np.repeat(np.arange(12), weights.astype(int))
        again = [predictions[row] for row in rows], [[references[row] for row in rows]]
        assert close(kept[str(found["sacrebleu"])][i], sacrebleu.corpus_bleu(*again).score)
        assert close(kept[str(found["chrf"])][i], sacrebleu.corpus_chrf(*again).score)


# ---- intervals, for every family


def classified(n: int) -> metrics.Metrics:
    rng = np.random.default_rng(n)
    truth = rng.integers(0, 5, n)
    return metrics.classification(truth.tolist(), np.where(rng.random(n) < 0.8, truth, 0).tolist(), 5)


def multiply_labelled(n: int) -> metrics.Metrics:
    rng = np.random.default_rng(n)
    truth = rng.random((n, 4)) < 0.3
    return metrics.multilabel(truth, truth ^ (rng.random((n, 4)) < 0.1))


def numbered(n: int) -> metrics.Metrics:
    rng = np.random.default_rng(n)
    truth = rng.normal(size=n)
    return metrics.regression(truth.tolist(), (truth + rng.normal(size=n)).tolist())


def tagged(n: int) -> metrics.Metrics:
    rng = random.Random(n)
    truth = tag_soup(rng, "OOBII", n)
    return metrics.entities(truth, [row if rng.random() < 0.6 else rng.sample(row, len(row)) for row in truth])


def answered(n: int) -> metrics.Metrics:
    rng = random.Random(n)
    answers = [rng.choice([[], ["a grey cat"], ["the dog", "a small dog"]]) for _ in range(n)]
    return metrics.squad([rng.choice(["", "cat", "small dog"]) for _ in range(n)], answers)


WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "dog"]


def written(n: int) -> metrics.Metrics:
    rng = random.Random(n)
    references = [" ".join(rng.choices(WORDS, k=8)) for _ in range(n)]
    return metrics.text([text.replace(rng.choice("aot"), "e", rng.randint(0, 2)) for text in references], references)


def likely(n: int) -> metrics.Metrics:
    rng = np.random.default_rng(n)
    counts = rng.integers(1, 30, n)
    return metrics.perplexity((counts * rng.gamma(3, size=n)).tolist(), counts.tolist())


FAMILIES = [classified, multiply_labelled, numbered, tagged, answered, written, likely]
families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


@families
@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_an_interval_holds_its_value_and_all_is_finite_json(family: Callable[[int], metrics.Metrics], n: int) -> None:
    with warnings.catch_warnings(action="error"):
        found = family(n)
    assert found.n == n
    assert list(found.values) == list(found.intervals)
    for name, value in found.values.items():
        low, high = found.intervals[name]
        assert low <= value <= high
        assert n > 1 or (low, high) == pytest.approx((value, value))
    again = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert again["values"] == found.values


@families
def test_intervals_shrink_as_rows_grow(family: Callable[[int], metrics.Metrics]) -> None:
    few, many = family(60), family(960)
    for name, (low, high) in many.intervals.items():
        assert 0 < high - low < 0.6 * (few.intervals[name][1] - few.intervals[name][0]), name  # a quarter is expected


@families
def test_the_same_rows_give_the_same_intervals(
    family: Callable[[int], metrics.Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = family(50)
    assert family(50) == first
    monkeypatch.setattr(bootstrap, "BLOCK", 120)  # two draws at a time
    for name, interval in family(50).intervals.items():
        assert interval == pytest.approx(first.intervals[name], rel=1e-12), name


@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_about_95_of_100_intervals_hold_the_true_accuracy(accuracy: float) -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        right = rng.random(200) < accuracy
        low, high = metrics.classification([1] * 200, right.astype(int).tolist(), 2).intervals["accuracy"]
        held += low <= accuracy <= high
    assert 180 <= held <= 198


def test_most_intervals_hold_a_macro_f1_of_rare_labels_which_resamples_underrate() -> None:
    rng = np.random.default_rng(6)
    share = 1 / np.arange(1, 78)
    share /= share.sum()

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.choice(77, n, p=share)
        return truth, np.where(rng.random(n) < 0.85, truth, rng.integers(0, 77, n))

    true = sklearn.metrics.f1_score(*draw(1_000_000), average="macro")
    intervals = [metrics.classification(*draw(1000), 77).intervals["f1_macro"] for _ in range(60)]
    assert sum(low <= true <= high for low, high in intervals) >= 42  # about 49; of plain percentiles about 32


def test_an_interval_holds_its_value_where_no_draw_reaches_it() -> None:
    assert bootstrap._interval(1.0, np.linspace(0.0, 0.5, 1000)) == pytest.approx((0.5, 1.0), abs=1e-3)
    assert bootstrap._interval(0.0, np.linspace(0.5, 1.0, 1000)) == pytest.approx((0.0, 0.5), abs=1e-3)


def test_a_rare_label_that_a_draw_lacks_is_no_mistake() -> None:
    assert metrics.multilabel(np.eye(50), np.eye(50)).intervals["f1_macro"] == pytest.approx((1.0, 1.0))


# ---- what can't be measured, and what is degenerate


DEGENERATE: dict[str, Callable[[], metrics.Metrics]] = {
    "one label": lambda: metrics.classification([0, 0, 0], [0, 0, 0], 1),
    "one class": lambda: metrics.classification([1, 1, 1], [0, 0, 0], 3),
    "no label at all": lambda: metrics.multilabel(np.zeros((4, 3)), np.zeros((4, 3))),
    "constants": lambda: metrics.regression([2.0, 2.0], [3.0, 3.0]),
    "no entity": lambda: metrics.entities([["O", "O"], ["O"]], [["O", "O"], ["O"]]),
    "no token": lambda: metrics.entities([[], []], [[], []]),
    "all unanswerable": lambda: metrics.squad(["", "x"], [[], []]),
    "empty texts": lambda: metrics.text(["", ""], ["", ""]),
    "empty predictions": lambda: metrics.text(["", ""], ["a b", "c"]),
    "empty references": lambda: metrics.text(["a b", "c"], ["", ""]),
    "likely beyond floats": lambda: metrics.perplexity([1e6, 1e7], [1, 1]),
}


@pytest.mark.parametrize("measured", DEGENERATE.values(), ids=DEGENERATE)
def test_what_is_degenerate_is_defined_and_warns_of_nothing(measured: Callable[[], metrics.Metrics]) -> None:
    with warnings.catch_warnings(action="error"):
        found = measured()
    for name, value in found.values.items():
        assert math.isfinite(value)
        assert all(math.isfinite(end) for end in found.intervals[name])


def test_degenerate_values() -> None:
    assert set(DEGENERATE["one label"]().values.items()) == {
        *(("accuracy", 1.0), ("f1_macro", 1.0), ("f1_micro", 1.0), ("matthews", 0.0))
    }
    assert set(DEGENERATE["one class"]().values.values()) == {0.0}
    assert DEGENERATE["no entity"]().values == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 1.0}
    assert DEGENERATE["all unanswerable"]().values == {"exact_match": 50.0, "f1": 50.0}
    assert DEGENERATE["empty texts"]().values["exact_match"] == 100.0


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (lambda: metrics.classification([], [], 2), "there are no rows to measure on"),
        (lambda: metrics.perplexity([0.0], [0]), "there are no rows to measure on"),
        (lambda: metrics.text([], []), "there are no rows"),
        (lambda: metrics.squad([], []), "there are no rows"),
        (lambda: metrics.entities([], []), "there are no rows"),
        (lambda: metrics.best_threshold([], [], []), "there are no rows"),
        (lambda: metrics.classification([0, 1], [0], 2), "1 predictions for 2 rows"),
        (lambda: metrics.classification([0, 2], [0, 1], 2), "labels from 0 to 2, but there are 2"),
        (lambda: metrics.classification([0, -100], [0, 1], 2), "labels from -100 to 1"),
        (
            lambda: metrics.multilabel(np.zeros((2, 3)), np.zeros((2, 4))),
            r"shape \(2, 4\) for labels of shape \(2, 3\)",
        ),
        (lambda: metrics.entities([["O"], ["O", "O"]], [["O"], ["O"]]), "row 2: 1 predicted tags for 2"),
        (lambda: metrics.text(["a"], ["a", "b"]), "1 predictions for 2 rows"),
    ],
)
def test_what_cant_be_measured_is_an_error(measured: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        measured()


def test_importing_metrics_is_cheap() -> None:
    heavy = "{'numpy', 'scipy', 'sklearn', 'torch', 'transformers', 'sacrebleu'}"
    code = f"import adapterkit.metrics, sys; heavy = {heavy} & set(sys.modules); assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_are_printed_in_one_line_and_as_a_small_table() -> None:
    found = metrics.Metrics({"accuracy": 0.93333, "<b>": 1.0}, {"accuracy": (0.8833, 0.975)}, 1200)
    assert repr(found) == "accuracy 0.933 [0.883, 0.975], <b> 1.000 (1,200 rows)"
    assert found.describe("test").endswith("(test, 1,200 rows)")
    table = found._repr_html_()
    assert "<td>0.8833 to 0.9750</td>" in table
    assert "<b>" not in table
