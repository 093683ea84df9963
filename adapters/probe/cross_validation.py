"""Fit a probe of few texts, and estimate its accuracy without validation rows: repeated, stratified cross-validation.

All folds are fitted at once, as one convex problem. Features are standardised over all texts, for which no label is
needed; everything that a label has part in is fitted without the texts that it is measured on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from . import few_texts
from .examples import Examples
from .solver import MAX_ITERATIONS, MEDIUM, Weights, loss_of, minimise_loss

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task
    from .model import ProbeHead

_FEW, _FOLDS_OF_FEW, _FOLDS = 200, 10, 5
_FITTED, _REPEATS = 300, 5
"""Repetitions: as many as fit about so many texts, at most five."""


@dataclass(frozen=True)
class Folds:
    """The part of each text in some repetitions of cross-validation."""

    parts: np.ndarray  # (repetitions, texts)
    count: int  # parts in each repetition

    def describe(self) -> str:
        """Return the number of folds and repetitions for reading."""
        times = len(self.parts)
        return f"{self.count} folds" + (f", repeated {times} times" if times > 1 else "")


@dataclass(frozen=True)
class Fitted(Weights):
    """A probe's weights, and the scores of its texts in each repetition, by probes that were fitted without them."""

    held_out: list[Tensor]  # (texts, outputs) each


def fit(task: Task, head: ProbeHead, train: Examples, folds: Folds | None, smoothing: float = 0.0) -> Fitted:
    """Fit a probe to all texts and, for an estimate, to those outside of each fold."""
    mean, scale = train.x.mean(0), train.x.std(0, unbiased=False).clamp(min=1e-6)
    x = (train.x - mean) / scale
    texts, features = x.shape
    rotated, back = (x, None) if features <= texts else _rotated(x)
    e = replace(train, x=rotated)
    penalty = few_texts.penalty(texts, features, head.score.out_features)
    start = np.zeros(head.score.out_features * (rotated.shape[1] + 1))
    with torch.enable_grad(), threadpool_limits(1, user_api="blas"):
        solution = minimise_loss(task, head, e, start, penalty, smoothing)
        held_out = [] if folds is None else held_out_scores(task, head, e, folds, features, smoothing)
    w = torch.from_numpy(solution.x).float().view(head.score.out_features, -1)
    weight, bias = w[:, :-1] if back is None else w[:, :-1] @ back, w[:, -1:]
    both = train.standardised(mean, scale).unscaled(torch.cat([weight, bias], 1))
    return Fitted(*both, float(solution.fun), held_out)


def _rotated(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return as many features as there are texts, with the same inner products, and the map of weights back.

    With x x' = L L', weights w of L are weights w L^-1 x of x, which have the same norm and scores.
    """
    gram = (x @ x.T).double()
    gram.diagonal().add_(1e-6 * gram.diagonal().mean() + 1e-12)  # texts that occur twice
    lower = torch.linalg.cholesky(gram)
    back = torch.linalg.solve_triangular(lower, x.double(), upper=False)
    return lower.float(), back.float()


def folds_of(train: Examples, features: Dataset, seed: int = 0) -> Folds | None:
    """Return folds for texts, those of one row in one fold, and stratified where each has one label.

    None where fewer than two labels have two rows: all texts would be measured on labels that are new to the probe.
    """
    rows = np.asarray(features["row"][:]) if "row" in features.column_names else np.arange(len(features))
    label = train.labels["labels"]
    labels = label.numpy() if label.ndim == 1 and not label.is_floating_point() else None
    first = np.unique(rows, return_index=True)[1]
    if len(first) < 4 or (labels is not None and sum(n > 1 for n in Counter(labels[first].tolist()).values()) < 2):
        return None
    count = min(_FOLDS_OF_FEW if len(first) < _FEW else _FOLDS, len(first))
    draw = np.random.default_rng(seed)
    parts = []
    for _ in range(max(1, min(_REPEATS, _FITTED // len(first)))):
        order = draw.permutation(len(first))
        if labels is not None:
            order = order[np.argsort(labels[first][order], kind="stable")]
        part = np.empty(len(first), dtype=np.int64)
        part[order] = np.arange(len(first)) % count
        parts.append(part[np.searchsorted(rows[first], rows)])
    return Folds(np.stack(parts), count)


def held_out_scores(
    task: Task, head: ProbeHead, e: Examples, folds: Folds, features: int, smoothing: float = 0.0
) -> list[Tensor]:
    """Return the scores of all texts, (texts, outputs), for each repetition, each by a probe fitted without the text.

    `e` holds standardised features, or a rotation of them; `features` is their number before it.
    """
    texts, width = e.x.shape
    outs = head.score.out_features
    fits = [(parts, part) for parts in folds.parts for part in range(folds.count)]
    fitted = torch.from_numpy(np.stack([parts != part for parts, part in fits]))  # (fits, texts)
    sizes = fitted.sum(1)
    rows = fitted.nonzero()[:, 1]
    every = {name: values[rows] for name, values in e.labels.items()}
    training = replace(e, x=e.x[:0], counts=np.ones(int(sizes.sum()), dtype=np.int64), labels=every)
    penalties = torch.tensor([few_texts.penalty(int(n), features, outs) * float(n) for n in sizes]) / sizes.sum()

    def scores(w: Tensor) -> Tensor:  # (fits, texts, outputs)
        flat = torch.addmm(w[:, :, -1].flatten(), e.x, w[:, :, :-1].flatten(0, 1).T)
        return flat.view(texts, len(fits), outs).transpose(0, 1)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(flat).float().view(len(fits), outs, width + 1).requires_grad_()
        loss = loss_of(task, head, training, scores(w)[fitted], smoothing)
        loss = loss + (penalties * (w[:, :, :-1] ** 2).sum((1, 2))).sum() / 2
        torch.autograd.backward(loss)
        assert w.grad is not None
        return float(loss.detach()), w.grad.double().numpy().ravel()

    start = np.zeros(len(fits) * outs * (width + 1))
    options = {"maxiter": MAX_ITERATIONS, "ftol": MEDIUM}
    solution: Any = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
    with torch.no_grad():
        result = scores(torch.from_numpy(solution.x).float().view(len(fits), outs, width + 1))
    held_out = result.new_empty(len(folds.parts), texts, outs)
    for number, (parts, part) in enumerate(fits):
        mask = torch.from_numpy(parts == part)
        held_out[number // folds.count][mask] = result[number][mask]
    return list(held_out)
