"""One training under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..base.base import Base
from ..errors import TrainingError
from ..settings import TrainingOptions
from ..strategy import Strategy
from ..watch import Watch
from .checkpoints import Checkpoint, Checkpoints
from .fit import Fitted
from .trunk import Trunk

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task

SPLITS = ("train", "validation")


@dataclass
class Run:
    """One training under way: what learns, on what, and what has been best so far."""

    base: Base
    task: Task
    strategy: Strategy
    fit: Fitted
    data: Mapping[str, Dataset]
    options: TrainingOptions
    watch: Watch
    auto_rate: bool = False
    model: Any = None
    head: dict[str, nn.Parameter] = field(default_factory=dict)
    trainable: list[nn.Parameter] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)  # what the manifest says of the head
    features: dict[str, Dataset] = field(default_factory=dict)
    trunk: Trunk | None = None
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best: list[Tensor] | None = None  # what learns, as it was after that epoch; None: as it is
    predictions: list[Any] | None = None  # of the validation rows, after that epoch
    checkpoints: Checkpoints | None = None  # where the run is kept, and maybe goes on from
    resumed: Checkpoint | None = None
    refrozen: bool = False  # whether other parameters learn now than at first
    sharded: bool = False  # whether parameters lie in pieces on several devices while it learns

    @property
    def names(self) -> list[str]:
        """The names of what learns, in its order."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return [names[id(p)] for p in self.trainable]

    def check_features(self) -> None:
        """Raise `TrainingError` where a split has nothing to learn from."""
        for split, rows in self.features.items():
            if not len(rows):
                raise TrainingError(f"the {split} rows hold no text to learn from")
