"""What a strategy is: the one class that a plugin author writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from .errors import OptionError

if TYPE_CHECKING:
    from torch import nn

    from .patch import Patch


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """How a task adapts the shared base. The fields are its options: flags, manifest and docs are made from them.

    The head is the task's and always learns; a strategy speaks of the base alone. Applying must not change what the
    base computes: a new adapter starts as the base itself.
    """

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
        from .patch import Replace

        learned: dict[str, dict[str, nn.Parameter]] = {}
        for name, parameter in base.named_parameters():
            if parameter.requires_grad:
                module, own = owners(base)[name]
                learned.setdefault(module, {})[own] = parameter
        return {module: Replace(tensors) for module, tensors in learned.items()}

    def remove(self, base: nn.Module) -> None:  # noqa: B027, most put nothing in
        """Take out of `base` the modules that `apply` put in; values of the base's own are restored by the core."""
