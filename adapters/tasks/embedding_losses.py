"""Losses of vectors of texts: positives against all others of a batch, triplets, and scores of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize, relu

VectorLoss = Callable[[Tensor, Tensor | None], Tensor]
"""Maps the vectors of rows of texts, (rows, texts, features), and labels, (rows,), to a loss."""


def multiple_negatives(vectors: Tensor, labels: Tensor | None, *, scale: float) -> Tensor:
    """Return the cross-entropy of each row's second text among the second and further texts of all rows.

    Similarities are cosines times `scale` (Henderson et al. 2017, arXiv:1705.00652). Rows of equal `labels` are no
    negatives of each other.
    """
    anchors, others = normalize(vectors[:, 0], dim=-1), normalize(vectors[:, 1:], dim=-1)
    scores = scale * anchors @ others.transpose(0, 1).flatten(0, 1).T  # (rows, rows * others), the positives first
    if labels is not None:
        same = labels[:, None] == labels[None, :]
        same.fill_diagonal_(False)
        scores = scores.masked_fill(same.repeat(1, others.shape[1]), float("-inf"))
    target = torch.arange(len(scores), device=scores.device)
    return torch.nn.functional.cross_entropy(scores, target)


def triplet(vectors: Tensor, *, margin: float) -> Tensor:
    """Return by how much an anchor is less than `margin` nearer to its positive than to each negative, in cosines."""
    anchors = vectors[:, :1]
    positive = cosine_similarity(anchors, vectors[:, 1:2], dim=-1)
    negative = cosine_similarity(anchors, vectors[:, 2:], dim=-1)
    return relu(negative - positive + margin).mean()


def cosent(vectors: Tensor, scores: Tensor, *, scale: float) -> Tensor:
    """Return log(1 + sum of exp(scale * (cosine of i - cosine of j))) over pairs i and j where j has a higher score.

    CoSENT (Su 2022, https://kexue.fm/archives/8847), as sentence-transformers computes it.
    """
    cosines = scale * cosine_similarity(vectors[:, 0], vectors[:, 1], dim=-1)
    differences = (cosines[:, None] - cosines[None, :])[scores[:, None] < scores[None, :]]
    return torch.cat([differences.new_zeros(1), differences]).logsumexp(0)


def at_sizes(loss: VectorLoss, sizes: Sequence[int], vectors: Tensor, labels: Tensor | None) -> Tensor:
    """Return the sum of a loss over vectors cut to each of `sizes` numbers, and of all (Matryoshka, arXiv:2205.13147).

    Cosines normalise what was cut.
    """
    width = vectors.shape[-1]
    values = [loss(vectors[..., :size], labels) for size in [width, *(s for s in sizes if s < width)]]
    return torch.stack(values).sum()
