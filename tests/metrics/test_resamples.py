"""The draws behind every metric's interval are the metric of the rows drawn again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from adapterkit import metrics
from adapterkit.metrics import bootstrap
from tests.helpers.metric_rows import TEXTS, tag_soup

ROWS, DRAWS = 14, 20
Measured = Callable[[Sequence[int]], metrics.Metrics]


def labels(rng: np.random.Generator) -> Measured:
    truth = rng.integers(0, 4, ROWS)
    guess = np.where(rng.random(ROWS) < 0.6, truth, rng.integers(0, 4, ROWS))
    return lambda rows: metrics.classification(truth[rows].tolist(), guess[rows].tolist(), 5)


def label_sets(rng: np.random.Generator) -> Measured:
    truth = rng.random((ROWS, 3)) < 0.5
    guess = truth ^ (rng.random((ROWS, 3)) < 0.2)
    return lambda rows: metrics.multilabel(truth[rows], guess[rows])


def numbers(rng: np.random.Generator) -> Measured:
    truth = np.round(rng.normal(size=ROWS), 1)
    guess = np.round(truth + rng.normal(size=ROWS), 1)
    return lambda rows: metrics.regression(truth[rows].tolist(), guess[rows].tolist())


def likelihoods(rng: np.random.Generator) -> Measured:
    sums, counts = rng.gamma(3, size=ROWS), rng.integers(1, 9, ROWS)
    return lambda rows: metrics.perplexity(sums[rows].tolist(), counts[rows].tolist())


def sentences(rng: np.random.Generator) -> Measured:
    drawn = random.Random(int(rng.integers(1000)))
    truth = tag_soup(drawn, "OOBII", ROWS)
    guess = [[tag if drawn.random() < 0.7 else drawn.choice(row) for tag in row] for row in truth]
    return lambda rows: metrics.entities([truth[i] for i in rows], [guess[i] for i in rows])


def spans(rng: np.random.Generator) -> Measured:
    drawn = random.Random(int(rng.integers(1000)))
    answers = [[] if i % 3 == 0 else drawn.choices(TEXTS, k=2) for i in range(ROWS)]
    guess = [drawn.choice([*row, "", "the cat"]) for row in answers]
    return lambda rows: metrics.squad([guess[i] for i in rows], [answers[i] for i in rows])


def texts(rng: np.random.Generator) -> Measured:
    drawn = random.Random(int(rng.integers(1000)))
    references = [" ".join(drawn.choices(TEXTS, k=4)) for _ in range(ROWS)]
    guess = [text.replace("a", "e", drawn.randint(0, 3)) for text in references]
    return lambda rows: metrics.text([guess[i] for i in rows], [references[i] for i in rows])


FAMILIES = (labels, label_sets, numbers, likelihoods, sentences, spans, texts)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_a_draw_has_the_value_of_its_rows(
    family: Callable[[np.random.Generator], Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = family(np.random.default_rng(0))
    draws: list[np.ndarray] = []
    monkeypatch.setattr(bootstrap, "RESAMPLES", DRAWS)
    monkeypatch.setattr(bootstrap, "interval_of", lambda value, values: (draws.append(values), (value, value))[1])
    all_rows = measured(range(ROWS))
    by_name = dict(zip(all_rows.values, tuple(draws), strict=True))
    weights = np.concatenate([*bootstrap._resamples(ROWS)])
    assert weights.shape == (DRAWS, ROWS)
    assert (weights.sum(1) == ROWS).all()
    compared = 0
    for i, row_weights in enumerate(weights):
        rows = np.repeat(np.arange(ROWS), row_weights.astype(int))
        for name, value in measured(rows).values.items():
            if name in by_name:
                compared += 1
                assert by_name[name][i] == pytest.approx(value, rel=1e-9, abs=1e-9), (name, i)
    assert compared >= DRAWS * min(len(by_name), 2)


def test_the_draws_are_those_of_numpys_generator_with_a_fixed_seed() -> None:
    rng = np.random.default_rng(0)
    (weights,) = bootstrap._resamples(5)
    rows = rng.integers(0, 5, size=(1000, 5))
    assert weights.tolist() == [np.bincount(row, minlength=5).tolist() for row in rows]


def test_an_interval_is_the_bias_corrected_percentile_one() -> None:
    draws = np.arange(1000) / 1000
    assert bootstrap.interval_of(0.4995, draws) == pytest.approx((0.025, 0.975), abs=1e-3)
    # 30 % of the draws are below: z = -0.5244, so the quantiles of -1.96 - 1.0488 and 1.96 - 1.0488
    assert bootstrap.interval_of(0.2995, draws) == pytest.approx((0.00132, 0.8189), abs=2e-3)
    assert bootstrap.interval_of(0.6995, draws) == pytest.approx((0.1811, 0.99868), abs=2e-3)


def test_a_table_in_html_has_a_row_for_each_metric() -> None:
    found = metrics.Metrics({"accuracy": 0.5, "loss": 2.0}, {"accuracy": (0.25, 0.75)}, 1200)
    table = found._repr_html_()
    assert table.count("<tr>") == 3
    assert "<th>metric</th><th>value</th>" in table
    assert "<tr><td>accuracy</td><td>0.5000</td><td>0.2500 to 0.7500</td></tr>" in table
    assert "<tr><td>loss</td><td>2.0000</td><td></td></tr>" in table
    assert table.endswith("<p>1,200 rows</p>")
    assert "<th>on a&lt;b</th>" in found.html("on a<b")
