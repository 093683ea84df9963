"""Fit a linear probe to convergence by L-BFGS, for several L2 penalties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from . import few_texts
from .examples import Examples
from .model import ProbeHead

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task


PENALTIES = (1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
MAX_ITERATIONS = 500
_LEAST_HALF = 10  # validation rows to choose by
COARSE, MEDIUM, FINE = 1e-3, 1e-5, 1e-7
"""Relative tolerances: for a head that is trained further, to compare probes, and for the final one."""


@dataclass(frozen=True)
class Weights:
    """A probe's weights, for features that aren't standardised, and its training loss."""

    weight: Tensor  # (outputs, features)
    bias: Tensor
    loss: float  # on the training rows, the penalty included


@dataclass(frozen=True)
class Solved(Weights):
    """A probe's weights, its penalty and its validation metric."""

    penalty: float
    value: float  # the task's best metric on the validation rows


class ScoredModel:
    """A stand-in for a model that returns precomputed scores, for a task's loss and outputs."""

    def __init__(self, head: ProbeHead, examples: Examples, scores: Tensor) -> None:
        self.head, self.examples, self.scores = head, examples, scores

    def __call__(self, **labels: Any) -> Any:
        """Return the task's output for the scores."""
        scores, e = self.scores, self.examples
        mask = torch.ones(len(scores), 1, dtype=torch.bool)
        if self.head.form.pooling is None and "labels" not in labels:
            mask = torch.arange(int(e.counts.max())) < torch.from_numpy(e.counts)[:, None]
            padded = scores.new_zeros(*mask.shape, scores.shape[-1])
            padded[mask] = scores
            scores = padded
        elif e.real is not None:
            real = e.real.flatten()
            padded = scores.new_zeros(len(real), scores.shape[-1])
            padded[real] = scores
            scores, mask = padded, torch.stack([torch.ones_like(real), real], 1)  # a filling has a single token
        return self.head.output(scores, mask, e.choices, **labels)


def loss_of(task: Task, head: ProbeHead, examples: Examples, scores: Tensor, smoothing: float) -> Tensor:
    """Return the task's mean loss of scores, (units, outputs)."""
    return task.loss(ScoredModel(head, examples, scores), examples.labels, label_smoothing=smoothing)


def minimise_loss(
    task: Task,
    head: ProbeHead,
    e: Examples,
    start: np.ndarray,
    penalty: float,
    smoothing: float,
    tolerance: float = FINE,
) -> Any:
    """Minimise the task's loss plus `penalty` / 2 times the squared weights over a linear map of `e.x`, by L-BFGS.

    Weights are (outputs, features + 1), flat; the last column is the bias, which isn't penalised. It stops when
    the relative decrease of the loss in a step is below `tolerance`.
    """
    outs = head.score.out_features

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(flat).float().view(outs, -1).requires_grad_()
        loss = loss_of(task, head, e, e.scores(w), smoothing) + penalty / 2 * (w[:, :-1] ** 2).sum()
        torch.autograd.backward(loss)
        assert w.grad is not None
        return float(loss.detach()), w.grad.double().numpy().ravel()

    return minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS, "ftol": tolerance})


