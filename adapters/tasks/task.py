"""What a task is: from rows to features, from a model's outputs to metrics and to answers that a person can read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from ..errors import TaskError
from ..settings import at_least
from .language_modeling import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

    from ..base.base import Base
    from ..metrics import Metrics

_ANSWERS = {"answer_column_name", "completion_column_name", "target_column_name"}

Rows = Mapping[str, Sequence[Any]]
"""A batch of rows, column by column."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What the base is asked to do. The fields are its options, and what `fit` learned of the rows."""

    name: ClassVar[str]
    auto_class: ClassVar[str]
    """The class of transformers that builds the head."""
    best: ClassVar[str]
    """The metric by which the best epoch is chosen."""
    lower_is_better: ClassVar[bool] = False
    new_head: ClassVar[bool] = True
    """Whether the head is the task's own, and so always learns; a language model's came with the base."""
    steady: ClassVar[bool] = True
    """Whether a row has the same features in every epoch; masks are drawn anew."""
    generates: ClassVar[bool] = False
    """Whether answers are texts that `generate` makes."""

    default_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The usual columns of the task's rows by option, such as {"text_column_name": ("text",)}."""
    of_labels: ClassVar[frozenset[str]] = frozenset(
        {"labels", "label_column_name", "label_weights", "class_weight", "problem_type", "threshold"}
    )
    """The fields that say what answers there are, and nothing of how a text is read."""

    max_seq_length: Annotated[int, "cut inputs after this many tokens", "--max-length"] = 128

    def __post_init__(self) -> None:
        at_least(self, 8, "max_seq_length")

    @property
    def asked(self) -> list[str]:
        """The columns that a row must have to be answered."""
        names: list[str] = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name.endswith("column_name") and f.name not in self.of_labels and f.name not in _ANSWERS and value:
                names += [value] if isinstance(value, str) else value
        return names

    @property
    def reading(self) -> tuple[Any, ...]:
        """What `rows` and `prompts` depend on: tasks with the same value read the same text in the same way."""
        return type(self), *(getattr(self, f.name) for f in fields(self) if f.name not in self.of_labels)

    # ---- columns and rows

    @classmethod
    @abstractmethod
    def fits(cls, first: Mapping[str, Any]) -> bool:
        """Tell from the columns and values of a first row whether it is a row of this task."""

    @abstractmethod
    def with_columns(self, names: Sequence[str]) -> Self:
        """Return the task with its columns chosen among `names`, by option or by guess.

        Raises `DataError` where a column isn't there or can't be guessed.
        """

    def check_named(self) -> None:
        """Raise `TaskError` where the task, as anyone's adapter may state it, names no column to read."""
        if not self.asked:
            raise TaskError(f"the task {self.name} names no column to read")

    @abstractmethod
    def describe_columns(self) -> str:
        """Say which columns are read as what: `text -> label`."""

    def summary(self) -> str:
        """Say in a few words what there is to tell apart, such as the labels."""
        return ""

    def fit(self, train: Dataset) -> Self:
        """Return the task with what it must know of the training rows, such as the labels."""
        return self

    @abstractmethod
    def check(self, data: Dataset, file: str) -> None:
        """Raise `DataError`, with file and line, for the first row that the task can't use."""

    def strata(self, data: Dataset) -> list[str] | None:
        """Return what a split should be stratified by, a value a row, or None."""
        return None

    @abstractmethod
    def rows(self, texts: Sequence[str]) -> Rows:
        """Return plain texts, as typed, as a batch of rows without labels.

        Raises `DataError` where a text doesn't hold what the task needs.
        """

    # ---- features

    def check_base(self, base: Base) -> None:  # noqa: B027, most tasks run on any base that has a head for them
        """Raise `TaskError` where a base isn't made for the task."""

    def config(self) -> dict[str, Any]:
        """Return what the head needs in the model's config."""
        return {}

    @abstractmethod
    def encode(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return the features of a batch of rows, unpadded.

        Where a row may become several features, or rows are packed, a feature names its row in the batch in `row`.
        Keys that `collate` doesn't hand to the model are kept for `predictions`.
        """

    @abstractmethod
    def collate(self, tokenizer: Any, model: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return what pads a list of features to one batch of tensors, all of which the model takes."""

    # ---- what the model says

    def loss(self, model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of a batch; the model's own unless something else is asked for."""
        if not label_smoothing:
            loss: Tensor = model(**batch).loss
            return loss
        return weighted_loss(model, batch, None, label_smoothing)

    def share(self, batch: Mapping[str, Tensor]) -> float:
        """Return how much the mean of `loss` is taken over: rows, or labels where tokens have them, by their weights.

        By it several processes' means become one.
        """
        labels = batch.get("labels")
        if labels is None or labels.is_floating_point():
            return float(len(next(iter(batch.values()))))
        labels = labels[labels != IGNORED]
        weights = getattr(self, "label_weights", ())
        if weights:
            import torch

            labels = torch.tensor([float(w) for w in weights], device=labels.device)[labels]
            return float(labels.sum())
        return float(labels.numel())

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> list[Any]:
        """Return what the model says of each feature of a batch, as numpy values: by default its logits."""
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        return list(model(**inputs).logits.float().cpu().numpy())

    def predictions(self, outputs: Sequence[Any], features: Dataset, data: Dataset | None) -> list[Any]:
        """Return one prediction for each row (for each feature, where rows are packed) from what `outputs` gave."""
        return list(outputs)

    def calibrate(self, predictions: Sequence[Any], data: Dataset) -> Self:
        """Return the task with what is chosen on the validation rows once training is over, such as a threshold."""
        return self

    @abstractmethod
    def metrics(self, predictions: Sequence[Any], data: Dataset) -> Metrics:
        """Return how good predictions are against the labels of `data`."""

    def answers(self, predictions: Sequence[Any], data: Dataset, tokenizer: Any) -> list[dict[str, Any]]:
        """Return one readable answer for each row of `data`."""
        raise NotImplementedError

    def prompts(self, rows: Rows, tokenizer: Any) -> dict[str, Any]:
        """Return the features from which to answer rows without labels."""
        return self.encode(rows, tokenizer, labelled=False)

    # ---- generation

    @property
    def generation(self) -> dict[str, Any]:
        """What `generate` asks of transformers by default, such as the number of beams."""
        return {}

    def generate(self, model: Any, batch: Mapping[str, Tensor], tokenizer: Any, **options: Any) -> list[str]:
        """Return a text for each prompt of a padded batch; `options` over those of `generation`."""
        raise NotImplementedError

    def references(self, data: Dataset) -> list[str] | None:
        """Return the text that should have been generated for each row, or None where there is no such thing."""
        return None

    def tables(self, predictions: Sequence[Any], data: Dataset) -> dict[str, Any]:
        """Return further tables of an evaluation, such as a confusion matrix."""
        return {}


def weighted_loss(
    model: Any, batch: Mapping[str, Tensor], weight: Sequence[float] | None, label_smoothing: float
) -> Tensor:
    """Return the cross-entropy of (..., labels) logits against (...) labels, with class weights and label smoothing."""
    import torch

    inputs = {key: value for key, value in batch.items() if key != "labels"}
    labels = batch["labels"]
    logits = model(**inputs).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2),
        labels.flatten().to(logits.device),
        weight=None if weight is None else torch.tensor(weight, dtype=logits.dtype, device=logits.device),
        label_smoothing=label_smoothing,
    )
