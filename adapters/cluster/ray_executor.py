"""Tasks over the nodes of a Ray cluster: actors that open their worker once; Ray schedules them and notices deaths."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from ..errors import AdapterkitError, ClusterError
from .executor import Executor, R, T, Worker, attempted
from .placement import Placement
from .ray_connection import Resources, connect, environment, resources

MOST_ATTEMPTS = 4
"""How often a task may begin, where the processes that do it die."""
PATIENCE = 300.0
"""Seconds to wait for room for the first worker, or for another where all have died."""
DIED = (
    *(RayActorError, WorkerCrashedError, NodeDiedError, OutOfMemoryError, ActorUnschedulableError),
    ObjectLostError,  # a result that was on a node that died
)


class RayExecutor(Executor):
    """Computes tasks on a cluster, which must see the same files under the same paths."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self._started = False
        self._worker: Any = None
        self._crew: _Crew | None = None

    def __enter__(self) -> RayExecutor:
        self._started = connect(ray, self.placement)
        return self

    def __exit__(self, *_: object) -> None:
        self._dismiss()
        if self._started:
            ray.shutdown()

    def _dismiss(self) -> None:
        if self._crew is not None:
            self._crew.dismiss()
            self._crew = None

    def describe(self) -> str:
        """Return where tasks are computed."""
        return "on Ray"

    def map(
        self,
        worker: Worker[T, R],
        tasks: Iterable[T],
        *,
        ahead: int | None = None,
        in_order: bool = True,
        lost: Callable[[T, str], R] | None = None,
    ) -> Iterator[R]:
        """Yield the result of each task; one whose process or node died is done by another.

        The processes stay for further tasks of the same worker. Raises `ClusterError` where no worker can start, or a
        task ends its process again and again.
        """
        if self._crew is None or worker != self._worker:
            self._dismiss()
            self._worker, self._crew = worker, _Crew(worker, resources(self.placement, ray.nodes()))
        try:
            yield from _Mapping(self._crew, enumerate(tasks), ahead, in_order, lost).results()
        except BaseException:  # of a task, or that the results aren't wanted any more
            self._dismiss()
            raise


class _Actor:
    """A process of the cluster, with the worker that it opened."""

    def __init__(self, variables: Mapping[str, str], folder: str) -> None:
        os.environ.update(variables)  # before a worker arrives, whose modules import torch
        self._folder = folder
        self._open = contextlib.ExitStack()
        self._result_of: Any = None

    def ready(self, worker: Any) -> Exception | None:
        """Open the worker; return the error that prevents it, if it is one of adapterkit's."""
        try:
            try:
                os.chdir(self._folder)
            except OSError as error:
                node = ray.util.get_node_ip_address()
                raise ClusterError(f"node {node} has no folder {self._folder}: {error.strerror}") from None
            self._result_of = self._open.enter_context(worker())
        except AdapterkitError as error:
            return error
        return None

    def do(self, task: Any) -> Any:
        """Return the result of a task, or the error of adapterkit that it raises."""
        try:
            return self._result_of(task)
        except AdapterkitError as error:
            return error


@dataclass
class _Crew:
    """The actors of one map, each replaced where it dies."""

    worker: Any
    size: Resources
    alive: list[Any] = field(default_factory=list)
    starting: dict[Any, Any] = field(default_factory=dict)  # from the object of `ready` to the actor

    def __post_init__(self) -> None:
        remote = ray.remote(num_cpus=self.size.cpus, num_gpus=self.size.gpus, scheduling_strategy="SPREAD")
        self._kind: Any = remote(_Actor)
        self._arguments = (environment(), os.getcwd())
        self.fill()

    def fill(self) -> None:
        """Start actors for those that are missing; Ray places them where there is room, now or later."""
        while len(self.alive) + len(self.starting) < self.size.workers:
            actor = self._kind.remote(*self._arguments)
            self.starting[actor.ready.remote(self.worker)] = actor

    def started(self, ready: Any) -> None:
        """Receive the end of an actor's start. Raises its error, unless its node died."""
        actor = self.starting.pop(ready)
        try:
            attempted(ray.get(ready))
        except DIED as error:
            if "ModuleNotFoundError" in str(error) or "creation task" in str(error):
                raise ClusterError(no_start(str(error))) from None
            self.fill()
            return
        except RayTaskError as error:
            raise ClusterError(no_start(str(error))) from None
        self.alive.append(actor)

    def lose(self, actor: Any) -> None:
        """Replace an actor that died."""
        if actor in self.alive:
            self.alive.remove(actor)
            ray.kill(actor)  # one that can't be reached may still be there
            self.fill()

    def dismiss(self) -> None:
        """End all actors."""
        for actor in (*self.alive, *self.starting.values()):
            with contextlib.suppress(Exception):  # the cluster may be gone
                ray.kill(actor)


