"""Which of a run's parameters learn at which rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import named
from ..modules import blocks, lowest

if TYPE_CHECKING:
    from torch import nn

    from .run_state import Run


def groups(run: Run) -> list[dict[str, Any]]:
    """Return AdamW's groups by rate and decay.

    The strategy's factors count, and so does the decay by layers: with `layer_lr_decay`, a block's rate is that of the
    block above times it, the embeddings' that of the lowest block times it (Sun et al. 2019, arXiv:1905.05583); heads
    and top blocks have the full rate. Weights decay, biases and norms (one dimension) don't, as in the BERT paper's
    recipe.
    """
    depth = depths(run.base.model)
    with named(f"{type(run.strategy).__name__}.rates"):
        factors = {id(p): float(factor) for p, factor in run.strategy.rates(run.base.model).items()}
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in run.trainable:
        rate = run.strategy.learning_rate * factors.get(id(p), 1.0) * run.options.layer_lr_decay ** depth.get(id(p), 0)
        found.setdefault((rate, run.options.weight_decay if p.ndim > 1 else 0.0), []).append(p)
    return [{"params": ps, "lr": rate, "weight_decay": decay} for (rate, decay), ps in found.items()]


def depths(base: nn.Module) -> dict[int, int]:
    """Return for each parameter of the base, by identity, how many blocks lie above it."""
    found = blocks(base)
    below = set(map(id, lowest(base)))
    depths: dict[int, int] = {}
    for name, p in base.named_parameters():
        at = next((i for i, block in enumerate(found) if name.startswith(f"{block}.")), None)
        depths[id(p)] = len(found) - 1 - at if at is not None else (len(found) if id(p) in below else 0)
    return depths
