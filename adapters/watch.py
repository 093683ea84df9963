"""What a long run tells whoever is watching: the command line draws it, the library is silent by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Watch:
    """Hear of a run; every method may be overridden, and none has to be."""

    def note(self, topic: str, text: str) -> None:
        """Hear a remark, such as ("data", "no validation rows given: ...")."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        """Begin something of `total` steps; inside, `advance` is called for each of them."""
        yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        """Hear that steps are done, with values such as loss and learning_rate."""

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        """Hear of an epoch's mean loss and validation metrics."""

    def result(self, report: Mapping[str, Any]) -> None:
        """Hear what came of a run: metrics by split, parameters, bytes, seconds."""
