"""The stages of a run, a value each: prepared, a model with trained parameters, training under way, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..base.base import Base
from ..features.shared_states import SharedStates
from ..metrics import Metrics
from ..metrics.bootstrap import mean_of
from ..settings import TrainingOptions
from ..strategy import Strategy
from ..watch import Watch
from .fit import Fitted
from .trunk import Trunk

if TYPE_CHECKING:
    from datasets import Dataset

    from ..tasks import Task

SPLITS = ("train", "validation")
_NOTES = {
    "cross-validation": (
        "no validation rows: the metrics are cross-validated on the training rows, of which the adapter has all",
    ),
    "train": ("no validation rows: the metrics are those of the training rows, and too high for new ones",),
}


@dataclass(frozen=True)
class Prepared:
    """What a run starts from: a base to which the strategy is applied, the task, its rows, and the options."""

    base: Base
    task: Task
    strategy: Strategy
    fit: Fitted
    data: Mapping[str, Dataset]
    options: TrainingOptions
    watch: Watch
    shared: SharedStates | None = None  # hidden states of trainings before on the same base and rows

    @property
    def held_out(self) -> bool:
        """Whether there are validation rows; if not, `with_validation` has the training rows in their place."""
        return self.data["validation"] is not self.data["train"]


def with_validation(data: Mapping[str, Dataset]) -> Mapping[str, Dataset]:
    """Return the rows of a run by split, with those of training as validation rows where there are none."""
    return data if "validation" in data else {**data, "validation": data["train"]}


@dataclass(frozen=True)
class TaskModel:
    """A task's model, and the parameters of it that a run trains."""

    model: Any
    head: Mapping[str, nn.Parameter]  # trained parameters of the head by name
    parameters: list[nn.Parameter]  # all trained parameters: the strategy's, then the head's
    manifest: Mapping[str, Any]  # what an adapter's manifest records about the head
    names: list[str]  # of `parameters`, in their order

    @classmethod
    def of(
        cls, model: Any, head: Mapping[str, nn.Parameter], parameters: list[nn.Parameter], manifest: Mapping[str, Any]
    ) -> TaskModel:
        """Return a value with the names of `parameters` in `model`."""
        names = {id(p): name for name, p in model.named_parameters()}
        return cls(model, head, parameters, manifest, [names[id(p)] for p in parameters])

    def sizes(self) -> tuple[int, int]:
        """Return how many numbers are trained, and how many the model has."""
        return sum(p.numel() for p in self.parameters), sum(p.numel() for p in self.model.parameters())


@dataclass
class Progress:
    """What training has measured so far, and the values of the best epoch, of which the start is the first."""

    losses: list[float] = field(default_factory=list)  # step by step
    start: dict[str, float] | None = None  # validation metrics before training; None: of a random head, whose are luck
    history: list[dict[str, float]] = field(default_factory=list)  # epoch by epoch
    best_epoch: int = 0  # counted from 1; 0: the start
    best_values: list[Tensor] | None = None  # of the trained parameters; None: as they are now
    best_predictions: list[Any] | None = None  # for the validation rows


@dataclass
class Training:
    """A model that is being trained."""

    run: Prepared
    target: TaskModel
    strategy: Strategy  # at the learning rate in use
    parameters: list[nn.Parameter]  # the target's, or what FSDP2 puts in their place while it shards them
    progress: Progress = field(default_factory=Progress)
    trunk: Trunk | None = None  # whose outputs are cached
    refrozen: bool = False  # whether the strategy has changed which parameters train
    sharded: bool = False  # whether parameters are split over several devices

    @classmethod
    def start(cls, run: Prepared, target: TaskModel) -> Training:
        """Return a training of which no step has been made."""
        return cls(run, target, run.strategy, target.parameters)


@dataclass(frozen=True)
class Outcome:
    """What a run has trained: a model with the values of its best epoch, and what was measured on the way."""

    target: TaskModel
    predictions: list[Any]  # for the validation rows
    progress: Progress
    learning_rate: float  # the strategy's, or the one that a search found
    split: str = "validation"  # of the predictions; "cross-validation" and "train": the training rows
    repeats: Sequence[list[Any]] = ()  # predictions of further repetitions of cross-validation
    notes: tuple[str, ...] = ()  # on the predictions
    measured: tuple[Task, Metrics] | None = None  # the metrics of the predictions by a task

    def metrics(self, task: Task, data: Dataset) -> Metrics:
        """Return the metrics of the predictions, averaged over repetitions, with what is to be known about them."""
        if self.measured is not None and self.measured[0] is task:
            return self.measured[1]
        measured = mean_of([task.metrics(predictions, data) for predictions in (self.predictions, *self.repeats)])
        return replace(measured, notes=(*measured.notes, *self.notes, *_NOTES.get(self.split, ())))
