"""Softmax and the logistic function in numpy, so that answers need neither torch nor scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def softmax(logits: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return exp(logits) divided by its sum along an axis; the largest logit is subtracted first."""
    import numpy as np

    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=axis, keepdims=True)
    return shares


def expit(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-values)) without overflow."""
    import numpy as np

    powers = np.exp(-np.abs(values))
    probabilities: np.ndarray = np.where(values >= 0, 1.0, powers) / (1.0 + powers)
    return probabilities
