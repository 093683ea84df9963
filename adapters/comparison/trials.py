"""The trainings of a comparison, each a folder that is written at once, so that a killed study resumes."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapter.adapter import Adapter
from ..adapter.manifest import TENSORS
from ..discovery import find_plugin
from ..errors import AdapterError, printable
from ..evaluation.evaluate import metrics_plain
from ..execution.stop_signals import StoppedError
from ..io.atomic import json_bytes, new_folder, sha256, write_file
from ..watch import Watch
from ..workflows.meters import Memory
from ..workflows.plan import Plan
from ..workflows.run import RunSetup, about_run

if TYPE_CHECKING:
    from ..features.shared_states import SharedStates
    from ..training.train import Trained

TRIAL, MEASURED, RATES = "trial.json", "measured.json", "rates.json"


class TimeOverError(Exception):
    """The time of a comparison is over."""


@dataclass(frozen=True)
class Trial:
    """A training with a seed: its metrics, costs and adapter; or the error that ended it."""

    strategy: str
    seed: int
    options: dict[str, Any]  # of run.yaml
    folder: Path | None = None
    error: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)  # on the validation rows
    draws: list[float] = field(default_factory=list)  # the metric that ranks, in each resample of these rows
    history: list[dict[str, float | None]] = field(default_factory=list)
    seconds: float = 0.0
    saved: float = 0.0  # seconds that shared hidden states saved
    memory: int = 0
    nbytes: int = 0
    parameters: int = 0

    def adapter(self) -> Adapter:
        """Read the trained adapter."""
        assert self.folder is not None
        return Adapter.load(self.folder)


@dataclass
class Study:
    """A folder of trials on the same rows and base."""

    folder: Path
    on: RunSetup
    shared: SharedStates
    watch: Watch
    until: float = float("inf")  # of time.monotonic

    def trial(self, plan: Plan, *, again: bool = False) -> Trial:
        """Return the trial of a plan: the stored one, or that of a training now.

        That it is stored is a remark, unless it is read `again`. Whatever a strategy raises, of memory too, is the
        trial's error; a signal ends the study.
        """
        path = self.folder / self._key(plan)
        if (stored := self._stored(path)) is not None:
            if not again:
                self.watch.note("", f"{stored.strategy}, seed {stored.seed}: trained before, from {path}")
            return stored
        values = plan.values()
        if time.monotonic() > self.until:
            return Trial(plan.strategy_name, plan.training.seed, values, error="not started: the time is over")
        try:
            return self._trained(plan, path)
        except (StoppedError, KeyboardInterrupt):
            raise
        except TimeOverError:
            error = "stopped: the time is over"
        except Exception as raised:  # a third-party strategy may raise anything, and memory ends as RuntimeError
            error = _one_line(raised)
        return Trial(plan.strategy_name, plan.training.seed, values, error=error)

    def _key(self, plan: Plan) -> str:
        on = self.on
        identity = {
            **{key: value for key, value in plan.values().items() if key != "name"},
            "data": on.splits.describe(),
            "base": [on.base.fingerprint, str(on.base.model.dtype), on.base.tokenizer_digest],
            "task": on.task.recorded(),
            "plugin": find_plugin(plan.strategy_name).version,
        }
        return f"{plan.strategy_name}-{plan.training.seed}-{sha256(json_bytes(identity))[:12]}"

    def _stored(self, path: Path) -> Trial | None:
        try:
            values = json.loads((path / TRIAL).read_bytes())
            trial = Trial(**values, folder=path)
            trial.adapter()
        except (OSError, ValueError, TypeError, AdapterError):
            shutil.rmtree(path, ignore_errors=True)  # an incomplete one of a full disk; it is trained again
            return None
        return trial

    def _trained(self, plan: Plan, path: Path) -> Trial:
        from ..training.train import train

        on, before = self.on, self.shared.saved
        memory = Memory(on.base.nbytes)
        trained = train(
            on.base,
            on.task,
            plan.strategy,
            on.splits.sets,
            plan.training,
            about=about_run(plan, self.on.splits),
            auto_rate=plan.auto_rate,
            shared=self.shared,
            watch=_Deadline(self.watch, self.until),
        )
        return self._written(plan, path, trained, memory.growth(), self.shared.saved - before)

    def _written(self, plan: Plan, path: Path, trained: Trained, memory: int, saved: float) -> Trial:
        task = self.on.task
        validation = task.metrics(trained.predictions, self.on.splits["validation"])
        metrics = metrics_plain(validation)
        adapter = trained.adapter
        adapter.manifest["strategy"]["options"] |= {"learning_rate": trained.learning_rate}
        adapter.manifest |= {"parameters": trained.trained_parameters, "metrics": {"validation": metrics}}
        files = adapter.files()
        trial = Trial(
            strategy=plan.strategy_name,
            seed=plan.training.seed,
            options=plan.values() | {"learning_rate": trained.learning_rate},
            metrics=metrics,
            draws=[float(value) for value in validation.draws.get(task.best, [])],
            history=[dict(epoch) for epoch in trained.history],
            seconds=trained.seconds + saved,
            saved=saved,
            memory=memory,
            nbytes=len(files[TENSORS]),
            parameters=trained.trained_parameters,
        )
        values = {key: value for key, value in vars(trial).items() if key != "folder"}
        with new_folder(path) as temporary:
            for name, data in {**files, TRIAL: json_bytes(values)}.items():
                (temporary / name).write_bytes(data)
        return Trial(**json.loads(json_bytes(values)), folder=path)

    # ---- the last rows

    def measured(self, trial: Trial, file: str, measure: Callable[[Adapter], Any]) -> Any:
        """Return what `measure` returned for a trial's adapter, stored in a file beside it."""
        assert trial.folder is not None
        path = trial.folder / file
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_bytes())
        values = measure(trial.adapter())
        write_file(path, json_bytes(values))
        return json.loads(json_bytes(values))


class _Deadline(Watch):
    """Raise `TimeOverError` in a training that lasts beyond a time; bars are drawn, remarks and epochs dropped."""

    def __init__(self, watch: Watch, until: float) -> None:
        self.watch, self.until = watch, until
        self._bar: Watch = watch

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Watch]:
        with self.watch.bar(title, total) as self._bar:
            yield self

    def advance(self, steps: int = 1, **values: float) -> None:
        self._bar.advance(steps, **values)
        if time.monotonic() > self.until:
            raise TimeOverError

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        if number < of and time.monotonic() > self.until:
            raise TimeOverError


def _one_line(error: Exception) -> str:
    """Return an error's message in one line, with its type unless it is one of adapterkit's."""
    from ..errors import AdapterkitError

    text = printable(" ".join(str(error).split()))[:300]
    if not isinstance(error, AdapterkitError):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return f"out of memory: {text}" if _is_of_memory(error) or _is_of_memory(error.__cause__) else text


def _is_of_memory(error: BaseException | None) -> bool:
    """Return whether memory ran out; on a CPU, torch raises a RuntimeError then."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
