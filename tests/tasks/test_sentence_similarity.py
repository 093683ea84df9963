"""Sentence similarity: losses against their formulas, metrics against arithmetic, vectors against the bare base's."""

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
from torch.nn.functional import cosine_similarity, normalize

from adapterkit import Base, Pool
from adapterkit.data.splits import LINE
from adapterkit.errors import DataError, OptionError
from adapterkit.evaluation.outputs import outputs
from adapterkit.features.tokenize import tokenized
from adapterkit.tasks import SentenceSimilarity, infer_task
from adapterkit.tasks import embedding_losses as losses
from adapterkit.tasks.positives import positives
from tests.helpers.adapters import TEXTS, without_training
from tests.helpers.tolerance import TINY

TRIPLETS = [{"anchor": a, "positive": b, "negative": c} for a, b, c in zip(TEXTS, TEXTS[1:], TEXTS[2:], strict=False)]


def vectors(rows: int, texts: int, width: int = 8) -> torch.Tensor:
    return torch.randn(rows, texts, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def data_of(rows: list[dict[str, Any]]) -> datasets.Dataset:
    return datasets.Dataset.from_list([{**row, LINE: i} for i, row in enumerate(rows, start=2)])


def test_in_batch_negatives_are_a_cross_entropy_over_all_other_texts_of_the_batch() -> None:
    v = vectors(5, 3)
    candidates = torch.cat([v[:, 1], v[:, 2]])
    expected = 0.0
    for i in range(5):
        scores = 20 * torch.stack([cosine_similarity(v[i, 0], other, dim=0) for other in candidates])
        expected += (scores.exp().sum().log() - scores[i]).item() / 5
    assert losses.multiple_negatives(v, None, scale=20).item() == pytest.approx(expected, rel=1e-12)


def test_texts_of_the_same_label_are_no_negatives_of_each_other() -> None:
    v, labels = vectors(4, 2), torch.tensor([7, 7, 8, 9])
    scores = 20 * normalize(v[:, 0], dim=-1) @ normalize(v[:, 1], dim=-1).T
    scores[0, 1] = scores[1, 0] = -torch.inf
    expected = -scores.log_softmax(-1).diagonal().mean()
    assert losses.multiple_negatives(v, labels, scale=20).item() == pytest.approx(expected.item(), rel=1e-12)


def test_cosent_sums_over_the_pairs_whose_scores_differ() -> None:
    v, scores = vectors(6, 2), torch.tensor([1.0, 3.0, 3.0, 0.0, 5.0, 2.0])
    cosines = [20 * cosine_similarity(*pair, dim=0).item() for pair in v]
    pairs = [(i, j) for i, j in itertools.permutations(range(6), 2) if scores[i] < scores[j]]
    expected = math.log(1 + sum(math.exp(cosines[i] - cosines[j]) for i, j in pairs))
    assert losses.cosent(v, scores, scale=20).item() == pytest.approx(expected, rel=1e-12)


def test_a_triplet_costs_by_how_much_its_negative_is_too_near() -> None:
    v = vectors(4, 3)
    distances = [[1 - cosine_similarity(row[0], row[k], dim=0).item() for k in (1, 2)] for row in v]
    expected = sum(max(0.0, near - far + 0.5) for near, far in distances) / 4
    assert losses.triplet(v, margin=0.5).item() == pytest.approx(expected, rel=1e-12)


def test_matryoshka_adds_the_loss_of_the_first_numbers_of_each_vector() -> None:
    v = vectors(4, 2)

    def loss(some: torch.Tensor, _: torch.Tensor | None) -> torch.Tensor:
        return losses.multiple_negatives(some, None, scale=20)

    expected = loss(v, None) + loss(v[..., :4], None) + loss(v[..., :2], None)
    torch.testing.assert_close(losses.at_sizes(loss, [4, 2, 64], v, None), expected)


def test_each_text_is_once_the_first_of_a_pair_of_its_label() -> None:
    labels = ["a", "b", "a", "c", "b", "a"]
    pairs = positives(labels)
    assert [i for i, _ in pairs] == [0, 1, 2, 4, 5]
    assert all(i != j and labels[i] == labels[j] for i, j in pairs)
    assert sorted(j for _, j in pairs) == [0, 1, 2, 4, 5]


@pytest.fixture(scope="module")
def base(tiny_folder: Callable[..., Path]) -> Base:
    return Base.load(tiny_folder("bert"))


@pytest.fixture(scope="module")
def task(base: Base) -> SentenceSimilarity:
    return SentenceSimilarity().with_columns(list(TRIPLETS[0])).for_base(base)


def test_vectors_are_means_of_the_base_s_tokens_of_length_one(base: Base, task: SentenceSimilarity) -> None:
    model = task.model(base)
    rows = datasets.Dataset.from_list([{"anchor": text} for text in TEXTS])
    results = outputs(task, model, tokenized(task, rows, base, labelled=False), base, batch_size=4)
    for text, result in zip(TEXTS, results, strict=True):
        with torch.no_grad():
            hidden = base.model(**base.tokenizer(text, return_tensors="pt"))[0]
        np.testing.assert_allclose(result, normalize(hidden.mean(1), dim=-1).numpy(), atol=TINY)


def test_parts_of_a_batch_and_recomputed_ones_have_the_gradients_of_all_at_once(
    base: Base, task: SentenceSimilarity
) -> None:
    model = task.model(base)
    features = tokenized(task, datasets.Dataset.from_list(TRIPLETS[:6]), base, labelled=True)
    batch = task.collate(base.tokenizer, model)(list(features))
    weight = model.head.map.weight
    gradients = []
    for options in ({}, {"part_size": 4}, {"part_size": 4, "recompute": True}):
        embedded = model(**batch, **options).logits
        losses.multiple_negatives(embedded, None, scale=20).backward()
        gradients.append(weight.grad.clone())
        weight.grad = None
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=TINY, rtol=1e-4)
    assert gradients[0].abs().max() > 0


