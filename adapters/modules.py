"""Find a transformer's blocks, and name its parameters, without a table of architectures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .errors import StrategyError

if TYPE_CHECKING:
    from torch import nn


def blocks(base: nn.Module) -> dict[str, nn.Module]:
    """Return the transformer layers of `base` by module name, bottom first; empty for a base that has none.

    A block is an element of an outermost `ModuleList` whose elements are all of one class. An encoder-decoder's blocks
    are the encoder's, then the decoder's.
    """
    from torch import nn

    found: dict[str, nn.Module] = {}

    def search(module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            where = f"{path}.{name}" if path else name
            if isinstance(child, nn.ModuleList) and len({type(block) for block in child}) == 1:
                found.update((f"{where}.{i}", block) for i, block in enumerate(child))
            else:
                search(child, where)

    search(base, "")
    return {name: block for name, block in found.items() if any(True for _ in block.parameters())}


def chosen_blocks(text: str, count: int) -> tuple[int, ...]:
    """Read a choice of blocks such as `0,4-5`, counted from 0 at the bottom.

    >>> chosen_blocks("0,4-5", 6)
    (0, 4, 5)
    """
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if not match:
            raise StrategyError(f"layers='{text}' is not a list of blocks such as 4-5 or 0,4-5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= count:
            raise StrategyError(f"layers='{text}', but the base has blocks 0 to {count - 1}")
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))


def owners(module: nn.Module) -> dict[str, tuple[str, str]]:
    """Return, for each parameter's full name, its module's name and its own: `a.b.weight` -> (`a.b`, `weight`)."""
    names = (name for name, _ in module.named_parameters(remove_duplicate=False))
    return {name: (name.rpartition(".")[0], name.rpartition(".")[2]) for name in names}
