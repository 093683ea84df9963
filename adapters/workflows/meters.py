"""Meters of the first steps of a run: time by step, and memory."""

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
    """Time every step of every bar, and collect remarks; another watch draws the bars."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.notes: dict[str, str] = {}
        self.laps: dict[str, list[float]] = {}

    def note(self, topic: str, text: str) -> None:
        """Collect a remark."""
        self.notes[topic] = text

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        """Draw a bar with the other watch, and start the clock."""
        with self.watch.bar(title, total) as self._bar:
            self._title, self._last = title, time.perf_counter()
            yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        """Record the seconds since the last step."""
        now = time.perf_counter()
        self.laps.setdefault(self._title, []).append(now - self._last)
        self._last = now
        self._bar.advance(steps, **values)


class Memory:
    """The growth of memory from now on: of the GPU, or without one of the process."""

    _STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self, loaded: int) -> None:
        """Start; `loaded` are the bytes of the base, which is moved to a GPU later."""
        self.on_gpu, self._loaded = torch.cuda.is_available(), loaded
        gc.collect()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return
        self._before, self._linux = _resident(), True
        try:
            self._RESET.write_text("5")  # reset the peak that Linux reports
        except OSError:
            self._linux = False

    def growth(self) -> int:
        """Return the bytes of the peak growth; on systems without a peak, of the growth now."""
        if self.on_gpu:
            return max(0, torch.cuda.max_memory_allocated() - self._loaded)
        return max(0, (self._peak() if self._linux else _resident()) - self._before)

    def _peak(self) -> int:
        lines = self._STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _resident() -> int:
    resident: int = psutil.Process().memory_info().rss
    return resident
