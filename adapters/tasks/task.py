"""What a task is: from rows to features, from logits to metrics and to answers that a person can read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

Rows = Mapping[str, Sequence[Any]]
"""A batch of rows, column by column."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """What the base is asked to do. The fields are its options, and what `fit` learned of the rows."""

    name: ClassVar[str]
    auto_class: ClassVar[str]
    """The class of transformers that builds the head."""
    best: ClassVar[str]
    """The metric by which the best epoch is chosen; higher is better."""

    max_seq_length: Annotated[int, "cut texts after this many tokens", "--max-length"] = 128

    @abstractmethod
    def with_columns(self, names: Sequence[str]) -> Self:
        """Return the task with its columns chosen among `names`, by option or by guess.

        Raises `DataError` where a column isn't there or can't be guessed.
        """

    @abstractmethod
    def describe_columns(self) -> str:
        """Say which columns are read as what: `text -> label`."""

    @abstractmethod
    def summary(self) -> str:
        """Say in a line what there is to tell apart: the labels."""

    @abstractmethod
    def fit(self, train: Dataset) -> Self:
        """Return the task with what it must know of the training rows: its labels."""

    @abstractmethod
    def check(self, data: Dataset, file: str) -> None:
        """Raise `DataError`, with file and line, for the first row that the task can't use."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return what the head needs in the model's config."""

    @abstractmethod
    def encode(self, rows: Rows, tokenizer: Any, *, labelled: bool) -> dict[str, Any]:
        """Return the features of a batch of rows, unpadded."""

    @abstractmethod
    def collate(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return what pads a list of features to one batch of tensors."""

    @abstractmethod
    def metrics(self, logits: np.ndarray, data: Dataset) -> dict[str, float]:
        """Return the metrics of logits, (rows, ...), against the labels of `data`."""

    @abstractmethod
    def answers(self, logits: np.ndarray) -> list[dict[str, Any]]:
        """Return one readable answer for each row of logits."""

    @abstractmethod
    def rows(self, texts: Sequence[str]) -> Rows:
        """Return plain texts as a batch of rows.

        Raises `DataError` where a text doesn't hold what the task needs.
        """

    def strata(self, data: Dataset) -> list[str] | None:
        """Return what a split should be stratified by, a value a row, or None."""
        return None
