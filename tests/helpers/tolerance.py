"""How far two computations of the same numbers may differ: from the dtype and the lengths of the sums.

Other batch shapes, kernels, processors or thread counts add the same terms in another order. A sum of n terms then
differs by about sqrt(n) roundings of the largest partial sum; the roundings of products in a row are independent too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adapterkit import Base

PRODUCTS = 6  # matrix products in a row in one block: query and key, scores, values, output, and two of the MLP
DEVIATIONS = 4  # of the expected rounding


def relative(terms: int, products: int = 1, dtype: torch.dtype = torch.float32) -> float:
    """Return the largest difference relative to the largest value, for `products` sums of `terms` terms in a row."""
    return float(DEVIATIONS * torch.finfo(dtype).eps * math.sqrt(terms * products))


# outputs and scores of tiny bases: MLPs of 48, three blocks; an encoder and a decoder are six
TINY = relative(48, 3 * PRODUCTS)
TINY_PAIR = relative(48, 6 * PRODUCTS)


def of_base(base: Base | Any) -> float:
    """Return the largest difference of the outputs of a base or transformers model, relative to the largest output."""
    model = base.model if isinstance(base, Base) else base
    config = model.config
    blocks = config.num_hidden_layers
    if config.is_encoder_decoder:
        blocks += getattr(config, "decoder_layers", None) or config.num_decoder_layers
    terms = max(p.shape[-1] for p in model.parameters() if p.ndim == 2)
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    return relative(terms, PRODUCTS * blocks, dtype)


def assert_near(found: Any, wanted: Any, within: float, message: str = "") -> None:
    """Check arrays, tensors or lists of them against each other, `within` relative to the largest of `wanted`."""
    if isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), message
        for a, b in zip(found, wanted, strict=True):
            assert_near(a, b, within, message)
        return
    a, b = (_array(value) for value in (found, wanted))
    np.testing.assert_allclose(a, b, rtol=0, atol=within * np.abs(b).max(initial=0), err_msg=message)


def is_near(found: Any, wanted: Any, within: float) -> bool:
    """Tell what `assert_near` checks."""
    try:
        assert_near(found, wanted, within)
    except AssertionError:
        return False
    return True


def _array(value: Any) -> Any:
    return value.detach().double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=np.float64)


def near(value: Any, within: float) -> Any:
    """Return what equals `value` where its numbers are near: nested dicts and lists of numbers and texts."""
    if isinstance(value, dict):
        return {key: near(inner, within) for key, inner in value.items()}
    if isinstance(value, list):
        return [near(inner, within) for inner in value]
    return pytest.approx(value, rel=within, abs=within) if isinstance(value, float) else value
