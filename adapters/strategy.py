"""The base class of strategies, which plugin authors subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from .errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .patches.patch import Patch


@dataclass(frozen=True)
class PairTraining:
    """How a strategy trains the base on pairs of texts before the head is solved (SetFit, arXiv:2209.11055)."""

    passes: int  # over the training texts
    batch_texts: int  # texts of which all pairs are compared in a step


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """A way to adapt the shared base to a task. Its fields are its options: flags, manifest and docs derive from them.

    A strategy concerns the base only: the head belongs to the task and is always trained. Applying a strategy must not
    change the base's outputs, so that a new adapter starts as the base itself.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Norms(ak.Strategy):
    ...     learning_rate: Annotated[float, "highest learning rate", "--lr"] = 1e-2
    ...
    ...     def apply(self, base):
    ...         return [p for name, p in base.named_parameters() if "LayerNorm" in name]
    >>> len(Norms().apply(base.model))
    26
    >>> Norms(learning_rate=-1)
    Traceback (most recent call last):
    adapterkit.errors.OptionError: learning_rate must be a finite number >= 0, got -1
    """

    interface: ClassVar[int] = 1
    """The version of the interface between adapterkit and plugins for which a strategy is written."""

    needs_validation: ClassVar[bool] = True
    """Whether validation rows choose what is saved. If not, none are cut off a training split of few texts."""

    trains_weights: ClassVar[bool] = False
    """Whether weight matrices train, or low-rank updates of them in PEFT's LoRA layers.

    Of few texts, a head then starts from the mean of tokens, by an update of these.
    """

    learning_rate: Annotated[float, "peak learning rate (AdamW)", "--lr"]

    def __post_init__(self) -> None:
        if not 0 <= self.learning_rate < float("inf"):  # nor a NaN
            raise OptionError(f"learning_rate must be a finite number >= 0, got {self.learning_rate}")

    @abstractmethod
    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        """Prepare the frozen `base` for training, in place, and return the parameters to train.

        Raises `StrategyError` where the options don't fit this base.
        """

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        """Return the trained values as patches by module name; by default, every trained parameter, replaced."""
        from .patches.replace import Replace

        learned: dict[str, dict[str, nn.Parameter]] = {}
        for name, parameter in base.named_parameters():
            if parameter.requires_grad:
                module, _, parameter_name = name.rpartition(".")
                learned.setdefault(module, {})[parameter_name] = parameter
        return {module: Replace(tensors) for module, tensors in learned.items()}

    def rates(self, base: nn.Module) -> Mapping[nn.Parameter, float]:
        """Return factors on the learning rate by parameter, 1 for those left out; by default empty."""
        return {}

    def pair_training(self) -> PairTraining | None:
        """Return how to train on pairs of texts instead of the task's loss; by default None.

        It applies where each text has one label and the head isn't transformers'; elsewhere the task's loss is trained.
        """
        return None

    def on_epoch(self, base: nn.Module, epoch: int) -> Iterable[nn.Parameter] | None:
        """Return which of the parameters of `apply` to train in `epoch`, counted from 1; None for all of them.

        Called before each epoch. Hidden states of frozen layers below them are cached anew.
        """
        return None

    def on_step(self, base: nn.Module) -> None:  # noqa: B027, optional
        """Inspect the gradients, averaged over processes; called before each step of the optimizer."""

    def state(self, base: nn.Module) -> Mapping[str, Tensor]:
        """Return the tensors that `on_step` and `on_epoch` change in place; they are part of a checkpoint."""
        return {}

    def remove(self, base: nn.Module) -> None:  # noqa: B027, optional
        """Remove from `base` the modules that `apply` added; the core restores its original values."""


class PatchStrategy(Strategy):
    """A strategy that trains patches, attached to the base for training in the same way as for inference."""

    @abstractmethod
    def fresh(self, base: nn.Module) -> Mapping[str, Patch]:
        """Return new patches by module name that don't change outputs yet; their tensors are `nn.Parameter`s.

        Raises `StrategyError` where the options don't fit this base.
        """

    def apply(self, base: nn.Module) -> Iterable[nn.Parameter]:
        """Attach the patches to their modules and return their tensors."""
        from .patches.patch import Held

        return [p for name, patch in self.fresh(base).items() for p in Held.attach(base.get_submodule(name), patch)]

    def patches(self, base: nn.Module) -> Mapping[str, Patch]:
        """Return the patches with their current values."""
        from .patches.patch import Held

        return {name: held.patch for name, held in Held.of(base).items()}

    def remove(self, base: nn.Module) -> None:
        """Detach the patches."""
        from .patches.patch import Held

        for name, held in Held.of(base).items():
            held.detach(base.get_submodule(name))
