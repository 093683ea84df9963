"""The features of requests as examples to compute, those with equal outputs once, in batches of similar lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.tokens import Text, has_choices, texts_of
from ..tasks.feature_rows import features_of
from .adapters import ExportedAdapter
from .prepared import Prepared

_MOST_TOKENS = 1 << 14  # of a pass, padding included


@dataclass(frozen=True, eq=False)
class Example:
    """One feature, and the texts of it: one, or one for each choice; features that have equal outputs are one."""

    prepared: Prepared
    texts: tuple[Text, ...]
    choosing: bool
    places: list[tuple[int, int]]  # indices of a request, and of a feature of it

    @property
    def adapter(self) -> ExportedAdapter:
        """The adapter that answers it."""
        return self.prepared.adapter


def examples_of(requests: Sequence[Prepared]) -> list[Example]:
    """Return the examples of requests."""
    examples: dict[Any, Example] = {}
    for n, request in enumerate(requests):
        for i, feature in enumerate(features_of(request.features)):
            texts, choosing = texts_of(feature), has_choices(feature)
            key: Any = (n, i)  # a text may be generated differently, up to another length
            if not request.task.generates:
                key = (request.adapter, request.task.outputs_key, choosing, texts)
            examples.setdefault(key, Example(request, texts, choosing, [])).places.append((n, i))
    return list(examples.values())


def changing(adapter: ExportedAdapter) -> ExportedAdapter | None:
    """Return an adapter that changes the base's outputs, else None."""
    return adapter if adapter.changes_base else None


def batches(examples: Sequence[Example], batch_size: int) -> Iterator[list[Example]]:
    """Yield examples in batches of similar lengths, those with equal texts beside each other."""
    batch: list[Example] = []
    count = 0
    for example in sorted(examples, key=lambda e: (max(len(ids) for ids, _ in e.texts), e.texts)):
        longest = max(len(ids) for ids, _ in example.texts)
        if batch and (len(batch) >= batch_size or (count + len(example.texts)) * longest > _MOST_TOKENS):
            yield batch
            batch, count = [], 0
        batch.append(example)
        count += len(example.texts)
    if batch:
        yield batch
