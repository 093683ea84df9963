"""A strategy in a package of its own: the norms learn, and the biases of the values."""

from dataclasses import dataclass
from typing import Annotated

from adapterkit import Strategy
from adapterkit.errors import StrategyError


@dataclass(frozen=True, kw_only=True)
class Norms(Strategy):
    """Train norms (LN-tuning, Qi et al. 2022, arXiv:2211.08682), and of attention the values' biases."""

    learning_rate: Annotated[float, "highest learning rate (AdamW)", "--lr"] = 1e-2
    values: Annotated[bool, "train the biases of the values, too, where there are some"] = True

    def apply(self, base):
        norms = [p for m in base.modules() if type(m).__name__.endswith("Norm") for p in m.parameters()]
        if not norms:
            raise StrategyError("norms needs modules whose class is called ...Norm, and this base has none")
        values = ("value.bias", "v_proj.bias", "v_lin.bias") if self.values else ()
        return [*norms, *(p for name, p in base.named_parameters() if name.endswith(values))]
