"""SIGTERM and SIGINT ask a training to stop where it can go on later; a second one ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from ..errors import TrainingError
from .processes import launched

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ONE = 1.0  # seconds in which a launcher's signal, handed on, and the terminal's own are one


class StoppedError(TrainingError):
    """A training was asked to stop, and did; `exit_code` is the shell's for the signal."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Stop:
    """Which signal asked to stop, or None."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; end the process at a second one."""
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
        elif launched() == 1 or time.monotonic() - self._since > _ONE:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def heard() -> Iterator[Stop]:
    """Note signals, inside, instead of ending; nothing is heard in a thread other than the main one."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.hear) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
