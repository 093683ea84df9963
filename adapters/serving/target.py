"""What a server needs of the adapters that it serves and of their pool: a registry's, or an export's without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..tasks import Task


class LoadedAdapter(Protocol):
    """An adapter in memory."""

    @property
    def name(self) -> str:
        """The name by which the queue is fair."""

    @property
    def changes_base(self) -> bool:
        """Whether the base's outputs differ with this adapter."""


class Row(Protocol):
    """A row that a pool has prepared."""

    @property
    def adapter(self) -> LoadedAdapter:
        """The adapter that answers it."""

    @property
    def task(self) -> Task:
        """The task, with the options of the request."""

    @property
    def items(self) -> list[Any]:
        """The base's inputs; rows with equal ones share a pass."""

    @property
    def tokens(self) -> int:
        """The number of input tokens."""

    def streamed(self, send: Callable[[str], object], stopped: Callable[[], bool]) -> Row:
        """Return it with a generation that sends pieces, where it can, and ends once `stopped` returns true."""


class ServedPool(Protocol):
    """A base with adapters, by NAME@VERSION."""

    def is_loaded(self, name: str) -> bool:
        """Return whether an adapter is in memory."""

    def is_tokenizing(self) -> bool:
        """Return whether a thread tokenizes now, for which another would wait."""

    def loaded(self) -> list[str]:
        """Return the adapters in memory."""

    def load(self, name: str) -> None:
        """Load an adapter before its first row."""

    def unload(self, name: str) -> None:
        """Remove an adapter from memory."""

    def task(self, name: str) -> Task:
        """Return an adapter's task."""

    def prepare_each(self, pairs: Sequence[tuple[Any, str]], *, requested: bool, **options: Any) -> Sequence[Any]:
        """Return a `Row` for each pair of a row and a name, or its error."""

    def answer(self, prepared: Sequence[Any], *, all_scores: Sequence[bool], stopped: Callable[[], bool]) -> list[Any]:
        """Return the answer to each row, or its error."""

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of texts."""

    def stats(self) -> Any:
        """Return the number of `loaded` adapters, and their `bytes`."""


@dataclass(frozen=True)
class Target:
    """One version of an adapter, and the pool of its base."""

    name: str
    reference: str  # name@version
    pool: ServedPool

    def is_free(self) -> bool:
        """Return whether a row can be prepared now: the adapter is loaded, and no other thread is tokenizing."""
        return self.pool.is_loaded(self.reference) and not self.pool.is_tokenizing()


class ServedModels(Protocol):
    """Adapters by name."""

    def names(self) -> list[str]:
        """Return the names of the adapters."""

    def bundles(self) -> Mapping[str, Sequence[str]]:
        """Return the adapters of each bundle."""

    def members(self, name: str) -> Sequence[str]:
        """Return the adapters of a bundle, or the name itself where it is no bundle's."""

    def bases(self) -> Mapping[str, Any]:
        """Return the pools that embed texts, by the name of their base."""

    def pools(self) -> Sequence[ServedPool]:
        """Return all pools."""

    def entry(self, name: str) -> Mapping[str, Any]:
        """Return what is known about the current version of an adapter; its task is `task`."""

    def generation(self) -> int:
        """Return a number that grows with each change of the adapters."""

    def resolve(self, name: str) -> Target:
        """Return the version that a name means now. Raises `RequestError`, 404 with the nearest name, or 409."""

    def use_threads(self, count: int) -> None:
        """Let this thread compute with that many threads, where the pools can."""

    def close(self) -> None:
        """Close all pools."""
