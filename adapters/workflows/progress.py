"""Progress of a run as people see it: bars and remarks in a terminal or a notebook."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import printable
from ..watch import Watch

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class TerminalWatch(Watch):
    """Print a run's remarks and draw its bars on the standard error."""

    def __init__(self) -> None:
        self.task: Any = None
        self.last: int | None = None  # the last epoch that was printed

    @functools.cached_property
    def console(self) -> Console:
        """The terminal, which a command without output on it doesn't import."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, markup=False)

    @functools.cached_property
    def progress(self) -> Progress:
        """The bars, which a command without any doesn't import."""
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *Progress.get_default_columns()[1:3],
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
            console=self.console,
            transient=True,
        )

    def note(self, topic: str, text: str) -> None:
        """Print a remark."""
        self.console.print(printable(f"{topic:<10} {text}"), soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        """Draw a bar while the block runs, where the standard error is a terminal, or with FORCE_COLOR."""
        if not (sys.stderr.isatty() or os.environ.get("FORCE_COLOR")):
            yield self
            return
        before = self.task
        task = self.task = self.progress.add_task(title, total=total, values="")
        self.progress.start()
        try:
            yield self
        finally:
            self.progress.remove_task(task)
            self.task = before
            if before is None:
                self.progress.stop()

    def advance(self, steps: int = 1, **values: float) -> None:
        """Move the bar, and show values such as the loss beside it."""
        if self.task is not None:
            self.progress.update(self.task, advance=steps, values=_values_text(values))

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        """Print an epoch's loss and validation metrics as a row of a table."""
        for line in epoch_lines(number, of, metrics, header=self.last is None or number != self.last + 1):
            self.console.print(printable(line), soft_wrap=True)
        self.last = number


class NotebookWatch(Watch):
    """Print a run's remarks under a notebook's cell, and draw its bars there; a bar goes when it is full."""

    def __init__(self) -> None:
        self.bars: list[Any] = []
        self.last: int | None = None  # the last epoch that was printed

    def note(self, topic: str, text: str) -> None:
        """Print a remark."""
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        tqdm.write(printable(f"{topic:<10} {text}"))

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        """Draw a bar while the block runs."""
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=title, leave=False) as bar:
            self.bars.append(bar)
            try:
                yield self
            finally:
                self.bars.pop()

    def advance(self, steps: int = 1, **values: float) -> None:
        """Move the bar, and show values such as the loss beside it."""
        if values:
            self.bars[-1].set_postfix_str(_values_text(values), refresh=False)
        self.bars[-1].update(steps)

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        """Print an epoch's loss and validation metrics as a row of a table."""
        from tqdm.auto import tqdm

        for line in epoch_lines(number, of, metrics, header=self.last is None or number != self.last + 1):
            tqdm.write(printable(line))
        self.last = number


def epoch_lines(number: int, of: int, metrics: Mapping[str, float], *, header: bool) -> list[str]:
    """Return an epoch's row of a table of metrics, with `header` below the names of the columns."""
    widths = {name: max(len(name), 8) for name in metrics}
    values = {name: "-" if number == 0 and math.isnan(value) else f"{value:.3f}" for name, value in metrics.items()}
    row = f"{f'{number}/{of}':<11}" + "  ".join(f"{text:>{widths[name]}}" for name, text in values.items())
    names = f"{'epoch':<11}" + "  ".join(f"{name:>{widths[name]}}" for name in metrics)
    return [names, row] if header else [row]


def auto_watch() -> Watch:
    """Return what shows progress here: in a notebook or on a terminal; elsewhere a silent watch."""
    if _in_notebook():
        return NotebookWatch()
    return TerminalWatch() if sys.stderr is not None and sys.stderr.isatty() else Watch()


def _in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this; IPython in a terminal is a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _values_text(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())
