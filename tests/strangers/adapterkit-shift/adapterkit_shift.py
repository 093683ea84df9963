"""A strategy of a stranger's with a kind of patch of its own: what comes out of each block is shifted."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from adapterkit import Patch, Strategy
from adapterkit.errors import AdapterError
from adapterkit.modules import blocks


@dataclass(frozen=True, eq=False, slots=True)
class Shifted(Patch):
    """Add a number a feature to what comes out of a block."""

    kind: ClassVar[str] = "shift"
    by: torch.Tensor  # (features,)

    def tensors(self):
        return {"shift": self.by}

    @classmethod
    def load(cls, tensors, options, module):
        if set(tensors) != {"shift"} or tensors["shift"].ndim != 1:
            raise AdapterError(f"a shift patch is one vector, not {sorted(tensors)}")
        return cls(tensors["shift"])

    def forward(self, module, *args, **kwargs):
        return shifted(type(module).forward(module, *args, **kwargs), self.by)


def shifted(out, by):
    """Add `by` to hidden states, which some blocks return as the first of several things."""
    return (out[0] + by, *out[1:]) if isinstance(out, tuple) else out + by


@dataclass(frozen=True, kw_only=True)
class Shift(Strategy):
    """Train a shift of what each block says."""

    learning_rate: float = 1e-2

    def apply(self, base):
        for block in blocks(base).values():
            like = next(block.parameters())
            block.shift = nn.Parameter(like.new_zeros(base.config.hidden_size))
            block.shifting = block.register_forward_hook(lambda block, args, out: shifted(out, block.shift))
        return [block.shift for block in blocks(base).values()]

    def patches(self, base):
        return {name: Shifted(block.shift) for name, block in blocks(base).items()}

    def remove(self, base):
        for block in blocks(base).values():
            block.shifting.remove()
            del block.shift, block.shifting
