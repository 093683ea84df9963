"""What a linear probe of few texts reads, and its penalty: fixed, since few rows can't choose.

On 16 to 1,200 texts of five data sets, a form and penalty that a tenth of the rows or leave-one-out chose were less
accurate than these, which were measured on training rows that no probe was fitted to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..tasks import Task
    from .model import Form

MOST_TEXTS = 1500
"""Up to so many training texts nothing is chosen; with more, forms and penalties are compared on validation rows."""
FEW_A_LABEL = 64
"""Up to so many training texts a label, a strategy that trains a base of sentence-transformers hardly beats a probe."""
_MOST_UNCUT = 1000  # a tenth of fewer is below 100 rows: an accuracy of 0.8 on them has an interval of 0.08 and more
_MOST_LAYERS = 4
_STRENGTH = 1.5  # per output: C of scikit-learn's LogisticRegression on vectors whose mean squared norm is 1


def supports(task: Task) -> bool:
    """Return whether a probe of the task reads texts that each have a vector and labels."""
    return task.probe_unit == "text" and not task.has_choices


def need_no_validation(task: Task, texts: int) -> bool:
    """Return whether a probe of so many training texts is better cross-validated than measured on a tenth of them."""
    return supports(task) and texts < min(MOST_TEXTS, _MOST_UNCUT)


def few_a_label(task: Task, texts: int) -> bool:
    """Return whether there are few training texts for each label; a task without labels counts as two."""
    return texts <= FEW_A_LABEL * max(2, int(task.config().get("num_labels", 2)))


def applies(task: Task, texts: int) -> bool:
    """Return whether form and penalty are fixed for a run of so many training texts."""
    return supports(task) and texts <= MOST_TEXTS


def form(depth: int) -> Form:
    """Return the mean hidden states of the upper two thirds of `depth` blocks side by side, of at most four blocks.

    A base without blocks, of word vectors, has those alone.
    """
    from .model import Form

    lowest = depth // 3 + 1 if depth else 0
    layers = np.linspace(lowest, depth, min(depth - lowest + 1, _MOST_LAYERS))
    return Form(tuple(sorted({round(k) for k in layers})), "mean")


def penalty(texts: int, features: int, outputs: int) -> float:
    """Return the L2 penalty for the mean loss over standardised features.

    The weights of more labels are penalised less, as each label has fewer texts. Two outputs are one difference.
    """
    return features / (texts * _STRENGTH * (outputs if outputs > 2 else 1))
