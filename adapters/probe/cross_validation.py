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
from .solver import FINE, MAX_ITERATIONS, MEDIUM, Weights, loss_of

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task
    from .model import ProbeHead

_FEW, _FOLDS_OF_FEW, _FOLDS = 200, 10, 5
_FITTED, _REPEATS = 300, 5
"""Repetitions: as many as fit about so many texts, at most five."""
_CORRECTIONS = 4  # of L-BFGS: scaled components need no more steps than with ten, and each step is quicker


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


def fit(
    task: Task,
    head: ProbeHead,
    train: Examples,
    folds: Folds | None,
    smoothing: float = 0.0,
    *,
    one_scale: bool = False,
) -> Fitted:
    """Fit a probe to all texts and, for an estimate, to those outside of each fold.

    With `one_scale` all features are divided by one number: their variances were trained, and mean something.
    """
    mean, scale = train.x.mean(0), train.x.std(0, unbiased=False).clamp(min=1e-6)
    if one_scale:
        scale = (scale**2).mean().sqrt().expand_as(scale)
    with torch.enable_grad(), threadpool_limits(1, user_api="blas"):
        rotated, back = _rotated((train.x - mean) / scale)
        problem = _Problem(task, head, replace(train, x=rotated), train.x.shape[1], smoothing)
        w, loss = problem.minimum(torch.ones(1, len(rotated), dtype=torch.bool), FINE)
        held_out = [] if folds is None else _held_out(problem, folds)
    both = train.standardised(mean, scale).unscaled(torch.cat([w[0, :, :-1] @ back, w[0, :, -1:]], 1))
    return Fitted(*both, loss, held_out)


def _rotated(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the principal components of features, at most as many as texts, and the map of their weights back."""
    wide = x.shape[1] > x.shape[0]
    squares, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    nonzero = squares > 1e-6 * squares[-1].clamp(min=1e-6)
    vectors, lengths = vectors[:, nonzero], squares[nonzero].sqrt()
    return (vectors * lengths, (vectors / lengths).T @ x) if wide else (x @ vectors, vectors.T)


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


@dataclass(frozen=True)
class _Problem:
    """Texts to fit a probe to: principal components, and labels."""

    task: Task
    head: ProbeHead
    e: Examples
    features: int  # before they were rotated
    smoothing: float

    def scores(self, x: Tensor, w: Tensor) -> Tensor:
        """Return (fits, texts, outputs) for weights of (fits, outputs, components + 1), the bias last."""
        flat = torch.addmm(w[:, :, -1].flatten(), x, w[:, :, :-1].flatten(0, 1).T)
        return flat.view(len(x), *w.shape[:2]).transpose(0, 1)

    def minimum(self, fitted: Tensor, tolerance: float) -> tuple[Tensor, float]:
        """Minimise the loss of several fits at once by L-BFGS; `fitted` has the texts of each, (fits, texts).

        Returns weights of (fits, outputs, components + 1) and the mean loss. Components are scaled so that the Hessian
        at zero weights is about the identity, which takes a tenth of the steps.
        """
        (fits, texts), outs, sizes = fitted.shape, self.head.score.out_features, fitted.sum(1)
        rows = fitted.nonzero()[:, 1]
        labels = {name: values[rows] for name, values in self.e.labels.items()}
        examples = replace(self.e, x=self.e.x[:0], counts=np.ones(len(rows), dtype=np.int64), labels=labels)
        penalties = torch.tensor([few_texts.penalty(int(n), self.features, outs) for n in sizes])
        curvature = outs**-2.0 if outs > 1 else 1.0  # of the softmax, halfway to confident answers
        squares = (self.e.x**2).sum(0) / texts
        scale = (curvature * squares + penalties.mean()).rsqrt()
        x, shrink = self.e.x * scale, scale**2 * (penalties * sizes / sizes.sum())[:, None, None]

        def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
            w = torch.from_numpy(flat).float().view(fits, outs, -1).requires_grad_()
            loss = loss_of(self.task, self.head, examples, self.scores(x, w)[fitted], self.smoothing)
            loss = loss + (shrink * w[:, :, :-1] ** 2).sum() / 2
            torch.autograd.backward(loss)
            assert w.grad is not None
            return float(loss.detach()), w.grad.double().numpy().ravel()

        start = np.zeros(fits * outs * (x.shape[1] + 1))
        options = {"maxiter": MAX_ITERATIONS, "ftol": tolerance, "maxcor": _CORRECTIONS}
        solution: Any = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
        w = torch.from_numpy(solution.x).float().view(fits, outs, -1)
        return torch.cat([w[:, :, :-1] * scale, w[:, :, -1:]], -1), float(solution.fun)


def _held_out(problem: _Problem, folds: Folds) -> list[Tensor]:
    """Return the scores of all texts, (texts, outputs), for each repetition, by probes fitted without the text."""
    parts = torch.from_numpy(folds.parts)
    outside = torch.stack([part == k for part in parts for k in range(folds.count)])  # (fits, texts)
    w, _ = problem.minimum(~outside, MEDIUM)
    scores = problem.scores(problem.e.x, w).view(len(parts), folds.count, len(problem.e.x), -1)
    texts = torch.arange(len(problem.e.x))
    return [scores[number, part, texts] for number, part in enumerate(parts)]
