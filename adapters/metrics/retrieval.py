"""Metrics of rankings: each query's best results against what is relevant to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from .bootstrap import Metrics, measure, merged, ratio

if TYPE_CHECKING:
    import numpy as np

TOP = 10
"""How many results are measured."""
DEEP = 100
"""How many results are measured for recall on a corpus with judgements."""
_SCORES = 1 << 24  # similarities held in memory at once


def ranking(gains: np.ndarray, ideal: np.ndarray, relevant: np.ndarray) -> Metrics:
    """Measure rankings: ndcg_at_10, mrr_at_10, recall_at_10 and accuracy_at_1, the means over queries.

    `gains` are those of the best results, (queries, TOP), best first, `ideal` the largest that the query has, in
    descending order, and `relevant` the number of results with a gain, (queries,). Gains are linear, as trec_eval's. A
    query without anything relevant is ignored, unless all are.
    """
    import numpy as np

    some = relevant > 0 if (relevant > 0).any() else np.ones(len(relevant), bool)
    gains, ideal, relevant = gains[some], ideal[some], relevant[some]
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    hits = gains > 0
    first = np.where(hits.any(-1), 1 / (hits.argmax(-1) + 1), 0.0)
    by_query = {
        "ndcg_at_10": ratio(gains @ discounts, ideal @ discounts),
        "mrr_at_10": first,
        "recall_at_10": ratio(hits.sum(-1).astype(float), relevant.astype(float)),
        "accuracy_at_1": hits[:, 0].astype(float),
    }

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: weights @ values / weights.sum(-1) for name, values in by_query.items()}

    return measure(len(gains), scores)


def best_first(scores: np.ndarray, most: int = TOP) -> np.ndarray:
    """Return the indices of the largest scores of each row, (rows, at most `most`), the first of equal ones first."""
    import numpy as np

    count = min(most, scores.shape[-1])
    if count < scores.shape[-1]:
        few = np.sort(np.argpartition(-scores, count - 1, axis=-1)[:, :count], axis=-1)
        order = np.argsort(-np.take_along_axis(scores, few, -1), axis=-1, kind="stable")
        best: np.ndarray = np.take_along_axis(few, order, -1)
        return best
    return np.argsort(-scores, axis=-1, kind="stable")


def nearest(queries: np.ndarray, corpus: np.ndarray, most: int = TOP, *, same: bool = False) -> np.ndarray:
    """Return the indices of the vectors of `corpus` with the largest products with each query, (queries, `most`).

    With `same`, the queries are the corpus, and none finds itself.
    """
    import numpy as np

    results = []
    step = max(1, _SCORES // max(1, len(corpus)))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ corpus.T
        if same:
            rows = np.arange(len(scores))
            scores[rows, start + rows] = -np.inf
            results.append(best_first(scores, min(most, len(corpus) - 1)))
        else:
            results.append(best_first(scores, most))
    return np.concatenate(results)


def corpus_retrieval(queries: np.ndarray, corpus: np.ndarray, relevant: Sequence[Collection[int]]) -> Metrics:
    """Measure the nearest vectors of a corpus for each query against the indices that are `relevant` to it."""
    import numpy as np

    best = nearest(queries, corpus)
    gains = [[float(i in of_query) for i in row] for row, of_query in zip(best, relevant, strict=True)]
    return _binary(np.array(gains), np.array([len(of_query) for of_query in relevant]))


def judged_retrieval(
    queries: np.ndarray,
    corpus: np.ndarray,
    judgements: Sequence[Mapping[int, int]],
    relevances: Sequence[Sequence[int]],
) -> Metrics:
    """Measure the nearest vectors of a corpus for each query by graded judgements, as trec_eval does.

    `judgements` are the relevance of corpus indices for each query, and `relevances` all that the query has, those of
    documents outside of the corpus included; below 1 is not relevant. Adds recall_at_100 to the metrics of `ranking`.
    Queries without a relevant document are ignored, unless all are.
    """
    import numpy as np

    best = nearest(queries, corpus, DEEP)
    pairs = list(zip(best, judgements, strict=True))
    gains = _filled([[float(max(0, judged.get(int(i), 0))) for i in row] for row, judged in pairs], DEEP)
    positive = [sorted((r for r in each if r > 0), reverse=True) for each in relevances]
    relevant = np.array([len(each) for each in positive])
    metrics = ranking(gains[:, :TOP], _filled([list(map(float, each[:TOP])) for each in positive], TOP), relevant)
    some = relevant > 0 if (relevant > 0).any() else np.ones(len(relevant), bool)
    recall = ratio((gains[some] > 0).sum(-1).astype(float), relevant[some].astype(float))
    deep = measure(len(recall), lambda weights: {f"recall_at_{DEEP}": weights @ recall / weights.sum(-1)})
    return merged(metrics, deep)


def _filled(rows: Sequence[Sequence[float]], width: int) -> np.ndarray:
    """Return rows as an array, (rows, width), filled up with zeros."""
    import numpy as np

    filled = np.zeros((len(rows), width))
    for i, row in enumerate(rows):
        filled[i, : len(row)] = row
    return filled


def label_retrieval(vectors: np.ndarray, labels: Sequence[str]) -> Metrics:
    """Measure, for each text as a query, how its nearest other texts have its label."""
    import numpy as np

    _, numbers, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    best = nearest(vectors, vectors, same=True)
    return _binary((numbers[best] == numbers[:, None]).astype(float), counts[numbers] - 1)


def _binary(gains: np.ndarray, relevant: np.ndarray) -> Metrics:
    """Measure gains of 0 and 1; fewer results than TOP are filled up."""
    import numpy as np

    gains = np.pad(gains, ((0, 0), (0, TOP - gains.shape[1])))
    ideal = (np.arange(TOP) < relevant[:, None]).astype(float)
    return ranking(gains, ideal, relevant)
