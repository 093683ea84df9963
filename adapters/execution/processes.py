"""The processes of a run that a launcher started: their ranks, and the exchange of objects between them.

Objects are gathered and broadcast by Accelerate. Ours are the ranks (without torch, and 1 where nothing was launched),
the groups by node, and errors that are raised in all processes; Accelerate has none of these.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
_TIMEOUT = datetime.timedelta(hours=12)  # one process may fit a probe, write or tokenize while the others wait


def launched() -> int:
    """Return how many processes a launcher started, 1 where none did; torch needn't be imported."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def launched_main() -> bool:
    """Return whether this is the first of the processes that a launcher started; torch needn't be imported."""
    return int(os.environ.get("RANK") or 0) == 0


def begin() -> None:
    """Join the process group, if a launcher started several processes."""
    if launched() == 1:
        return
    import torch
    from accelerate import PartialState

    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()

    # without a GPU, `cpu` has to be set, else Accelerate treats each process as a run of its own
    cpu = not torch.accelerator.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    PartialState(cpu=cpu, timeout=_TIMEOUT)


def _leave_with(launcher: int) -> None:
    """Exit once the launcher is gone, so that no process waits for ever for others that were killed with it."""
    while os.getppid() == launcher:
        time.sleep(1)
    os._exit(1)


def end() -> None:
    """Leave the process group."""
    if (group := _group()) is not None:
        group.destroy_process_group()


def leave(done: SystemExit) -> NoReturn:
    """Exit as `done` states; one of several processes without tearing down its interpreter.

    A thread of torch.distributed that waits for the interpreter while that ends aborts the process: "terminate called
    without an active exception", after all was done.
    """
    if launched() == 1 or not isinstance(done.code, int | None):
        raise done
    atexit._run_exitfuncs()  # temporary folders, logs
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(done.code or 0)


def _group() -> Any:
    """Return torch.distributed, or None in a single process."""
    if launched() == 1:
        return None
    import torch.distributed as dist

    return dist if dist.is_available() and dist.is_initialized() else None


def count() -> int:
    """Return how many processes there are."""
    group = _group()
    return 1 if group is None else int(group.get_world_size())


def index() -> int:
    """Return the rank of this process, from 0 on."""
    group = _group()
    return 0 if group is None else int(group.get_rank())


def on_node() -> tuple[int, int]:
    """Return the rank of this process on its node, from 0 on, and how many processes the node has."""
    if _group() is None:
        return 0, 1
    return int(os.environ.get("LOCAL_RANK", index())), int(os.environ.get("LOCAL_WORLD_SIZE", count()))


def wait() -> None:
    """Wait until every process is here."""
    if (group := _group()) is not None:
        group.barrier()


def gathered(value: T) -> list[T]:
    """Return the values of all processes, by rank; every process has to call it."""
    if _group() is None:
        return [value]
    from accelerate.utils import gather_object

    return list(gather_object([value]))


@contextlib.contextmanager
def agreed(*kinds: type[Exception]) -> Iterator[None]:
    """Raise in all processes an error of these kinds that any of them raises inside."""
    error: Exception | None = None
    try:
        yield
    except kinds as raised:
        error = raised
    first = next((e for e in gathered(error) if e is not None), None)
    if first is not None:
        raise first


def from_main(make: Callable[[], T]) -> T:
    """Return what `make` returns on rank 0, or raise what it raises there."""
    if _group() is None:
        return make()
    from accelerate.utils import broadcast_object_list

    result: tuple[T | None, Exception | None] = broadcast_object_list([_try(make) if index() == 0 else None])[0]
    return _value_of(result)


def from_node(make: Callable[[], T]) -> T:
    """Return what `make` returns on rank 0 of this node; an error on any node is raised in all processes."""
    if _group() is None:
        return make()
    here, _ = on_node()
    results = gathered(_try(make) if here == 0 else None)
    failed = next((result for result in results if result is not None and result[1] is not None), None)
    result = failed or results[index() - here]
    assert result is not None
    return _value_of(result)


def _try(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:  # else the others would wait for ever
        return None, error


def _value_of(result: tuple[T | None, Exception | None]) -> T:
    value, error = result
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


@contextlib.contextmanager
def first_of_node_first() -> Iterator[None]:
    """Let rank 0 of each node finish first, so that the others read what it cached."""
    here, _ = on_node()
    if here:
        wait()
    yield
    if not here:
        wait()


def failed_first() -> bool:
    """Record that this process fails; return whether it is the first, also where that is unknown."""
    if launched() == 1:
        return True
    try:
        from torch.distributed.distributed_c10d import _get_default_store

        return bool(_get_default_store().add("adapterkit/failed", 1) == 1)
    except Exception:  # no process group yet, so all fail alike; or the others are gone
        return launched_main()
