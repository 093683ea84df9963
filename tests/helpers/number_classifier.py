"""A classifier of rows of numbers, written as texts, since scikit-learn's checks have no texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from adapterkit.sklearn import AdapterClassifier


class NumberClassifier(AdapterClassifier):
    """Round the numbers of a row and classify them as a text: `3 -10 0`."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags

    def _texts(self, X: Any, *, reset: bool) -> list[list[str]]:
        numbers = validate_data(self, X, reset=reset)
        return [[" ".join(map(str, np.rint(10 * row).astype(int))) for row in numbers]]
