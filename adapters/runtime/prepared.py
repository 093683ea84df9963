"""A row that is ready to be answered by an export: checked and tokenized, with the adapter that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from ..base.tokens import Text, texts_of
from ..errors import PoolError
from ..tasks import Task
from ..tasks.columns import Columns
from ..tasks.feature_rows import features_of
from .adapters import ExportedAdapter


def _never() -> bool:
    return False


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows of one adapter as columns and as features, and the task with the options of their request."""

    adapter: ExportedAdapter
    task: Task
    columns: Columns
    features: Columns
    most_new_tokens: int = 0
    """Of a generated text."""
    stopped: Callable[[], bool] = field(default=_never)
    """Whether generation is to end after the next token."""

    @property
    def items(self) -> list[tuple[Text, ...]]:
        """The texts of each feature: one, or one for each choice."""
        return [texts_of(feature) for feature in features_of(self.features)]

    @property
    def tokens(self) -> int:
        """The number of input tokens."""
        return sum(len(ids) for texts in self.items for ids, _ in texts)

    def streamed(self, send: Callable[[str], object], stopped: Callable[[], bool]) -> Self:
        """Return it with a generation that ends once `stopped` returns true; the text isn't sent in pieces."""
        return replace(self, stopped=stopped)


def most_new_tokens(task: Task, options: Mapping[str, Any]) -> int:
    """Return the largest number of tokens to generate. Raises `PoolError` for options that aren't greedy search's."""
    greedy = {"max_new_tokens", "do_sample", "num_beams"}
    wanted = [name for name in options if name not in greedy]
    wanted += [name for name, usual in (("do_sample", False), ("num_beams", 1)) if options.get(name, usual) != usual]
    if wanted:
        raise PoolError(f"an export generates by greedy search, which has no {wanted[0]}; it has max_new_tokens")
    return int(options.get("max_new_tokens", task.generation["max_new_tokens"]))
