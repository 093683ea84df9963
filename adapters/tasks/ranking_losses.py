"""Losses of the scores of a query's passages: each by itself, pair by pair, and as a list."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus


def pointwise(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of each passage's relevance, 0 to 1; NaN labels are of no passage."""
    real = ~labels.isnan()
    return binary_cross_entropy_with_logits(scores[real], labels[real])


def pairwise(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of log(1 + exp(s_j - s_i)) over a query's passages i of a higher label than j.

    RankNet (Burges et al. 2005). `scores` and `labels` are (queries, passages); NaN labels are of no passage.
    """
    higher = labels[:, :, None] > labels[:, None, :]  # False for NaN
    differences = (scores[:, :, None] - scores[:, None, :])[higher]
    return softplus(-differences).mean() if len(differences) else scores.sum() * 0


def listwise(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy between the softmax of labels and that of scores, over each query's passages.

    ListNet (Cao et al. 2007). `scores` and `labels` are (queries, passages); NaN labels are of no passage.
    """
    absent = labels.isnan()
    log_shares = scores.masked_fill(absent, float("-inf")).log_softmax(-1).masked_fill(absent, 0.0)
    target = labels.masked_fill(absent, float("-inf")).softmax(-1)
    return -(target * log_shares).sum(-1).mean()
