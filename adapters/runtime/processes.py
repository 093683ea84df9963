"""The processes of a run, as a launcher started them: which one this is, and what they tell one another.

Where there is one, everything here answers at once. Objects go through torch.distributed, between processes of one run.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_PATIENCE = datetime.timedelta(hours=12)  # one process may solve, write or tokenise while the others wait


def launched() -> int:
    """Return how many processes a launcher started, 1 where none did; torch needn't be imported."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def launched_main() -> bool:
    """Tell whether this is the first of the processes that a launcher started; torch needn't be imported."""
    return int(os.environ.get("RANK") or 0) == 0


def begin() -> None:
    """Meet the other processes, if a launcher started some, on the hardware there is."""
    if launched() == 1:
        return
    import torch
    from accelerate import PartialState

    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()

    if not torch.accelerator.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"  # left to itself, Accelerate takes each process for a run of its own
    PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true", timeout=_PATIENCE)


def _leave_with(launcher: int) -> None:
    """End when the launcher has, killed, so that nobody waits for ever for those that it would have started again."""
    while os.getppid() == launcher:
        time.sleep(1)
    os._exit(1)


def end() -> None:
    """Part from the other processes."""
    if (group := _group()) is not None:
        group.destroy_process_group()


def _group() -> Any:
    """Return torch.distributed, or None where there is but one process."""
    if launched() == 1:
        return None
    import torch.distributed as dist

    return dist if dist.is_available() and dist.is_initialized() else None


def count() -> int:
    """Return how many processes there are."""
    group = _group()
    return 1 if group is None else int(group.get_world_size())


def index() -> int:
    """Return which one this is, from 0 on."""
    group = _group()
    return 0 if group is None else int(group.get_rank())


def on_node() -> tuple[int, int]:
    """Return which one this is of those on its node, from 0 on, and how many these are."""
    if _group() is None:
        return 0, 1
    return int(os.environ.get("LOCAL_RANK", index())), int(os.environ.get("LOCAL_WORLD_SIZE", count()))


def wait() -> None:
    """Wait until every process is here."""
    if (group := _group()) is not None:
        group.barrier()


def gathered(value: T) -> list[T]:
    """Return what each process says, in their order, to all of them."""
    if (group := _group()) is None:
        return [value]
    found: list[Any] = [None] * count()
    group.all_gather_object(found, value)
    return found


@contextlib.contextmanager
def agreed(*kinds: type[Exception]) -> Iterator[None]:
    """Have an error of these kinds that is raised inside, in any process, be raised in all of them."""
    error: Exception | None = None
    try:
        yield
    except kinds as raised:
        error = raised
    first = next((e for e in gathered(error) if e is not None), None)
    if first is not None:
        raise first


def from_main(make: Callable[[], T]) -> T:
    """Return what `make` returns in the first process, or raise what it raises there."""
    if (group := _group()) is None:
        return make()
    told: list[Any] = [_made(make) if index() == 0 else None]
    group.broadcast_object_list(told, src=0)
    found: tuple[T | None, Exception | None] = told[0]
    return _told(found)


def from_node(make: Callable[[], T]) -> T:
    """Return what `make` returns in the first process of this node; what it raises in any is raised in all."""
    if _group() is None:
        return make()
    here, _ = on_node()
    told = gathered(_made(make) if here == 0 else None)
    failed = next((one for one in told if one is not None and one[1] is not None), None)
    found = failed or told[index() - here]
    assert found is not None
    return _told(found)


def _made(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:  # the others would wait for ever
        return None, error


def _told(one: tuple[T | None, Exception | None]) -> T:
    value, error = one
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


@contextlib.contextmanager
def first_of_node_first() -> Iterator[None]:
    """Have the first process of each node go through before its others, which find what it cached."""
    here, _ = on_node()
    if here:
        wait()
    yield
    if not here:
        wait()


def failed_first() -> bool:
    """Say that this process ends with an error; return whether it is the first that does, or can't be known."""
    if launched() == 1:
        return True
    try:
        from torch.distributed.distributed_c10d import _get_default_store

        return bool(_get_default_store().add("adapterkit/failed", 1) == 1)
    except Exception:  # no group was made yet, so that all of them fail alike; or the others are gone
        return launched_main()