def fit(
    task: Task,
    head: ProbeHead,
    train: Examples,
    validation: Examples,
    judge: Callable[[ProbeHead, Examples, Tensor], float],
    *,
    smoothing: float = 0.0,
    tolerance: float = FINE,
    penalties: Sequence[float] | None = None,
    start: Weights | None = None,
) -> Solved:
    """Fit a probe with each of `penalties` and return the one that `judge` scores best on the validation rows.

    By default, those of `PENALTIES` around the one that few texts have are tried, and further ones in the direction in
    which the metric improves. `start` has the first weights, by default zeros.
    """
    mean, scale = train.x.mean(0), train.x.std(0, unbiased=False).clamp(min=1e-6)
    inner, outer = train.standardised(mean, scale), validation.standardised(mean, scale)
    outs = head.score.out_features
    flat = np.zeros(outs * (train.x.shape[-1] + 1))
    if start is not None:
        scaled = torch.cat([start.weight * scale, (start.bias + start.weight @ mean)[:, None]], 1)
        flat = scaled.double().numpy().ravel()
    best: Solved | None = None

    def better_with(penalty: float) -> bool:
        """Fit with a penalty, from the last weights; of two that are equally good, the higher penalty is better."""
        nonlocal flat, best
        result = minimise_loss(task, head, inner, flat, penalty, smoothing, tolerance)
        flat = result.x
        w = torch.from_numpy(flat).float().view(outs, -1)
        value = judge(head, outer, outer.scores(w))
        if best is not None:
            gain = best.value - value if task.lower_is_better else value - best.value
            if gain < 0 or (gain == 0 and penalty < best.penalty):
                return False
        best = Solved(*inner.unscaled(w), float(result.fun), penalty, value)
        return True

    grid = PENALTIES if penalties is None else penalties
    usual = few_texts.penalty(len(train.x), train.x.shape[1], outs)
    first, last = _around(usual) if penalties is None else (0, len(grid))
    # with more BLAS threads, those of scipy and torch contend: ten times slower
    with torch.enable_grad(), threadpool_limits(1, user_api="blas"):
        tried = [better_with(penalty) for penalty in grid[first:last]]
        if penalties is None and tried[-1]:
            for penalty in grid[last:]:
                if not better_with(penalty):
                    break
        elif penalties is None and not any(tried[1:]):
            for penalty in reversed(grid[:first]):
                if not better_with(penalty):
                    break
    assert best is not None
    return best


def _around(penalty: float) -> tuple[int, int]:
    """Return the range of `PENALTIES` to try first: the nearest one, two higher ones and a lower one."""
    nearest = min(range(len(PENALTIES)), key=lambda k: abs(np.log(PENALTIES[k] / penalty)))
    return max(0, nearest - 2), min(len(PENALTIES), nearest + 2)


class Judge:
    """Measures scores of the validation rows by the task's best metric, and stores the predictions of each call."""

    def __init__(self, task: Task, features: Dataset, data: Dataset) -> None:
        self.task, self.features, self.data = task, features, data
        self.candidates: list[list[Any]] = []

    def __call__(self, head: ProbeHead, examples: Examples, scores: Tensor) -> float:
        """Return the task's best metric of the scores of all validation rows."""
        outputs = self.task.outputs(ScoredModel(head, examples, scores), {})
        self.candidates.append(self.task.predictions(outputs, self.features, self.data))
        return self.task.metrics(self.candidates[-1], self.data).values[self.task.best]

    def optimism(self) -> str:
        """Return a remark on a choice by validation rows, whose metrics are too high for others: the nested estimate.

        The best candidate on one half of the rows is measured on the other half, and the reverse.
        """
        task, count = self.task, len(self.candidates)
        text = f"layers, pooling and penalty are the best of {count} on the validation rows"
        halves = np.array_split(np.random.default_rng(0).permutation(len(self.data)), 2)
        if any(len(half) < _LEAST_HALF for half in halves):
            return f"{text}, and their metrics are too high for new rows"
        nested: dict[int, Any] = {}
        pick = min if task.lower_is_better else max
        for half, other in (halves, halves[::-1]):
            rows = self.data.select(half)
            values = [task.metrics([c[i] for i in half], rows).values[task.best] for c in self.candidates]
            best = self.candidates[values.index(pick(values))]
            nested |= {int(i): best[i] for i in other}
        measured = task.metrics([nested[i] for i in range(len(self.data))], self.data)
        low, high = measured.intervals[task.best]
        return (
            f"{text}, and their metrics are too high for new rows: chosen on one half and measured on the other, "
            f"{task.best} is {measured.values[task.best]:.3f} [{low:.3f}, {high:.3f}]"
        )
