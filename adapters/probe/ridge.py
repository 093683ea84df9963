"""Fit a linear probe of few rows by ridge regression, with its penalty chosen by leave-one-out, in closed form.

With few rows, a part that is held out to choose by is missed in training, and its choice is noise. The leave-one-out
predictions of ridge regression follow from one decomposition of the rows' kernel (Allen 1974; Golub, Heath & Wahba
1979), so that all rows train and all rows choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from .model import Form
from .solver import Solved, loss_of

if TYPE_CHECKING:
    from ..features.feed import Feed
    from ..tasks import Task
    from .examples import Examples
    from .model import ProbeHead

MOST_ROWS = 1500
"""The rows up to which it is used: the decomposition takes their number to the third power."""
_MOST_LAYERS = 6
PENALTIES = tuple(10.0**exponent for exponent in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5))
"""Relative to the mean squared norm of the standardised rows."""


@dataclass(frozen=True)
class LeftOut:
    """Ridge regression of standardised rows, and its predictions of each row from all the others."""

    weight: Tensor  # (outputs, features), for features that aren't standardised
    bias: Tensor  # (outputs,)
    penalty: float
    scores: Tensor  # (rows, outputs)
    error: float  # mean squared error of `scores` over rows, summed over outputs


def applies(task: Task, feed: Feed, rows: int | None = None) -> bool:
    """Return whether a probe is fitted here: of texts that have one vector each, few, and equal in weight.

    `rows` are those of the run, where `feed` has a part of them.
    """
    several = any(count > 1 for count, _ in feed.shapes)
    weighted = bool(getattr(task, "label_weights", ()))
    return task.probe_unit == "text" and not several and not weighted and (rows or len(feed)) <= MOST_ROWS


def forms(depth: int) -> list[Form]:
    """Return what the probe may read of a base with `depth` blocks: means of all blocks, or of the upper two thirds.

    At most six are read. Word vectors, which have no blocks, are pooled by their mean or maximum.
    With few rows, which layer is best can't be measured, and several concatenated lose little against it.
    """
    if not depth:
        return [Form((0,), "mean"), Form((0,), "max")]
    every = tuple(sorted({round(k) for k in np.linspace(1, depth, min(depth, _MOST_LAYERS))}))
    return list(dict.fromkeys([Form(every, "mean"), Form(tuple(k for k in every if k > depth / 3), "mean")]))


def left_out(x: Tensor, targets: Tensor) -> LeftOut:
    """Fit `targets`, (rows, outputs), from `x`, (rows, features), with the penalty of the least leave-one-out error."""
    mean, scale = x.mean(0), x.std(0, unbiased=False).clamp(min=1e-6)
    rows = ((x - mean) / scale).double()
    norm = rows.square().sum(1).mean().sqrt().clamp(min=1e-12)
    rows = rows / norm
    level = targets.double().mean(0)
    wanted = targets.double() - level
    with threadpool_limits(1, user_api="blas"):
        values, vectors = torch.linalg.eigh(rows @ rows.T)
        values = values.clamp(min=0.0)
        projected, squares = vectors.T @ wanted, vectors.square()
        best: tuple[float, float, Tensor] | None = None
        for penalty in PENALTIES:
            shrinkage = values / (values + penalty)
            leverage = (squares @ shrinkage + 1 / len(rows)).clamp(max=1 - 1e-6)
            residuals = (wanted - vectors @ (shrinkage[:, None] * projected)) / (1 - leverage)[:, None]
            error = float(residuals.square().sum(1).mean())
            if best is None or error < best[0]:
                best = error, penalty, residuals
        assert best is not None
        error, penalty, residuals = best
        dual = vectors @ (projected / (values + penalty)[:, None])
        weight = (rows.T @ dual).T / norm / scale
    bias = level - weight @ mean.double()
    return LeftOut(weight.float(), bias.float(), penalty, (targets.double() - residuals).float(), error)


def calibrated(task: Task, head: ProbeHead, train: Examples, fit: LeftOut, smoothing: float) -> Solved:
    """Return the probe with its scores scaled and shifted to the least loss of the task on rows that were left out.

    Ridge regression predicts numbers near 0 and 1; probabilities need logits.
    """

    def value(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        p = torch.from_numpy(parameters).float().requires_grad_()
        loss = loss_of(task, head, train, fit.scores * p[0].exp() + p[1], smoothing)
        torch.autograd.backward(loss)
        assert p.grad is not None
        return float(loss.detach()), p.grad.double().numpy()

    with torch.enable_grad():
        result: Any = minimize(value, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(-3, 6), (-20, 20)])
    scale, shift = float(np.exp(result.x[0])), float(result.x[1])
    return Solved(fit.weight * scale, fit.bias * scale + shift, fit.penalty, float("nan"), float(result.fun))
