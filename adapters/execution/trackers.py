"""Log a run to experiment trackers: TensorBoard, Weights & Biases, MLflow, and others that Accelerate supports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OptionError, unknown
from ..watch import Watch
from . import processes

_EVERY = 10  # steps between two values of the loss


class Tracked(Watch):
    """Pass all callbacks to another watch, and log measurements to trackers."""

    def __init__(self, watch: Watch, trackers: Sequence[Any]) -> None:
        self.watch, self.trackers = watch, trackers
        self.step = 0

    def note(self, topic: str, text: str) -> None:
        """Pass a remark on."""
        self.watch.note(topic, text)

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        """Pass a bar on, and receive its steps."""
        with self.watch.bar(title, total):
            yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        """Pass steps on, and log every tenth loss and learning rate."""
        self.watch.advance(steps, **values)
        if "loss" in values:
            self.step += 1
            if self.step % _EVERY == 1:
                self._log({f"train/{name}": value for name, value in values.items()})

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        """Pass an epoch on, and log its metrics."""
        self.watch.epoch(number, of, metrics)
        values = {f"validation/{name}": value for name, value in metrics.items()}
        if number == 0:  # before training there is no loss
            del values["validation/train_loss"]
        self._log({"epoch": number, **values})

    def result(self, report: Mapping[str, Any]) -> None:
        """Pass a report on, and log it."""
        self.watch.result(report)
        values = {key: report[key] for key in ("trained_parameters", "adapter_bytes", "base_bytes", "seconds")}
        for split, metrics in report["metrics"].items():
            values |= {f"final/{split}/{key}": value for key, value in metrics.items() if key != "intervals"}
        self._log(values)

    def _log(self, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(dict(values), step=self.step)


def check_trackers(names: Sequence[str]) -> dict[str, Any]:
    """Return Accelerate's trackers by name.

    Raises `OptionError` where there is none of a name, or its package isn't installed.
    """
    if not names:
        return {}
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    trackers = {str(name): kind for name, kind in LOGGER_TYPE_TO_CLASS.items()}
    available = sorted(kind.value for kind in get_available_trackers())
    for name in names:
        if name not in trackers:
            raise OptionError(f"--report-to {name}: {unknown('tracker', name, trackers)}")
        if name not in available:
            package = "'adapterkit[tensorboard]'" if name == "tensorboard" else name
            raise OptionError(
                f"--report-to {name}: its package isn't installed; installed: {', '.join(available) or 'none'}; "
                f"pip install {package}"
            )
    return trackers


@contextlib.contextmanager
def tracked(names: Sequence[str], folder: Path, run: str, about: Mapping[str, Any], watch: Watch) -> Iterator[Watch]:
    """Log a run with the options `about` to the trackers of these names; their files are in `folder`."""
    if not names or processes.index():
        yield watch
        return
    classes = check_trackers(names)
    trackers = []
    for name in names:
        needs_folder = classes[name].requires_logging_directory
        folder.mkdir(parents=True, exist_ok=True)
        trackers.append(classes[name](run, logging_dir=str(folder)) if needs_folder else classes[name](run))
    flat = {key: value if isinstance(value, int | float | str) else str(value) for key, value in about.items()}
    try:
        for tracker in trackers:
            if hasattr(tracker, "start"):
                tracker.start()
            tracker.store_init_configuration(flat)
        yield Tracked(watch, trackers)
    finally:
        for tracker in trackers:
            tracker.finish()
