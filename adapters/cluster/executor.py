"""The interface of an executor, which maps tasks to results in order, and the one that computes in this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

from ..watch import Watch

T = TypeVar("T")
R = TypeVar("R")
Worker = Callable[[], AbstractContextManager[Callable[[T], R]]]
"""Opens what a process needs once, such as a base in memory, and yields the function of one task.

On a cluster, workers, tasks and results are pickled, and a task runs again where its process died: its effects must be
the same when it runs twice.
"""


class Executor(ABC):
    """Maps tasks to results; a context manager, whose processes end with it."""

    local: ClassVar[bool] = False
    """Whether tasks run in this process, so that they may use its objects."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def fitted(self, tasks: int, nbytes: int) -> Executor:
        """Return the executor for so many tasks, each on a base of `nbytes`."""
        return self

    def describe(self) -> str:
        """Return where tasks are computed, where it isn't this process alone."""
        return ""

    @abstractmethod
    def map(
        self,
        worker: Worker[T, R],
        tasks: Iterable[T],
        *,
        ahead: int | None = None,
        in_order: bool = True,
        lost: Callable[[T, str], R] | None = None,
    ) -> Iterator[R]:
        """Yield the result of each task in the order of `tasks`, which are consumed as they are needed.

        `ahead` is for a long stream of short tasks: each process gets its next task before it ends the one before, and
        at most so many tasks per process are in flight or wait for an earlier result. By default there is no limit,
        and each process has one task at a time. What a task raises is raised here. Unless `in_order`, results are
        yielded as they come. `lost` returns what takes the place of the result of a task that ended its process, from
        the task and how it ended; by default that is a `ClusterError`.
        """

    def watch_of_tasks(self, watch: Watch) -> Watch:
        """Return the watch that tasks may use: callbacks can't be called from another process."""
        return watch if self.local else Watch()


class Local(Executor):
    """Computes one task after the other in this process."""

    local: ClassVar[bool] = True

    def map(
        self,
        worker: Worker[T, R],
        tasks: Iterable[T],
        *,
        ahead: int | None = None,
        in_order: bool = True,
        lost: Callable[[T, str], R] | None = None,
    ) -> Iterator[R]:
        """Yield the result of each task; a task is consumed when its result is requested."""
        with worker() as result_of:
            for task in tasks:
                yield result_of(task)


def attempted(value: Any) -> Any:
    """Return a result, or raise the error that took its place."""
    if isinstance(value, BaseException):
        raise value
    return value
