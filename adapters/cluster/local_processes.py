"""Tasks over several processes of this machine, which share its threads.

multiprocessing's processes and pipes, and not a concurrent.futures pool: there a process that dies ends the tasks of
all others, and its exit code isn't known. A process begins as a fork of a server that has imported the worker's
modules, where the system can, and ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from ..errors import ClusterError
from ..execution.stop_signals import StoppedError, signals_noted
from .executor import Executor, Local, R, T, Worker, attempted

ROOM = 1 << 30
"""Bytes that a process takes beside the base's values: imports, rows, activations."""
COPIES = 4
"""Of the base's values: themselves, their gradients, and the two moments of Adam."""
_PATIENCE = 5.0  # seconds in which a process may end by itself
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class LocalProcesses(Executor):
    """Computes tasks in processes of this machine; by default as many as fit, see `fitted`."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers
        self._crew: list[_Process] = []
        self._worker: Any = None
        self._number = 0  # of workers so far

    def fitted(self, tasks: int, nbytes: int) -> Executor:
        """Return the executor for `tasks` on a base of `nbytes`.

        Where their number isn't set: one process for each thread that torch uses here and each task, as memory allows;
        with a GPU, or where that is one process, none but this.
        """
        if self.workers is None:
            self.workers = min(tasks, _workers(nbytes))
        return self if self.workers > 1 else Local()

    def describe(self) -> str:
        """Return how many tasks are computed at a time, and the threads of each."""
        count = self.workers or _workers(0)
        each = max(1, threads_here() // count)
        return f"{count} at a time, in processes of {each} thread{'s' * (each > 1)} each"

    def __exit__(self, *_: object) -> None:
        for process in self._crew:
            process.end()
        self._crew = []

    def map(
        self,
        worker: Worker[T, R],
        tasks: Iterable[T],
        *,
        ahead: int | None = None,
        in_order: bool = True,
        lost: Callable[[T, str], R] | None = None,
    ) -> Iterator[R]:
        """Yield the result of each task. A signal stops the tasks, and is raised as `StoppedError`."""
        count = self.workers or _workers(0)
        modules = [type(worker).__module__, *getattr(worker, "imports", ())]
        if worker != self._worker:
            self._worker, self._number = worker, self._number + 1
        threads = max(1, threads_here() // count)
        order = _Order(iter(tasks), None if ahead is None else ahead * count, in_order)
        with signals_noted() as stop:
            try:
                while not order.over():
                    while self._has_room(count) and (item := order.take()) is not None:
                        self._free(modules, threads).send(self._number, worker, *item)
                    busy: dict[Any, _Process] = {each.connection: each for each in self._crew if each.task is not None}
                    for connection in wait(list(busy), timeout=0.5) if busy else []:
                        order.done[busy[connection].number] = busy[connection].result(lost)
                    self._crew = [process for process in self._crew if process.alive]
                    if stop.signal is not None:
                        raise StoppedError(stop.signal, f"stopped by {signal.Signals(stop.signal).name}")
                    for result in order.ready():
                        yield attempted(result)
            except BaseException as error:
                if not isinstance(error, GeneratorExit) or not order.over():  # tasks that nobody waits for
                    self.__exit__()
                raise

    def _has_room(self, count: int) -> bool:
        return sum(process.task is not None for process in self._crew) < count

    def _free(self, modules: list[str], threads: int) -> _Process:
        """Return a process without a task, a new one where all have tasks."""
        free = next((process for process in self._crew if process.task is None), None)
        if free is None:
            self._crew.append(free := _Process.start(modules, threads))
        return free


@dataclass
class _Order:
    """Tasks that are still to begin, and results that wait for an earlier one."""

    tasks: Iterator[Any]
    most: int | None
    in_order: bool
    done: dict[int, Any] = field(default_factory=dict)
    begun: int = 0
    yielded: int = 0
    no_more: bool = False

    def take(self) -> tuple[int, Any] | None:
        if self.no_more or (self.most is not None and self.begun - self.yielded >= self.most):
            return None
        for task in self.tasks:
            self.begun += 1
            return self.begun - 1, (task,)
        self.no_more = True
        return None

    def ready(self) -> Iterator[Any]:
        while self.done and (not self.in_order or self.yielded in self.done):
            result = self.done.pop(self.yielded if self.in_order else next(iter(self.done)))
            self.yielded += 1
            yield result

    def over(self) -> bool:
        return self.no_more and self.yielded == self.begun


@dataclass
class _Process:
    """A process, and the task that it has: a tuple of one, since a task may be None."""

    process: Any
    connection: Connection
    number: int = 0
    task: tuple[Any] | None = None
    opened: int = 0  # the number of its worker
    alive: bool = True

    @classmethod
    def start(cls, modules: list[str], threads: int) -> _Process:
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(modules)  # of the first process
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, threads), name="adapterkit-worker", daemon=True)
        with _environment(dict.fromkeys(_THREADS, str(threads))):
            process.start()
        theirs.close()
        return cls(process, ours)

    def send(self, opened: int, worker: Any, number: int, task: tuple[Any]) -> None:
        self.number, self.task = number, task
        with contextlib.suppress(OSError):  # it has ended, which its result shows
            self.connection.send((None if self.opened == opened else worker, task[0]))
        self.opened = opened

    def result(self, lost: Callable[[Any, str], Any] | None) -> Any:
        """Receive the result of the task, or what takes its place where the process ended."""
        assert self.task is not None
        task, self.task = self.task[0], None
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join(_PATIENCE)
            why = f"its process {_how(self.process.exitcode)}"
            return lost(task, why) if lost is not None else ClusterError(f"task {self.number + 1}: {why}")

    def end(self) -> None:
        self.connection.close()  # which ends a process without a task
        if self.task is not None:
            self.process.terminate()  # a training stops at its next step
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def serve(connection: Connection, threads: int) -> None:
    """Do the tasks that arrive until the other end closes; a worker is opened once."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, for all processes; the one that started this ends it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    import torch

    torch.set_num_threads(threads)
    with contextlib.ExitStack() as stack:
        result_of: Any = None
        with contextlib.suppress(EOFError, OSError):
            while True:
                worker, task = connection.recv()
                try:
                    if worker is not None:
                        stack.close()
                        result_of = stack.enter_context(worker())
                    result = result_of(task)
                except Exception as error:
                    result = error
                _send(connection, result)


def _end_with_parent() -> None:
    """Exit once the process that started this one is gone, were it killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _send(connection: Connection, result: Any) -> None:
    """Send a result or an error; of one that can't be copied to another process, its text."""
    try:
        if isinstance(result, Exception):
            copy.copy(result)  # fails where the class takes other arguments than it passes to its parent
        connection.send(result)
    except OSError:
        raise
    except Exception as error:
        at = result if isinstance(result, Exception) else error
        connection.send(ClusterError(" ".join(f"{type(at).__name__}: {at}".split())))


def _how(code: int | None) -> str:
    """Describe the exit code of a process."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    reason = ", as the system does where memory is short" if name == "SIGKILL" else ""
    return f"was ended by {name}{reason}"


def threads_here() -> int:
    """Return how many threads torch uses in this process: the cores, or what the environment sets."""
    import torch

    return torch.get_num_threads()


def _workers(nbytes: int) -> int:
    import psutil  # type: ignore[import-untyped]
    import torch

    if torch.accelerator.is_available() or sys.platform == "win32":
        return 1
    room = psutil.virtual_memory().available // (ROOM + COPIES * nbytes)
    return int(max(1, min(threads_here(), room)))


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables that a process reads when it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
