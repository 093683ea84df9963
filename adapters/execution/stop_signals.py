"""SIGTERM and SIGINT stop a training at its next step, with a checkpoint; a second signal ends the process."""

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
_SAME_SIGNAL = 1.0  # seconds within which the terminal's signal and the one that a launcher passes on count as one


class StoppedError(TrainingError):
    """A training was stopped by a signal; `exit_code` is the shell's for that signal."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number

    def __reduce__(self) -> tuple[type[StoppedError], tuple[int, str]]:
        return StoppedError, (self.exit_code - 128, str(self))


class Stop:
    """The first signal received, or None."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note a first signal; end the process at a second one."""
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
        elif launched() == 1 or time.monotonic() - self._since > _SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def signals_noted() -> Iterator[Stop]:
    """Note signals, inside, in place of ending the process; only the main thread receives any."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
