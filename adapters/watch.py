"""Callbacks of a long run: the command line draws them, the library is silent by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Watch:
    """Callbacks of a run; override any of them.

    An exception that a callback raises ends the run.

    >>> class Losses(ak.Watch):
    ...     def epoch(self, number, of, metrics):
    ...         print("epoch", number, "of", of)
    >>> Losses().epoch(1, 3, {"train_loss": 0.5})
    epoch 1 of 3
    """

    def note(self, topic: str, text: str) -> None:
        """Called with a remark, such as ("data", "no validation rows: ...")."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        """Called for a task of `total` steps; inside, `advance` is called as they are done."""
        yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        """Called when steps are done, with values such as loss and learning_rate."""

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        """Called after an epoch with its mean loss and validation metrics.

        Epoch 0 is the state before training, and its loss is NaN.
        """

    def result(self, report: Mapping[str, Any]) -> None:
        """Called at the end of a run with its report: metrics by split, parameters, bytes, seconds."""
