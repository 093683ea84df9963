"""The worker of `adapt predict`: a pool on one base, which answers chunks of requests."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import DataError, TruncationWarning
from ..evaluation.row_errors import by_halves
from ..store.registry import Registry

if TYPE_CHECKING:
    from ..base.base import Base

Request = tuple[str, Any]
"""The adapter, NAME@VERSION, and the inputs of a row."""
Answers = list[Any] | DataError
"""The answer to each request, or its error where bad rows are skipped; or the error of the first bad row."""


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Options of the pool that answers."""

    base: str | None = None  # where to load it from, if it was moved
    batch_size: int = 64
    max_bytes: int | None = None
    device: str | None = None
    allow_base_mismatch: bool = False


class Predictor(Protocol):
    """A `Pool`, or another that answers as it does."""

    def predict(self, texts: Any, *, adapter_of_each: Sequence[str]) -> Any:
        """Return the answer to each text by the adapter that is named for it."""


@dataclass
class PoolWorker:
    """Opens a pool on a base, which is loaded by its manifest in other processes than the one that has it."""

    registry: Registry
    manifest: dict[str, Any]
    name: str
    options: PoolOptions
    skip_bad: bool
    base: Base | None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "base": None}

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[list[Request]], Answers]]:
        """Yield the function from requests to answers."""
        from ..base.base import Base
        from ..pool import Pool

        options = self.options
        base = self.base if self.base is not None else Base.from_manifest(self.manifest, self.name)
        with Pool(
            base,
            registry=self.registry,
            batch_size=options.batch_size,
            max_bytes=options.max_bytes,
            device=options.device,
            allow_base_mismatch=options.allow_base_mismatch,
        ) as pool:
            yield partial(answers_of, pool, self.skip_bad)


def answers_of(pool: Predictor, skip_bad: bool, requests: Sequence[Request]) -> Answers:
    """Return the answers of a pool to requests."""

    def answers(some: Sequence[Request]) -> list[Any]:
        return list(pool.predict([inputs for _, inputs in some], adapter_of_each=[name for name, _ in some]))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # counted over all chunks by the caller
        if skip_bad:
            return by_halves(requests, answers)
        try:
            return answers(requests) if requests else []
        except DataError as error:
            return error