def test_a_pool_answers_vectors_and_scores_beside_each_other(base: Base, task: SentenceSimilarity) -> None:
    adapter = without_training(base, task, {})
    with Pool(base, {"vectors": adapter}) as pool:
        alone = pool.predict([TEXTS[0], TEXTS[1]], adapter="vectors")
        pair = pool.predict({"anchor": TEXTS[0], "positive": TEXTS[1]}, adapter="vectors")
    first, second = (np.array(answer["embedding"]) for answer in alone)
    assert pair["score"] == pytest.approx(float(first @ second), abs=TINY)


def test_retrieval_metrics_are_those_of_ranks_by_hand(base: Base) -> None:
    task = SentenceSimilarity(text_column_name=("text",), label_column_name="label")
    angles = [0.0, 0.1, 0.25, 1.5]
    points = [np.array([[math.cos(a), math.sin(a)]]) for a in angles]
    metrics = task.metrics(points, data_of([{"text": str(i), "label": "abab"[i]} for i in range(4)]))
    # the nearest others: 0: 1 2 3; 1: 0 2 3; 2: 1 0 3; 3: 2 1 0, of which the relevant is 2, 3, 0, 1
    ranks = [2, 3, 2, 2]
    assert metrics.values["mrr_at_10"] == pytest.approx(sum(1 / r for r in ranks) / 4)
    assert metrics.values["ndcg_at_10"] == pytest.approx(sum(1 / math.log2(r + 1) for r in ranks) / 4)
    assert metrics.values["recall_at_10"] == 1.0
    assert metrics.values["accuracy_at_1"] == 0.0


def test_a_positive_of_several_rows_counts_for_each_and_equal_texts_once() -> None:
    task = SentenceSimilarity(text_column_name=("anchor", "positive"))
    rows = [{"anchor": "q", "positive": "x"}, {"anchor": "q", "positive": "y"}, {"anchor": "r", "positive": "x"}]
    q, r, x, y = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.9, 0.1]), np.array([0.1, 0.9])
    metrics = task.metrics([np.stack(pair) for pair in ((q, x), (q, y), (r, x))], data_of(rows))
    assert metrics.values["recall_at_10"] == 1.0
    assert metrics.values["mrr_at_10"] == pytest.approx((1 + 1 + 1 / 2) / 3)


@pytest.mark.parametrize(
    ("names", "texts", "label", "best"),
    [
        (["anchor", "positive"], ("anchor", "positive"), None, "ndcg_at_10"),
        (["negative_1", "query", "positive", "id"], ("query", "positive", "negative_1"), None, "ndcg_at_10"),
        (["sentence1", "sentence2", "score"], ("sentence1", "sentence2"), "score", "spearman"),
        (["text", "intent"], ("text",), "intent", "ndcg_at_10"),
    ],
)
def test_columns_are_inferred(names: list[str], texts: tuple[str, ...], label: str | None, best: str) -> None:
    task = SentenceSimilarity().with_columns(names)
    assert (task.text_column_name, task.label_column_name, task.best) == (texts, label, best)


def test_rows_with_positives_are_inferred_as_the_task_and_pairs_with_labels_are_not() -> None:
    assert infer_task({"anchor": "a", "positive": "b"}) == "sentence-similarity"
    assert infer_task({"sentence1": "a", "sentence2": "b", "score": 0.5}) == "text-classification"


@pytest.mark.parametrize(
    ("options", "names", "reason"),
    [
        ({"loss_type": "cosent"}, ["anchor", "positive"], "--loss cosent needs pairs with a score"),
        ({"loss_type": "triplet"}, ["anchor", "positive"], "--loss triplet needs an anchor, a positive and a negative"),
        ({"loss_type": "multiple-negatives"}, ["sentence1", "sentence2", "score"], "needs positives"),
        ({"matryoshka_dims": ("32", "x")}, ["anchor", "positive"], "matryoshka_dims must be integers >= 1, got 'x'"),
        ({"scale": 0.0}, ["anchor", "positive"], "scale must be finite and > 0, got 0"),
    ],
)
def test_a_loss_without_what_it_needs_is_refused(options: dict[str, Any], names: list[str], reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        SentenceSimilarity(**options).with_columns(names)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"anchor": "a", "positive": ""}, "f:2: positive is empty"),
        ({"anchor": "a", "positive": ["b", "c"]}, "f:2: positive is a list of 2 texts, but one text was expected"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        SentenceSimilarity().with_columns(["anchor", "positive"]).check(data_of([row]), "f")


def test_labels_that_never_repeat_have_no_positives() -> None:
    task = SentenceSimilarity().with_columns(["text", "label"])
    with pytest.raises(DataError, match="no two training rows have the same label in column 'label'"):
        task.fit(data_of([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]))