@dataclass
class _Sent:
    """A task that an actor has."""

    actor: Any
    number: int
    task: Any
    attempts: int


class _Mapping:
    """The tasks in flight of one map, and the results that wait for an earlier one."""

    def __init__(
        self, crew: _Crew, tasks: Iterator[tuple[int, Any]], ahead: int | None, in_order: bool, lost: Any
    ) -> None:
        self.crew, self.tasks, self.in_order, self.lost = crew, tasks, in_order, lost
        self.most = None if ahead is None else ahead * crew.size.workers  # tasks in flight and results that wait
        self.depth = 1 if ahead is None else 2  # a second task waits in the actor's process while it does the first
        self.again: deque[tuple[int, Any, int]] = deque()
        self.sent: dict[Any, _Sent] = {}
        self.done: dict[int, Any] = {}
        self.next = 0
        self.no_more = False
        self.alone_since = time.monotonic()

    def results(self) -> Iterator[Any]:
        """Yield results in the order of the tasks."""
        while True:
            self._send()
            while self.done and (not self.in_order or self.next in self.done):
                result = self.done.pop(self.next if self.in_order else next(iter(self.done)))
                self.next += 1
                yield attempted(result)
                self._send()
            if not self.sent and not self.again and self.no_more:
                return
            self._wait()

    def _send(self) -> None:
        """Give every actor tasks up to its depth."""
        busy = Counter(sent.actor for sent in self.sent.values())
        for _ in range(self.depth):
            for actor in self.crew.alive:
                if busy[actor] >= self.depth or (item := self._task()) is None:
                    continue
                number, task, attempts = item
                self.sent[actor.do.remote(task)] = _Sent(actor, number, task, attempts)
                busy[actor] += 1

    def _task(self) -> tuple[int, Any, int] | None:
        if self.again:
            return self.again.popleft()
        if self.most is not None and len(self.sent) + len(self.done) >= self.most:
            return None
        for number, task in self.tasks:
            return number, task, 1
        self.no_more = True
        return None

    def _wait(self) -> None:
        """Wait for the next result, start or death."""
        crew = self.crew
        ready, _ = ray.wait([*self.sent, *crew.starting], num_returns=1, timeout=5.0)
        for each in ready:
            if each in crew.starting:
                crew.started(each)
            else:
                self._finish(each)
        if crew.alive:
            self.alone_since = time.monotonic()
        elif time.monotonic() - self.alone_since > PATIENCE:
            raise ClusterError(
                f"no node of the cluster had room for a worker with {crew.size.cpus:g} CPUs and {crew.size.gpus:g} "
                f"GPUs in {PATIENCE:g} s"
            )

    def _finish(self, ref: Any) -> None:
        sent = self.sent.pop(ref)
        try:
            self.done[sent.number] = ray.get(ref)
        except DIED as error:
            self.crew.lose(sent.actor)
            if sent.attempts >= MOST_ATTEMPTS:
                why = f"ended its process {MOST_ATTEMPTS} times: {_line(error)}"
                if self.lost is None:
                    raise ClusterError(f"task {sent.number + 1} {why}") from None
                self.done[sent.number] = self.lost(sent.task, why)
                return
            self.again.append((sent.number, sent.task, sent.attempts + 1))


def no_start(text: str) -> str:
    """Return why a process can't start, in one line, from Ray's message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    missing = next((line for line in reversed(lines) if "No module named" in line), None)
    if missing is not None:
        return f"a node of the cluster lacks a package: {missing}; install the same environment on every node"
    return f"a worker can't start: {lines[-1][:300] if lines else 'Ray gives no reason'}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
