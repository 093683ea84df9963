"""Layer-wise freezing: chosen parts of the base learn, all the while or for some of it; the rest stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from adapterkit.errors import StrategyError
from adapterkit.modules import blocks, chosen_blocks, lowest, norms
from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

_NORMS = "settling"  # (2, groups): the gradients' norms, summed up over this epoch and over the one before


@dataclass(frozen=True, kw_only=True)
class Layerwise(Strategy):
    """Train some of the base's blocks, the top two unless told otherwise (Lee et al. 2019, arXiv:1911.03090).

    For a base that fits its task's language already: what is frozen below is run once, not in every epoch.
    """

    learning_rate: Annotated[float, "highest learning rate (AdamW)", "--lr"] = 3e-4
    top: Annotated[int | None, "train this many of the highest blocks (2, where nothing else is chosen)"] = None
    bottom: Annotated[int | None, "train this many of the lowest blocks"] = None
    layers: Annotated[str | None, "train these blocks, counted from 0 at the bottom: 4-5 or 0,4-5"] = None
    embeddings: Annotated[bool, "train what lies below the blocks, too"] = False
    norms: Annotated[bool, "train all layer norms, too"] = False
    unfreezing: Annotated[
        Literal["none", "gradual"],
        "gradual: the highest block in the first epoch, one more in each (Howard and Ruder 2018, arXiv:1801.06146)",
    ] = "none"
    freezing: Annotated[
        Literal["none", "auto"],
        "auto: freeze from the bottom up what has settled, as its gradients tell (Liu et al. 2021, arXiv:2102.01386)",
    ] = "none"

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        if self.unfreezing != "none" and self.freezing != "none":
            raise StrategyError(f"give unfreezing={self.unfreezing} or freezing={self.freezing}, not both")
        groups = self.groups(base)
        if self.freezing == "auto":
            settling = next(base.parameters()).new_zeros(2, len(groups))
            base.register_buffer(_NORMS, settling.double(), persistent=False)
        return [p for group in groups for p in group]

    def groups(self, base: nn.Module) -> list[list[nn.Parameter]]:
        """Return what learns, lowest first: what lies below the blocks, each block, and norms above them."""
        found = list(blocks(base).values())
        chosen = self.chosen(len(found))
        wanted = norms(base) if self.norms else []
        groups = [list(found[i].parameters()) if i in chosen else [] for i in range(len(found))]
        below = lowest(base)
        ids = {id(p) for p in wanted}
        for group, block in zip(groups, found, strict=True):
            group += [p for p in block.parameters() if id(p) in ids and not any(p is known for known in group)]
        first = below if self.embeddings else [p for p in below if id(p) in ids]
        inside = {id(p) for p in (*below, *(p for block in found for p in block.parameters()))}
        return [group for group in (first, *groups, [p for p in wanted if id(p) not in inside]) if group]

    def chosen(self, count: int) -> tuple[int, ...]:
        """Return the indices of the blocks to train, of `count`."""
        for name in ("top", "bottom"):
            number = getattr(self, name)
            if number is not None and self.layers is not None:
                raise StrategyError(f"give {name}={number} or layers='{self.layers}', not both")
            if number is not None and not 1 <= number <= count:
                raise StrategyError(f"{name}={number}, but the base has {count} blocks")
        if not count:
            raise StrategyError("layerwise needs blocks, and this base has none; use head-only or full")
        if self.layers is not None:
            return chosen_blocks(self.layers, count)
        nothing = self.top is None and self.bottom is None and not self.embeddings and not self.norms
        top = min(2, count) if nothing else self.top or 0
        return tuple(sorted({*range(count - top, count), *range(self.bottom or 0)}))

    def on_epoch(self, base: nn.Module, epoch: int) -> Iterable[nn.Parameter] | None:
        groups = self.groups(base)
        if self.unfreezing == "gradual":
            return [p for group in groups[-epoch:] for p in group]
        if self.freezing == "auto":
            return [p for group in groups[self._settled(base.get_buffer(_NORMS)) :] for p in group]
        return None

    def on_step(self, base: nn.Module) -> None:
        if self.freezing != "auto":
            return
        for i, group in enumerate(self.groups(base)):
            for p in group:
                if p.grad is not None:
                    base.get_buffer(_NORMS)[0, i] += p.grad.double().norm()

    def _settled(self, seen: Tensor) -> int:
        """Return how many of the lowest groups have settled, the highest never, and begin a new epoch's sums.

        Of those that still learn, those below the median of the rates at which the gradients' norms change.
        """
        now, before = seen.clone()
        frozen = int((now == 0).cumprod(0).sum()) if bool((now > 0).any()) else 0
        if bool((before > 0).any()):
            change = ((before - now).abs() / before.clamp(min=1e-30))[frozen:-1]
            middle = change.median() if len(change) else 0
            frozen += int((change <= middle).long().cumprod(0).sum()) if len(change) > 1 else 0
        seen[1], seen[0] = now, 0
        return frozen

    def state(self, base: nn.Module) -> Mapping[str, Tensor]:
        return {_NORMS: base.get_buffer(_NORMS)} if self.freezing == "auto" else {}

    def remove(self, base: nn.Module) -> None:
        if self.freezing == "auto":
            delattr(base, _NORMS)
