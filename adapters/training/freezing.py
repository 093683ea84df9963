"""Which groups of parameters have converged, by the norms of their gradients (Liu et al. 2021, arXiv:2102.01386)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

Groups = Sequence[Sequence["nn.Parameter"]]


def new_norms(groups: Groups) -> Tensor:
    """Return zeros for the gradients' norms, (2, groups): summed over this epoch, and over the one before."""
    return groups[0][0].new_zeros(2, len(groups)).double().detach()


def add_norms(norms: Tensor, groups: Groups) -> None:
    """Add the norms of the gradients of each group to this epoch's, in place."""
    for i, group in enumerate(groups):
        for p in group:
            if p.grad is not None:
                norms[0, i] += p.grad.double().norm()


def begin_epoch(norms: Tensor) -> int:
    """Return how many of the lowest groups have converged, never the highest, and begin a new epoch's sums in place.

    Of the groups that still train, those have converged whose norms change at no more than the median rate.
    """
    now, before = norms.clone()
    frozen = int((now == 0).cumprod(0).sum()) if bool((now > 0).any()) else 0
    if bool((before > 0).any()):
        change = ((before - now).abs() / before.clamp(min=1e-30))[frozen:-1]
        median = change.median() if len(change) else 0
        frozen += int((change <= median).long().cumprod(0).sum()) if len(change) > 1 else 0
    norms[1], norms[0] = now, 0
    return frozen
