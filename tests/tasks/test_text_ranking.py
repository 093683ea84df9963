"""Text ranking: losses against their formulas, metrics by hand, rows in each form, and answers that rerank."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from adapterkit import Base, Pool
from adapterkit.data.splits import LINE
from adapterkit.errors import DataError
from adapterkit.features.tokenize import tokenized
from adapterkit.tasks import TextRanking, infer_task
from adapterkit.tasks import ranking_losses as losses
from tests.helpers.adapters import TEXTS, without_training
from tests.helpers.tolerance import TINY

NAN = float("nan")
SCORES = torch.tensor([[0.3, -1.2, 2.0, 0.1], [1.0, 0.5, -0.5, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([[1.0, 0.0, 0.5, NAN], [0.0, 1.0, NAN, NAN]], dtype=torch.float64)
REAL = [(0, (0, 1, 2)), (1, (0, 1))]


def data_of(rows: list[dict[str, Any]]) -> datasets.Dataset:
    return datasets.Dataset.from_list([{**row, LINE: i} for i, row in enumerate(rows, start=2)])


def test_pointwise_is_a_binary_cross_entropy_of_each_passage() -> None:
    pairs = [(SCORES[i, k], LABELS[i, k]) for i, some in REAL for k in some]
    expected = sum(binary_cross_entropy_with_logits(s, t).item() for s, t in pairs) / len(pairs)
    assert losses.pointwise(SCORES, LABELS).item() == pytest.approx(expected, rel=1e-12)


def test_ranknet_is_a_logistic_loss_of_each_pair_of_different_relevance() -> None:
    pairs = [(i, a, b) for i, some in REAL for a, b in itertools.permutations(some, 2) if LABELS[i, a] > LABELS[i, b]]
    costs = [math.log(1 + math.exp(SCORES[i, b].item() - SCORES[i, a].item())) for i, a, b in pairs]
    assert losses.pairwise(SCORES, LABELS).item() == pytest.approx(sum(costs) / len(costs), rel=1e-12)


def test_listnet_is_a_cross_entropy_of_the_shares_of_labels_and_scores() -> None:
    expected = 0.0
    for i, some in REAL:
        shares = LABELS[i, list(some)].softmax(-1)
        expected -= (shares * SCORES[i, list(some)].log_softmax(-1)).sum().item() / 2
    assert losses.listwise(SCORES, LABELS).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [losses.pointwise, losses.pairwise, losses.listwise])
def test_what_fills_a_list_up_has_no_gradient(loss: Callable[..., torch.Tensor]) -> None:
    scores = SCORES.clone().requires_grad_()
    loss(scores, LABELS).backward()
    assert scores.grad is not None
    assert torch.equal(scores.grad[LABELS.isnan()], torch.zeros(3, dtype=torch.float64))
    assert scores.grad.isfinite().all()


FLAT = [
    {"query": q, "passage": p, "relevance": r}
    for q, p, r in [("a", "x", 0), ("b", "y", 2), ("a", "y", 2), ("b", "z", 0), ("a", "z", 1), ("c", "x", 0)]
]
LISTS = [
    {"query": "a", "passages": ["x", "y", "z"], "labels": [0, 2, 1]},
    {"query": "b", "passages": ["y"], "labels": [1]},
]


@pytest.fixture(scope="module")
def base(tiny_folder: Callable[..., Path]) -> Base:
    return Base.load(tiny_folder("bert"))


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        ("pointwise", [[0.0], [1.0], [1.0], [0.0], [0.5], [0.0]]),
        ("listwise", [[1.0, 0.5, 0.0, NAN], [1.0, 0.0, NAN, NAN]]),
    ],
)
def test_the_passages_of_a_query_are_compared_at_once(base: Base, loss: Any, labels: list[list[float]]) -> None:
    data = data_of(FLAT)
    task = TextRanking(ranking_loss=loss, group_size=4).with_columns(data.column_names).fit(data)
    features = tokenized(task, data, base, labelled=True)
    np.testing.assert_array_equal(np.array(features["labels"][:]), np.array(labels))
    assert all(len(ids) == len(labels[0]) for ids in features["input_ids"])


def test_a_long_list_is_compared_in_parts_with_a_best_one_in_each(base: Base) -> None:
    data = data_of([{"query": "q", "passages": [f"p{i}" for i in range(6)], "labels": [0, 0, 1, 0, 0, 0]}])
    task = TextRanking(ranking_loss="pairwise", group_size=3).with_columns(data.column_names).fit(data)
    labels = np.array(tokenized(task, data, base, labelled=True)["labels"][:])
    np.testing.assert_array_equal(labels, [[1, 0, 0], [1, 0, 0], [1, 0, NAN]])


def test_metrics_rank_the_passages_of_each_query_with_linear_gains() -> None:
    data = data_of(FLAT)
    task = TextRanking().with_columns(data.column_names).fit(data)
    scores = [np.array([s]) for s in (3.0, 0.0, 2.0, 1.0, 1.0, 5.0)]
    metrics = task.metrics(scores, data)  # a: x 0, y 2, z 1; b: z 0, y 2; c has nothing relevant
    of_a = (2 / math.log2(3) + 1 / math.log2(4)) / (2 + 1 / math.log2(3))
    of_b = (2 / math.log2(3)) / 2
    assert metrics.n == 2
    assert metrics.values["ndcg_at_10"] == pytest.approx((of_a + of_b) / 2)
    assert metrics.values["mrr_at_10"] == pytest.approx(0.5)


def test_lists_rank_as_flat_rows_do_and_are_inferred() -> None:
    assert infer_task(LISTS[0]) == "text-ranking"
    assert infer_task(FLAT[0]) == "text-classification"
    data = data_of(LISTS)
    task = TextRanking().with_columns(data.column_names).fit(data)
    metrics = task.metrics([np.array([1.0, 3.0, 2.0]), np.array([0.0])], data)
    assert metrics.values["ndcg_at_10"] == 1.0


def test_a_pool_reranks_lists_and_scores_passages_alike(base: Base) -> None:
    task = TextRanking(
        query_column_name="query", passage_column_name="passage", label_column_name="relevance", max_relevance=1.0
    )
    with Pool(base, {"ranker": without_training(base, task, {})}) as pool:
        one_by_one = pool.predict([{"query": TEXTS[0], "passage": text} for text in TEXTS], adapter="ranker")
        listed = pool.predict({"query": TEXTS[0], "passage": TEXTS}, adapter="ranker")["ranking"]
        typed = pool.predict("\t".join([TEXTS[0], *TEXTS]), adapter="ranker")["ranking"]
    assert typed == listed
    assert [answer["passage"] for answer in listed] == [TEXTS[answer["index"]] for answer in listed]
    scores = [answer["score"] for answer in listed]
    assert scores == sorted(scores, reverse=True)
    assert [one_by_one[answer["index"]]["score"] for answer in listed] == pytest.approx(scores, abs=TINY)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query": "q", "passage": "p", "label": "good"}, "f:2: label is 'good', but a relevance >= 0 was expected"),
        ({"query": "q", "passage": "p", "label": -1}, "f:2: label is '-1', but a relevance >= 0 was expected"),
        ({"query": "", "passage": "p", "label": 1}, "f:2: query is empty"),
        ({"query": "q", "passage": ["a", "b"], "label": [1]}, "f:2: label has 1 numbers for 2 passages"),
        ({"query": "q", "passage": ["a", ""], "label": [1, 0]}, "but a list of texts was expected"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        TextRanking().with_columns(["query", "passage", "label"]).check(data_of([row]), "f")


def test_rows_without_anything_to_learn_are_refused() -> None:
    task = TextRanking().with_columns(["query", "passage", "label"])
    with pytest.raises(DataError, match="no training row has a relevance above 0"):
        task.fit(data_of([{"query": "q", "passage": "p", "label": 0}]))
    with pytest.raises(DataError, match="no query has passages of different relevance"):
        TextRanking(ranking_loss="pairwise").with_columns(["query", "passage", "label"]).fit(
            data_of([{"query": "q", "passage": "p", "label": 1}])
        )
