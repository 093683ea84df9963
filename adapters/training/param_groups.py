"""Group trained parameters by learning rate and weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import named
from ..modules import blocks, lowest

if TYPE_CHECKING:
    from torch import nn

    from .stages import Training


def parameter_groups(training: Training) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups.

    A learning rate is the strategy's times its factor for the parameter, decayed by layers: with `layer_lr_decay`, a
    block's is that of the block above times the decay, the embeddings' that of the lowest block times the decay (Sun et
    al. 2019, arXiv:1905.05583); heads and the top block have the full rate. Weight decay is applied to weights and not
    to biases and norms (one dimension), as in the BERT paper.
    """
    run, strategy = training.run, training.strategy
    depth = depths(run.base.model)
    with named(f"{type(strategy).__name__}.rates"):
        factors = {id(p): float(factor) for p, factor in strategy.rates(run.base.model).items()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in training.parameters:
        rate = strategy.learning_rate * factors.get(id(p), 1.0) * run.options.layer_lr_decay ** depth.get(id(p), 0)
        groups.setdefault((rate, run.options.weight_decay if p.ndim > 1 else 0.0), []).append(p)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def depths(base: nn.Module) -> dict[int, int]:
    """Return the number of blocks above each parameter of the base, by identity."""
    names = list(blocks(base))
    below = set(map(id, lowest(base)))
    depth: dict[int, int] = {}
    for name, p in base.named_parameters():
        index = next((i for i, block in enumerate(names) if name.startswith(f"{block}.")), None)
        depth[id(p)] = len(names) - 1 - index if index is not None else (len(names) if id(p) in below else 0)
    return depth
