"""Tasks in processes of this machine: their results, errors and deaths, and that none of them is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from adapterkit.cluster import Local, Placement, open_executor
from adapterkit.cluster.local_processes import LocalProcesses
from adapterkit.errors import ClusterError, DataError
from adapterkit.execution.stop_signals import StoppedError


@dataclass(frozen=True)
class Acts:
    """A worker whose tasks are a number to square, or what becomes of its process."""

    folder: str

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[Any], Any]]:
        (Path(self.folder) / f"opened-{os.getpid()}").touch()
        yield self.act

    def act(self, task: Any) -> Any:
        import torch

        if isinstance(task, int):
            return task**2, torch.get_num_threads()
        if task == "data":
            raise DataError("no rows")
        if task == "odd":
            raise Odd(1, 2)
        if task == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return time.sleep(600)


class Odd(Exception):
    """One that can't be pickled, as its arguments are two."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def left() -> list[Any]:
    """Return the processes below this one that do tasks: those of the server of forks."""
    return [p for p in psutil.Process().children(recursive=True) if p.parent().pid != os.getpid()]


def test_tasks_of_several_processes_and_what_becomes_of_them(tmp_path: Path) -> None:
    worker = Acts(str(tmp_path))
    with LocalProcesses(2) as executor:
        assert list(executor.map(worker, range(5))) == [(i**2, 1) for i in range(5)]
        lost = executor.map(worker, [1, "dies", 2, 3], in_order=False, lost=lambda task, why: f"{task}: {why}")
        results = set(lost)
        assert results == {(1, 1), (4, 1), (9, 1), "dies: its process was ended by SIGKILL, as the system does where "
                           "memory is short"}  # fmt: skip
        assert len(list(tmp_path.iterdir())) <= 3, "two processes, of which each opened the worker once, and a new one"
        with pytest.raises(DataError, match=r"^no rows$"):
            list(executor.map(worker, [1, "data"]))
        with pytest.raises(ClusterError, match=r"^Odd: 1 and 2$"):
            list(executor.map(worker, ["odd"]))
        with pytest.raises(ClusterError, match="task 1: its process was ended by SIGKILL"):
            list(executor.map(worker, ["dies"]))
    assert left() == []


def test_a_signal_ends_all_processes(tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(StoppedError, match="SIGINT") as stopped, LocalProcesses(2) as executor:
        list(executor.map(Acts(str(tmp_path)), ["sleeps", "sleeps", "sleeps"]))
    assert stopped.value.exit_code == 130
    assert left() == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_processes_end_with_the_one_that_started_them_were_it_killed(tmp_path: Path) -> None:
    code = (
        "from adapterkit.cluster.local_processes import LocalProcesses\n"
        "from tests.cluster.test_local_processes import Acts\n"
        f"list(LocalProcesses(2).map(Acts({str(tmp_path)!r}), ['sleeps', 'sleeps']))"
    )
    started = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    while len(opened := list(tmp_path.iterdir())) < 2:
        assert started.poll() is None
        time.sleep(0.05)
    started.kill()
    started.wait()
    pids = {int(path.name.partition("-")[2]) for path in opened}
    until = time.monotonic() + 60
    while pids & set(psutil.pids()):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_as_many_processes_as_fit() -> None:
    with open_executor(Placement(), several=True) as executor:
        assert isinstance(executor, LocalProcesses)
        assert isinstance(executor.fitted(9, 1 << 60), Local), "no room for two"
    with open_executor(Placement(workers=3)) as executor:
        assert executor.fitted(9, 1 << 60) is executor
        assert executor.describe() == "3 at a time, in processes of 1 thread each"
    assert isinstance(open_executor(Placement(workers=1), several=True), Local)
