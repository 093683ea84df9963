"""Let every system call of what changes a registry fail, and see that nothing is lost.

    python -m tests.faults               # all of it: kills, errors and writes cut short at each call, and the power
    python -m tests.faults --every 25    # a cut of it

strace injects the faults into children forked from this process. Before anything else, it is made sure that writers
which are known to be wrong are found out. After each fault the registry holds the state before or the one after; after
an operation that said it was done, the one after; and `doctor` clears whatever is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from adapterkit.errors import AdapterkitError
from adapterkit.io.atomic import json_bytes, sha256
from adapterkit.store.maintenance import collect, doctor
from adapterkit.store.registry import Registry
from adapterkit.store.version_files import faults
from tests.helpers import power

ENTRY = {"task": "text-classification", "strategy": "lora", "base": {"name": "tiny"}, "bytes": 2000, "metrics": {}}
DONE, REFUSED, WRONG = 0, 3, 1

FAULTS = {
    "kill": ("all", "signal=KILL"),
    "ENOSPC": ("openat,mkdir,write,rename,fsync,fchmod", "error=ENOSPC"),
    "EIO": ("openat,read,write,fsync,rename,mkdir,unlink,unlinkat,rmdir,getdents64,flock,newfstatat", "error=EIO"),
    "EMFILE": ("openat", "error=EMFILE"),
    "short write": ("write", "retval=0"),
    "lost write": ("write", "retval=1"),
}
"""By name: which system calls, and what strace does to one of them."""


def files(content: str) -> dict[str, bytes]:
    """Return the files of a small adapter."""
    tensors = random.Random(content).randbytes(2000)
    stated = {"adapter_model.safetensors": {"sha256": sha256(tensors), "bytes": len(tensors)}}
    names = {"task": {"name": ENTRY["task"]}, "strategy": {"name": "lora"}, "base": {"name": "tiny", "fingerprint": ""}}
    manifest = json_bytes({**names, "metrics": {}, "note": content, "files": stated})
    return {"adapter.json": manifest, "adapter_model.safetensors": tensors, "README.md": b"# card", "run.yaml": b"a: 1"}


def template(folder: Path) -> Registry:
    """Make a registry with what there can be in one: versions, tags, another name, and things that were removed."""
    registry = Registry(folder / "registry.json")
    for name, content in (("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("old", "5"), ("gone", "6")):
        registry.add(name, files(content), ENTRY)
    registry.tag("a@" + first(registry, "a"), "prod")
    registry.rollback("a")
    registry.rename("old", "new")
    registry.remove("a@" + list(registry.adapters()["a"]["versions"])[2])
    registry.remove("gone")
    return registry


def first(registry: Registry, name: str) -> str:
    return next(iter(registry.adapters()[name]["versions"]))


OPERATIONS: dict[str, Callable[[Registry], Any]] = {
    "save": lambda registry: registry.add("c", files("7"), ENTRY),
    "save another version": lambda registry: registry.add("a", files("8"), ENTRY),
    "save what is there": lambda registry: registry.add("a", files("1"), ENTRY),
    "tag": lambda registry: registry.tag("a", "best"),
    "rollback": lambda registry: registry.rollback("a"),
    "rename": lambda registry: registry.rename("b", "c"),
    "remove": lambda registry: registry.remove("a"),
    "gc": collect,
    "rebuild": lambda registry: registry.rebuild(),
}


# ---- writers that are known to be wrong


def _beside(path: Path, data: bytes, *, sync: bool) -> Path:
    beside = path.with_name(f".{path.name}.weakened.tmp")
    with beside.open("wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    return beside


def in_place(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def rename_alone(path: Path, data: bytes) -> None:
    os.replace(_beside(path, data, sync=False), path)


def file_synced_alone(path: Path, data: bytes) -> None:
    os.replace(_beside(path, data, sync=True), path)


def delete_before_commit(path: Path, data: bytes) -> None:
    beside = _beside(path, data, sync=True)
    path.unlink(missing_ok=True)
    os.rename(beside, path)
    handle = os.open(path.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


WEAK = (in_place, rename_alone, file_synced_alone, delete_before_commit)


@contextlib.contextmanager
def written_by(writer: Callable[[Path, bytes], None] | None) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module in ("registry", "journal") if writer is not None else ():
            stack.enter_context(mock.patch(f"adapterkit.store.{module}.write_file", writer))
        yield


# ---- what must hold


def snapshot(registry: Registry) -> dict[str, Any]:
    """Return what a registry lists; raise where it can't be read, or a version that it lists isn't whole."""
    listed = registry.adapters()
    for name, known in listed.items():
        for version in known["versions"]:
            for file, what in faults(registry.folder(name, version)):
                raise AssertionError(f"{name}@{version}/{file} {what}")
    return listed


@dataclass
class Campaign:
    """Faults in one operation: its states before and after, and what went wrong."""

    work: Path
    name: str
    writer: Callable[[Path, bytes], None] | None = None
    wrong: list[str] = field(default_factory=list)
    points: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        self.start, self.case = self.work / "start", self.work / "case"
        self.start.mkdir()
        self.before = snapshot(template(self.start))
        done = self.work / "done"
        shutil.copytree(self.start, done)
        OPERATIONS[self.name](Registry(done / "registry.json"))  # all that is imported late is imported now
        self.after = snapshot(Registry(done / "registry.json"))
        doctor(Registry(done / "registry.json"), fix=True)
        self.may_be = {str(path.relative_to(top)) for top in (self.start, done) for path in top.rglob("*")}

    def child(self, injected: str, trace: str, *more: str) -> tuple[int, list[str]]:
        """Do the operation in a child under strace; return how it ended and the log."""
        shutil.rmtree(self.case, ignore_errors=True)
        shutil.copytree(self.start, self.case)
        (said := self.work / "said").unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            os._exit(self._operate(said))
        os.waitpid(pid, os.WUNTRACED)
        log = self.work / "log"
        command = ["strace", "-p", str(pid), "-o", str(log), "-e", f"trace={trace},getpgid", "-e", "signal=none", *more]
        command += ["-e", f"inject={injected}"] if injected else []
        strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert strace.stderr is not None
        line = strace.stderr.readline()
        assert "attached" in line, line
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, 0)
        strace.communicate()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (DONE, REFUSED):
            self.wrong.append(f"{self.name}, {injected}: {said.read_text() if said.exists() else 'a traceback'}")
        return status, log.read_text(errors="replace").splitlines()

    def _operate(self, said: Path) -> int:
        try:
            os.kill(os.getpid(), signal.SIGSTOP)  # until strace is there
            with contextlib.suppress(ProcessLookupError):
                os.getpgid(99999999)  # in the log, what follows is the operation
            with written_by(self.writer):
                OPERATIONS[self.name](Registry(self.case / "registry.json"))
            return DONE
        except AdapterkitError:
            return REFUSED
        except BaseException:
            said.write_text(traceback.format_exc())
            return WRONG

    def inject(self, fault: str, every: int, offset: int = 0) -> None:
        """Let each `every`th of the calls that a fault may befall fail, one in each run."""
        calls, what = FAULTS[fault]
        _, log = self.child("", calls)
        names = [found[1] for line in log if (found := re.match(r"(?:\d+ +)?(\w+)\(", line))]
        begin = names.index("getpgid")
        base = 0 if calls == "all" else 1  # the marker counts where all calls do
        count = 0
        for number in range(begin + 2 - base + offset, len(names) + 1 - base, every):
            status, _ = self.child(f"{calls}:{what}:when={number}", calls)
            count += 1
            done = os.WIFEXITED(status) and os.WEXITSTATUS(status) == DONE
            self.check(self.case, done, f"{fault} at call {number}, {names[number - 1 + base]}")
        self.points[fault] = self.points.get(fault, 0) + count

    def fail_power(self, most: int, draw: random.Random) -> None:
        """Go through what the disk may hold when its power fails after each change."""
        status, log = self.child("", power.CALLS, "-y", "-s", "1000000")
        assert os.WEXITSTATUS(status) == DONE, self.wrong
        begin = next(number for number, line in enumerate(log) if "getpgid(" in line)
        disk, states = power.Disk(self.start), 0
        for step in disk.play(log[begin:], self.case):
            states += self._power_states(disk, most, draw, False, f"power fails after {step}")
        states += self._power_states(disk, most, draw, True, "power fails after the end")
        self.points["power"] = self.points.get("power", 0) + states

    def _power_states(self, disk: power.Disk, most: int, draw: random.Random, done: bool, when: str) -> int:
        count = 0
        for state in disk.states(draw, most):
            shutil.rmtree(self.work / "held", ignore_errors=True)
            power.write(state, self.work / "held")
            self.check(self.work / "held", done, when)
            count += 1
        return count

    def check(self, folder: Path, done: bool, when: str) -> None:
        """Note what doesn't hold in a folder, after the operation said it was done, or didn't come to say it."""
        registry = Registry(folder / "registry.json")
        allowed = [self.after] if done else [self.before, self.after]
        try:
            assert snapshot(registry) in allowed, "neither the old state nor the new"
            doctor(registry, fix=True)
            left = doctor(registry)
            assert not left, f"the doctor leaves {left[0]}"
            assert snapshot(registry) in allowed, "neither the old state nor the new, after the doctor"
            more = {str(p.relative_to(folder)) for p in folder.rglob("*")} - self.may_be
            assert not {p for p in more if not re.search(r"/\d{6}-", p)}, f"left: {more}"
        except (AssertionError, AdapterkitError) as error:
            self.wrong.append(f"{self.name}, {when}: {error}")


def catch_weak_writers(work: Path, every: int, states: int, draw: random.Random) -> None:
    """Raise where a writer that is known to be wrong gets through."""
    for writer in WEAK:
        campaign = Campaign(work / "weak", "rollback", writer)
        campaign.inject("kill", every)
        campaign.fail_power(states, draw)
        assert campaign.wrong, f"{writer.__name__} was not found out"
        found = f"found out {len(campaign.wrong)} times in {campaign.points}, first: {campaign.wrong[0][:150]}"
        print(f"{writer.__name__}: {found}", flush=True)


def run(every: int, states: int, operations: Iterable[str] = tuple(OPERATIONS)) -> dict[str, int]:
    """Go through all faults of all operations; return how many of each, or raise with what didn't hold."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        return _run(every, states, operations, Path(folder))


