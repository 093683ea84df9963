"""The loss of labels with class weights and label smoothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def weighted_loss(
    model: Any, batch: Mapping[str, Tensor], weight: Sequence[float] | None, label_smoothing: float
) -> Tensor:
    """Return the cross-entropy of (..., labels) logits against (...) labels, with class weights and label smoothing."""
    import torch

    inputs = {key: value for key, value in batch.items() if key != "labels"}
    labels = batch["labels"]
    logits = model(**inputs).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2),
        labels.flatten().to(logits.device),
        weight=None if weight is None else torch.tensor(weight, dtype=logits.dtype, device=logits.device),
        label_smoothing=label_smoothing,
    )


def sum_of_weights(labels: Tensor, weights: Sequence[str]) -> float:
    """Return the sum of the weights of labels, which is their number where there are none."""
    if not weights:
        return float(labels.numel())
    import torch

    return float(torch.tensor([float(w) for w in weights], device=labels.device)[labels].sum())
