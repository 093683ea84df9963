"""What of a base a strategy trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .outlook import Part, parts_of

if TYPE_CHECKING:
    from ..base.base import Base
    from ..strategy import Strategy


@dataclass(frozen=True)
class Reach:
    """What of a base a strategy trains."""

    parts: list[Part]
    parameters: int
    of: int  # parameters of the base
    patches: int
    bytes: int  # of the patches' tensors, all of which an adapter may hold
    blocks: list[int]  # in which something learns, from 0 at the bottom
    of_blocks: int


def reach(base: Base, strategy: Strategy) -> Reach:
    """Apply a strategy to a base, inspect what learns, and remove it again.

    Raises `StrategyError` where it doesn't fit.
    """
    from ..modules import blocks
    from ..training.fit import fitted, learned

    total = sum(p.numel() for p in base.model.parameters())
    names = list(blocks(base.model))
    with base.locked(), fitted(base, strategy) as fit:
        ids = {id(p) for p in fit.trainable}
        learning = {name: p for name, p in base.model.named_parameters() if id(p) in ids}
        patches = learned(base, strategy)
        tensors = [t for patch in patches.values() for t in patch.tensors().values()]
        return Reach(
            parts=parts_of(learning),
            parameters=sum(p.numel() for p in learning.values()),
            of=total,
            patches=len(patches),
            bytes=sum(t.numel() * t.element_size() for t in tensors),
            blocks=[i for i, block in enumerate(names) if any(n.startswith(f"{block}.") for n in learning)],
            of_blocks=len(names),
        )