def _run(every: int, states: int, operations: Iterable[str], work: Path) -> dict[str, int]:
    draw, total = random.Random(0), dict[str, int]()
    catch_weak_writers(work, every, states, draw)
    for place, name in enumerate(operations):
        campaign, began = Campaign(work / "one", name), time.monotonic()
        for fault in FAULTS:
            campaign.inject(fault, every, place % every)  # elsewhere in each operation, where it is a cut
        campaign.fail_power(states, draw)
        print(f"{name}: {campaign.points}, {time.monotonic() - began:.0f} s", flush=True)
        assert not campaign.wrong, f"{len(campaign.wrong)} wrong:\n" + "\n".join(campaign.wrong[:10])
        for fault, count in campaign.points.items():
            total[fault] = total.get(fault, 0) + count
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only each so manyth call")
    parser.add_argument("--states", type=int, default=128, help="at most so many states of the disk after each change")
    parser.add_argument("--operations", default=",".join(OPERATIONS))
    args = parser.parse_args()
    if shutil.which("strace") is None:
        sys.exit("strace isn't installed")
    total = run(args.every, args.states, dict.fromkeys(args.operations.split(","), 0))
    print(f"{sum(total.values()) - total['power']} faults and {total['power']} power failures: {json.dumps(total)}")


if __name__ == "__main__":
    main()
