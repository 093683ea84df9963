"""Strategies that each break one rule of the contract, and keep the others as far as that is possible."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from adapterkit import Bias, Patch, Strategy


@dataclass(frozen=True, kw_only=True)
class Biases(Strategy):
    """Keep every rule: the biases learn."""

    learning_rate: float = 1e-2

    def apply(self, base: Any) -> Iterable[nn.Parameter]:
        return [p for name, p in base.named_parameters() if name.endswith("bias")]


@dataclass(frozen=True, kw_only=True)
class Louder(Biases):
    """Begin elsewhere than at the base, by a hook."""

    def apply(self, base: Any) -> Iterable[nn.Parameter]:
        base.hook = base.embeddings.register_forward_hook(lambda module, args, out: out + 0.01)
        return super().apply(base)

    def remove(self, base: Any) -> None:
        base.hook.remove()
        del base.hook


@dataclass(frozen=True, kw_only=True)
class Wandering(Biases):
    """Move what wasn't returned: a position that no text reaches."""

    def apply(self, base: Any) -> Iterable[nn.Parameter]:
        def nudge(module: nn.Module, args: Any) -> None:
            if module.training:
                base.embeddings.position_embeddings.weight.data[79] += 1e-3

        base.hook = base.embeddings.register_forward_pre_hook(nudge)
        return super().apply(base)

    def remove(self, base: Any) -> None:
        base.hook.remove()
        del base.hook


@dataclass(frozen=True, kw_only=True)
class Forgetful(Biases):
    """Leave a patch out."""

    def patches(self, base: Any) -> Mapping[str, Patch]:
        return dict(list(super().patches(base).items())[1:])


@dataclass(frozen=True, eq=False, slots=True)
class Half(Bias):
    """Write half of the digits."""

    kind: ClassVar[str] = "half"

    def tensors(self) -> Mapping[str, Tensor]:
        return {"bias": self.add.half()}


@dataclass(frozen=True, eq=False, slots=True)
class Greedy(Bias):
    """Give every row of a batch what the first one has."""

    kind: ClassVar[str] = "greedy"

    @classmethod
    def stack(cls, patches: Sequence[Self]) -> Self:
        return cls(torch.stack([patches[0].add for _ in patches]))


@dataclass(frozen=True, kw_only=True)
class Rounding(Biases):
    """Ship a patch that loses digits on its way to the disk."""

    kind_of_patch: ClassVar[type[Bias]] = Half

    def apply(self, base: Any) -> Iterable[nn.Parameter]:
        dense = base.encoder.layer[2].output.dense
        base.was = dense.bias.detach().clone()
        return [dense.bias]

    def patches(self, base: Any) -> Mapping[str, Patch]:
        added = (base.encoder.layer[2].output.dense.bias - base.was).detach()
        return {"encoder.layer.2.output.dense": self.kind_of_patch(added)}

    def remove(self, base: Any) -> None:
        del base.was


@dataclass(frozen=True, kw_only=True)
class Taking(Rounding):
    """Ship a patch that forgets which row is whose."""

    kind_of_patch: ClassVar[type[Bias]] = Greedy


@dataclass(frozen=True, kw_only=True)
class Clinging(Biases):
    """Leave a module behind."""

    def apply(self, base: Any) -> Iterable[nn.Parameter]:
        base.encoder.extra = nn.Identity()
        return super().apply(base)


@dataclass(frozen=True, kw_only=True)
class Numbers(Biases):
    """Have an option that is read as something else: texts."""

    layers: tuple[int, ...] = (0, 1)


@dataclass(frozen=True, kw_only=True)
class Locked(Biases):
    """Hold what can't be copied."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "lock", threading.Lock())


@dataclass(frozen=True, kw_only=True)
class Counting(Biases):
    """Count steps where no checkpoint sees it: each gradient is another multiple of what it was."""

    def apply(self, base: Any) -> Iterable[nn.Parameter]:
        found = list(super().apply(base))
        hooks: list[Any] = []

        def begin(module: nn.Module, *args: Any) -> None:
            if module.training and not hooks:
                hooks.extend(p.register_hook(self.changed()) for p in found)

        base.hooks, base.hook = hooks, base.encoder.register_forward_pre_hook(begin)
        return found

    def changed(self) -> Callable[[Tensor], Tensor]:
        count = itertools.count()
        return lambda gradient: gradient * (next(count) % 5)

    def remove(self, base: Any) -> None:
        for hook in (*base.hooks, base.hook):
            hook.remove()
        del base.hook, base.hooks


@dataclass(frozen=True, kw_only=True)
class Apart(Counting):
    """Learn the opposite in the second process."""

    def changed(self) -> Callable[[Tensor], Tensor]:
        factor = 1 if os.environ.get("RANK", "0") == "0" else -1
        return lambda gradient: gradient * factor


BREAKING: dict[str, type[Strategy]] = {
    "applying": Louder,
    "learning": Wandering,
    "patches": Forgetful,
    "disk": Rounding,
    "removing": Clinging,
    "pool": Taking,
    "options": Numbers,
    "copies": Locked,
    "resuming": Counting,
    "processes": Apart,
}
"""A strategy for each rule that it breaks."""
