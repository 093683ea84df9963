"""Rows that are ready to run: checked and tokenized, with the adapter and the options that answer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor

from ..base.modality import Item
from ..errors import AdapterkitError
from ..runtime.tokenized_rows import RowTokenizer, warn_of_cut, with_options
from ..tasks import Task
from ..tasks.columns import Columns
from ..tasks.feature_rows import features_of
from .loaded_adapter import LoadedAdapter

if TYPE_CHECKING:
    from transformers import StoppingCriteriaList

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows of one adapter as columns and as features, and the task with the options of their request."""

    adapter: LoadedAdapter
    task: Task
    columns: Columns
    features: Columns
    generation: Mapping[str, Any]
    """Options of generate, for a task that generates."""

    @property
    def version(self) -> str:
        """The version of the adapter; empty for one that isn't registered."""
        return self.adapter.version

    @property
    def items(self) -> list[tuple[Item, ...]]:
        """The base's inputs for each feature: one item, such as a text, or one for each choice."""
        return [self.adapter.base.modality.items(feature) for feature in features_of(self.features)]

    @property
    def tokens(self) -> int:
        """The number of input tokens, or of other hidden states that the base computes."""
        length = self.adapter.base.modality.length
        return sum(length(item) for feature in self.items for item in feature)

    def streamed(self, send: Callable[[str], object], stopped: Callable[[], bool]) -> Self:
        """Return it with a generation that sends the text in pieces and ends once `stopped` returns true.

        Beam search can't be streamed, since it has no text before its end.
        """
        if self.task.generation.get("num_beams", 1) != 1 or self.generation.get("num_beams", 1) != 1:
            return self
        from transformers import TextStreamer

        streamer = TextStreamer(self.adapter.base.tokenizer, skip_prompt=True, skip_special_tokens=True)
        streamer.on_finalized_text = lambda text, stream_end=False: send(text)
        more = {"streamer": streamer, "stopping_criteria": stop_where(stopped)}
        return replace(self, generation={**self.generation, **more})


class Preparer:
    """Turns rows into `Prepared` ones; tasks that tokenize the same way share the work for the same texts."""

    def __init__(self, *, report_cut: bool = False) -> None:
        """Prepare with a warning for the first texts of an adapter that are cut, where `report_cut`."""
        self._rows = RowTokenizer()
        self._report_cut = report_cut

    def prepare(self, adapter: LoadedAdapter, rows: Sequence[Any], options: Mapping[str, Any]) -> Prepared:
        """Return rows, texts or dicts of columns, ready to run.

        `options` are options of generate where the task generates, else options of the task that its outputs depend
        on, such as top_k. Raises `DataError` for a row that the task can't read, `PoolError` for an invalid option.
        """
        task = adapter.task if adapter.task.generates else with_options(adapter.task, options)
        columns, features = self._rows.read(task, rows, adapter.base)
        if self._report_cut and not adapter.cut_reported:
            adapter.cut_reported = warn_of_cut(adapter.name, adapter.task, columns, features, adapter.base)
        return Prepared(adapter, task, columns, features, options if task.generates else {})


def until(prepared: Sequence[Prepared], stopped: Callable[[], bool]) -> list[Prepared]:
    """Return rows whose generation ends once `stopped` returns true, unless they have other criteria."""
    if not any(p.task.generates for p in prepared):
        return list(prepared)
    criteria = {"stopping_criteria": stop_where(stopped)}  # the same ones, so that rows share a batch
    return [replace(p, generation={**criteria, **p.generation}) if p.task.generates else p for p in prepared]


def stop_where(stopped: Callable[[], bool]) -> StoppingCriteriaList:
    """Return criteria that end the generation of a batch once `stopped` returns true."""
    from transformers import StoppingCriteriaList

    def criterion(input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), stopped(), dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([criterion])


def raised_or_value(value: T | AdapterkitError) -> T:
    """Return a value, or raise it where it is an error."""
    if isinstance(value, AdapterkitError):
        raise value
    return value
