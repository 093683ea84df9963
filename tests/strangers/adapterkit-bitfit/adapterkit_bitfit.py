"""BitFit as a stranger would write it: only the biases of the base learn (Ben Zaken et al. 2021, arXiv:2106.10199)."""

from dataclasses import dataclass
from typing import Annotated

from adapterkit import Strategy


@dataclass(frozen=True, kw_only=True)
class BitFit(Strategy):
    """Train the biases of the base."""

    learning_rate: float = 1e-2
    without: Annotated[str, "leave out biases of modules whose name contains this"] = ""

    def apply(self, base):
        names = [n for n, _ in base.named_parameters() if n.endswith("bias")]
        return [base.get_parameter(n) for n in names if not (self.without and self.without in n)]
