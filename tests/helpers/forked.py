"""Processes of Python that begin with torch and transformers imported: forks of one that imported them once.

The imports of a process take many seconds, more than what most tests do in one. `Popen` and `run` are those of
subprocess, for commands `python -m MODULE` and `python -c CODE`. Not for tests of imports, nor of what is read from
the environment while importing (HF_ENDPOINT, HF_HUB_CACHE, HF_DATASETS_CACHE).
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
MODULES = ("torch", "transformers", "transformers.models.bert.modeling_bert", "datasets", "accelerate", "peft")
MODULES += (
    "sklearn.model_selection",
    "sklearn.metrics",
    "rich.progress",
    "torch.distributed.fsdp",
    "torch.distributed.run",
)
MODULES += tuple(f"adapterkit.{name}" for name in ("base.base", "training.train", "workflows.run", "pool.pool", "cli"))
_SUBREAPER = 36  # prctl: orphans below this process become its children


class Template:
    """A process that forks for others; it ends with the socket to it."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours

    @classmethod
    def started(cls) -> Template:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.helpers.forked", str(theirs.fileno())]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # as `adapt` sets them
        env = {**os.environ, **quiet, "PYTHONPATH": str(ROOT)}
        subprocess.Popen(command, env=env, cwd=ROOT, pass_fds=[theirs.fileno()], **options)
        theirs.close()
        return cls(ours)

    def fork(self, job: dict[str, Any], handles: list[int]) -> int:
        """Return the process id of a child of this process that does the job."""
        prctl = ctypes.CDLL(None).prctl
        prctl(_SUBREAPER, 1)
        try:
            data = json.dumps(job).encode()
            self._socket.sendall(len(data).to_bytes(8, "big"))
            socket.send_fds(self._socket, [data[:1]], handles)
            self._socket.sendall(data[1:])
            return int.from_bytes(_received(self._socket, 8), "big")
        finally:
            prctl(_SUBREAPER, 0)


_template = functools.cache(Template.started)


class Popen(subprocess.Popen[Any]):
    """A process that is forked, once its template is there; without fork it is any process.

    With `launches`, what it starts by torch's launcher is forked from it in turn.
    """

    def __init__(self, args: Any, *, launches: bool = False, template: Template | None = None, **kw: Any) -> None:
        self._launches, self._from = launches, template
        super().__init__(args, **kw)

    if sys.platform == "linux":

        def _execute_child(self, *args: Any) -> None:  # the place where subprocess forks and executes
            given = inspect.signature(super()._execute_child).bind(*args).arguments  # type: ignore[misc]
            pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            env = os.environ if given["env"] is None else given["env"]
            job = {
                "command": [str(part) for part in given["args"]],
                "cwd": str(given["cwd"] or os.getcwd()),
                "env": dict(env),
                "session": given["start_new_session"],
                "launches": self._launches,
            }
            handles = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
            handles = [handle if handle != -1 else number for number, handle in enumerate(handles)]
            self.pid = (self._from or _template()).fork(job, handles)
            self._child_created = True
            self._close_pipe_fds(*(given[name] for name in pipes))  # type: ignore[attr-defined]


def run(command: Any, *, launches: bool = False, check: bool = False, **kw: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as `subprocess.run` does, with its output captured as text."""
    with Popen(command, launches=launches, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw) as process:
        try:
            stdout, stderr = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    if check:
        done.check_returncode()
    return done


# ---- in the template


def _received(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := channel.recv(count - len(data))):
        data += part
    return data


def serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for every request; return in the forks, with their job. The process exits once nobody asks any more."""
    while size := int.from_bytes(_received(channel, 8), "big"):
        data, handles, _, _ = socket.recv_fds(channel, 1, 3)
        job: dict[str, Any] = json.loads(data + _received(channel, size - 1))
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            if child := os.fork():
                os.write(writing, child.to_bytes(8, "big"))
                os._exit(0)  # the child's parent is then the process that asked
            for number, handle in enumerate(handles):
                os.dup2(handle, number)
            os.closerange(3, max(reading, writing, *handles, channel.fileno()) + 1)
            channel.detach()
            return job
        os.waitpid(between, 0)
        for handle in (writing, *handles):
            os.close(handle)
        channel.sendall(os.read(reading, 8))
        os.close(reading)
    os._exit(0)


def begin(job: dict[str, Any], path: list[str]) -> None:
    """Be the process that a job asks for, as far as Python's start makes it one."""
    if job["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    random.seed()
    first, *arguments = job["command"]
    while arguments and arguments[0] in ("-u",):
        arguments.pop(0)
    more = [part for part in job["env"].get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = ["" if arguments[0] == "-c" else os.getcwd(), *more, *path]
    importlib.invalidate_caches()
    if job["launches"]:
        _fork_what_is_launched(path)
    if first != sys.executable:  # the script of the package
        arguments = ["-m", "adapterkit.cli", *arguments]
    kind, what, *rest = arguments
    if kind == "-m":
        sys.argv = [what, *rest]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest]
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))
    else:
        sys.argv = [kind, what, *rest]
        sys.path[0] = str(Path(kind).parent)
        runpy.run_path(kind, run_name="__main__")


def _fork_what_is_launched(path: list[str]) -> None:
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        os.setsid()
        begin(serve(theirs), path)
        sys.exit()
    theirs.close()
    subprocess_handler.Popen = functools.partial(Popen, template=Template(ours))  # type: ignore[assignment,misc]


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    path = [part for part in sys.path[1:] if part != str(ROOT)]
    for name in MODULES:
        importlib.import_module(name)
    names = {Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")}
    assert threading.active_count() == len(names - {"jemalloc_bg_thd"}) == 1, names  # a fork copies no other thread
    gc.collect()
    gc.freeze()
    begin(serve(channel), path)


if __name__ == "__main__":
    main()
