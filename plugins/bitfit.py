"""BitFit: only the biases of the base are trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from adapterkit.errors import StrategyError
from adapterkit.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class BitFit(Strategy):
    """Train the base's biases (Ben Zaken et al. 2022, arXiv:2106.10199).

    For very small adapters where data are few; a base without biases, such as Llama, has its norms' weights trained.
    """

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"] = 5e-3

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        from adapterkit.modules import norms

        biases = [p for name, p in base.named_parameters() if name.rpartition(".")[2] == "bias"]
        parameters = biases or norms(base)
        if not parameters:
            raise StrategyError("bitfit needs biases or norms, and this base has none; use head-only or full")
        return parameters
