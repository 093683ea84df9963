"""What measures a beginning of a run: time, step by step, and memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

from ..watch import Watch


class Clock(Watch):
    """Time every step of every bar, and keep remarks to itself; bars are drawn by another watch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.notes: dict[str, str] = {}
        self.laps: dict[str, list[float]] = {}

    def note(self, topic: str, text: str) -> None:
        """Keep a remark."""
        self.notes[topic] = text

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        """Have a bar drawn, and start the clock."""
        with self.watch.bar(title, total) as self._bar:
            self._title, self._last = title, time.perf_counter()
            yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        """Note the seconds since the step before."""
        now = time.perf_counter()
        self.laps.setdefault(self._title, []).append(now - self._last)
        self._last = now
        self._bar.advance(steps, **values)


class Memory:
    """How far memory grows from now on: the GPU's where there is one, else what the process has of the machine's."""

    _STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self, loaded: int) -> None:
        """Begin; `loaded` are the bytes of the base, which comes to a GPU only later."""
        self.on_gpu, self._loaded = torch.cuda.is_available(), loaded
        gc.collect()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return
        self._before, self._linux = _resident(), True
        try:
            self._RESET.write_text("5")  # the peak that Linux knows of is counted from here
        except OSError:
            self._linux = False

    def growth(self) -> int:
        """Return by how many bytes memory has grown at most; where the system can't tell, by how many it has now."""
        if self.on_gpu:
            return max(0, torch.cuda.max_memory_allocated() - self._loaded)
        return max(0, (self._peak() if self._linux else _resident()) - self._before)

    def _peak(self) -> int:
        lines = self._STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _resident() -> int:
    found: int = psutil.Process().memory_info().rss
    return found
