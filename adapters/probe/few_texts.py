"""What a linear probe of few texts reads, and its penalty: fixed, since few rows can't choose.

On 16 to 1,200 texts of five data sets, a form and penalty that a tenth of the rows or leave-one-out chose were less
accurate than these, which were measured on training rows that no probe was fitted to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .model import Form

if TYPE_CHECKING:
    from ..features.feed import Feed
    from ..tasks import Task

MOST_TEXTS = 1500
"""Up to so many training texts nothing is chosen; with more, forms and penalties are compared on validation rows."""
_MOST_LAYERS = 4
_STRENGTH = 1.5  # per output: C of scikit-learn's LogisticRegression on vectors whose mean squared norm is 1


def applies(task: Task, feed: Feed, depth: int, texts: int | None = None) -> bool:
    """Return whether a probe on a base with `depth` blocks is fitted so: to few texts, each a vector with labels.

    `texts` is the number of the run, where `feed` has a part of them.
    """
    choices = any(count > 1 for count, _ in feed.shapes)
    return task.probe_unit == "text" and not choices and depth > 0 and (texts or len(feed)) <= MOST_TEXTS


def form(depth: int) -> Form:
    """Return the mean hidden states of the upper two thirds of `depth` blocks side by side, of at most four blocks."""
    lowest = depth // 3 + 1
    layers = np.linspace(lowest, depth, min(depth - lowest + 1, _MOST_LAYERS))
    return Form(tuple(sorted({round(k) for k in layers})), "mean")


def penalty(texts: int, features: int, outputs: int) -> float:
    """Return the L2 penalty for the mean loss over standardised features.

    The weights of more labels are penalised less, as each label has fewer texts. Two outputs are one difference.
    """
    return features / (texts * _STRENGTH * (outputs if outputs > 2 else 1))
