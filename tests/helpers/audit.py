"""What Python itself says that it does: files opened, modules imported, code run, processes and sockets made."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

RUNS = ("subprocess.", "socket.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile", "pty.")
CHANGES = (
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_LISTENERS: list[list[tuple[str, tuple[Any, ...]]]] = []
_INSTALLED: list[bool] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    for heard in _LISTENERS:
        heard.append((event, args))


@contextmanager
def heard() -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """Yield the list of audit events that happen inside, by any thread."""
    if not _INSTALLED:  # a hook can't be taken out again, so there is one, and it asks who listens
        sys.addaudithook(_hook)
        _INSTALLED.append(True)
    events: list[tuple[str, tuple[Any, ...]]] = []
    _LISTENERS.append(events)
    try:
        yield events
    finally:
        _LISTENERS[:] = [one for one in _LISTENERS if one is not events]


def changes_outside(events: list[tuple[str, tuple[Any, ...]]], folder: str) -> list[str]:
    """Return what was written, made or removed outside `folder`, or run as a process or a connection anywhere."""
    found = []
    for event, args in events:
        path = args[0] if args else ""
        writes = (event == "open" and args[2] & _WRITES) or event.startswith(CHANGES)
        away = not isinstance(path, int) and not str(path).startswith(folder)  # a number is a file that is open already
        if event.startswith(RUNS) or (writes and away):
            found.append(f"{event} {path}")
    return found
