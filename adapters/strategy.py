"""What a strategy is: the one class that a plugin author writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from .errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .patches.patch import Patch


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """How a task adapts the shared base. The fields are its options: flags, manifest and docs are made from them.

    The head is the task's and always learns; a strategy speaks of the base alone. Applying must not change what the
    base computes: a new adapter starts as the base itself.
    """

    interface: ClassVar[int] = 1
    """The version of the interface between adapterkit and plugins for which a strategy is written."""

    learning_rate: Annotated[float, "highest learning rate (AdamW)", "--lr"]

    def __post_init__(self) -> None:
        if not 0 <= self.learning_rate < float("inf"):  # nor a NaN
            raise OptionError(f"--learning-rate={self.learning_rate} is no rate; expected a number from 0 on")

    @abstractmethod
    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        """Fit the frozen `base` for training, in place, and return the parameters to train.

        Raises `StrategyError` where the options don't fit this base.
        """

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        """Return what was learned as patches by module name; by default, every parameter that learned, replaced."""
        from .modules import owners
        from .patches.replace import Replace

        learned: dict[str, dict[str, nn.Parameter]] = {}
        for name, parameter in base.named_parameters():
            if parameter.requires_grad:
                module, own = owners(base)[name]
                learned.setdefault(module, {})[own] = parameter
        return {module: Replace(tensors) for module, tensors in learned.items()}

    def rates(self, base: nn.Module) -> Mapping[nn.Parameter, float]:
        """Return factors on the learning rate, for parameters whose own it isn't; by default there are none."""
        return {}

    def on_epoch(self, base: nn.Module, epoch: int) -> Iterable[nn.Parameter] | None:
        """Return which of the parameters that `apply` returned learn in `epoch`, counted from 1; None for all of them.

        Called before each epoch. What is frozen below them is run once and kept, as ever.
        """
        return None

    def on_step(self, base: nn.Module) -> None:  # noqa: B027, most only learn
        """Take note of the gradients, which are those of all processes; called before each step of the optimizer."""

    def state(self, base: nn.Module) -> Mapping[str, Tensor]:
        """Return the tensors that `on_step` and `on_epoch` change in place; a run that died goes on with them."""
        return {}

    def remove(self, base: nn.Module) -> None:  # noqa: B027, most put nothing in
        """Take out of `base` the modules that `apply` put in; values of the base's own are restored by the core."""


class PatchStrategy(Strategy):
    """A strategy that says which patches learn; they are put on the base for training as they are for use."""

    @abstractmethod
    def fresh(self, base: nn.Module) -> Mapping[str, Patch]:
        """Return new patches by module name, their tensors `nn.Parameter`s, that change nothing yet.

        Raises `StrategyError` where the options don't fit this base.
        """

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        """Attach the patches, each held by the module that it patches, and return their tensors."""
        from .patches.patch import Held

        return [p for name, patch in self.fresh(base).items() for p in Held.attach(base.get_submodule(name), patch)]

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        """Return the patches as they are now."""
        from .patches.patch import Held

        return {name: held.patch for name, held in Held.of(base).items()}

    def remove(self, base: nn.Module) -> None:
        """Detach the patches."""
        from .patches.patch import Held

        for name, held in Held.of(base).items():
            held.detach(base.get_submodule(name))
