"""Save many adapters from many processes into one registry, with its lock and without, and count what is there.

python -m tests.crowd                          # 32 processes, 50 adapters each
python -m tests.crowd --processes 8 --each 20
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from adapterkit.store import registry as registry_module
from adapterkit.store.maintenance import doctor
from adapterkit.store.registry import Registry
from tests.faults import ENTRY, files


@contextlib.contextmanager
def no_lock(registry: Registry, seconds: float = 0) -> Iterator[None]:
    yield


@contextlib.contextmanager
def first_write_waits(wait: Callable[[], object]) -> Iterator[None]:
    """Call `wait` once, between a change's read of the index and its write."""
    write = registry_module.write_folder

    def waiting(folder: Path, files: dict[str, bytes]) -> None:
        first.stop()
        wait()
        write(folder, files)

    first = mock.patch.object(registry_module, "write_folder", waiting)
    first.start()
    yield


def save(registry: Registry, worker: int, each: int) -> None:
    for number in range(each):
        name = f"shared-{number % 5}" if number % 2 else f"own-{worker}-{number}"
        registry.add(name, files(f"{worker} {number}"), ENTRY)


def save_without_lock(path: Path, worker: int, each: int, wait: Callable[[], object]) -> None:
    """Save where the lock does nothing. All workers read the same index first, so at least one entry is lost."""
    with mock.patch.object(Registry, "locked", no_lock), first_write_waits(wait):
        save(Registry(path), worker, each)


def crowd(path: Path, processes: int, each: int, *, locked: bool) -> tuple[int, int]:
    """Save from all processes at once; return how many versions the index lists, and how many after a rebuild."""
    context = multiprocessing.get_context("fork")
    wait = context.Barrier(processes).wait
    target, where = (save, Registry(path)) if locked else (save_without_lock, path)
    extra = () if locked else (wait,)
    workers = [context.Process(target=target, args=(where, number, each, *extra)) for number in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    registry = Registry(path)
    listed = versions(registry)
    registry.rebuild()
    assert doctor(registry) == []
    return listed, versions(registry)


def versions(registry: Registry) -> int:
    return sum(len(known["versions"]) for known in registry.adapters().values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--each", type=int, default=50)
    args = parser.parse_args()
    for locked in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            found = crowd(Path(folder) / "registry.json", args.processes, args.each, locked=locked)
            took, lock = time.monotonic() - began, "with the lock" if locked else "with a lock that does nothing"
            wanted = args.processes * args.each
            print(f"{lock}: {found[0]} of {wanted} listed, {found[1]} after a rebuild, {took:.0f} s")
            assert found[1] == wanted
            assert not locked or found[0] == wanted


if __name__ == "__main__":
    main()
