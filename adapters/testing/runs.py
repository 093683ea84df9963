"""The rules about complete runs: in two processes, and after an interruption."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..adapter.adapter import Adapter
from ..options import plain
from ..settings import SavingOptions
from ..training.checkpoints import Checkpoints
from ..watch import Watch
from .bench import BATCH, Bench, Broken, NotTried, adapter_of, hidden_states, near, trained

SPREAD = 1e-3  # of the largest value: the tolerance between one process and two, which sum gradients in another order
PATIENCE = 180.0  # seconds for two processes
DIES = 4  # the step at which a run is stopped, in the middle of an epoch


def processes(bench: Bench, family: str) -> str:
    """Two processes learn what one learns from the same batches."""
    if family not in bench.pairs:
        launch([bench], family)
    results = bench.pairs[family]
    for rank, one in enumerate(results["each"]):
        if "error" in one:
            raise Broken(f"process {rank} ended with {one['error']}")
        if not one["untouched"]:
            raise Broken(f"process {rank} left the base changed")
    base = bench.base(family, still=True)
    alone = trained(base, bench.strategy, batch=BATCH)
    first, second = (torch.tensor(one["losses"]) for one in results["each"])
    near(second, first, 0.0, "losses of the two processes")
    loss = near(first, torch.tensor(alone.losses), SPREAD, "losses")
    with alone.adapter.attached(base):
        wanted = hidden_states(base)
    with Adapter.load(results["out"]).attached(base):
        return f"{loss}, {near(hidden_states(base), wanted, SPREAD, 'outputs')}"


def launch(benches: Sequence[Bench], family: str) -> None:
    """Train the strategies of benches in two processes, gloo on the CPU, all in one launch; results go to the benches.

    Raises `NotTried` where a strategy's class can't be imported by name, and `Broken` where the processes fail.
    """
    folder = benches[0].folder
    jobs = []
    for number, bench in enumerate(benches):
        kind = type(bench.strategy)
        if "<locals>" in kind.__qualname__ or kind.__module__ == "__main__":
            raise NotTried(f"another process can't import {kind.__module__}.{kind.__qualname__}")
        jobs.append(
            {
                "class": f"{kind.__module__}:{kind.__qualname__}",
                "options": plain(bench.strategy),
                "base": str(bench.path(family, still=True)),
                "out": str(folder / f"two-{family}-{number}"),
            }
        )
    (folder / "jobs.json").write_text(json.dumps(jobs))
    files = [str(folder / name) for name in ("jobs.json", "results.json")]
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "adapterkit.testing.worker", *files]
    started = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        stderr = started.communicate(timeout=PATIENCE)[1]
    except BaseException as error:  # else both wait for each other
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Broken(f"two processes did not end within {PATIENCE:.0f} s") from None
        raise
    if started.returncode:
        errors = [line for line in stderr.splitlines() if "Error" in line] or ["?"]
        raise Broken(f"two processes ended with exit code {started.returncode}: {errors[-1].strip()}")
    each = json.loads(Path(files[1]).read_text())
    for number, (bench, job) in enumerate(zip(benches, jobs, strict=True)):
        bench.pairs[family] = {"out": job["out"], "each": [one[number] for one in each]}


class _Dies(Watch):
    """Interrupt a run at a step."""

    steps = 0

    def advance(self, steps: int = 1, **values: float) -> None:
        self.steps += "loss" in values
        if self.steps == DIES:
            raise KeyboardInterrupt


def resuming(bench: Bench, family: str) -> str:
    """A run that was interrupted and resumed from its checkpoint ends in the same bytes."""
    wanted, losses = adapter_of(bench, family), bench.seen(family).losses
    runs = bench.folder / f"{family}-runs"

    def run(watch: Watch | None = None, *, resume: bool = False) -> Any:
        store = Checkpoints(runs, SavingOptions(save_steps=1), {}, b"", watch or Watch())
        with contextlib.closing(store):
            return trained(bench.base(family), bench.strategy, checkpoints=store, resume=resume, watch=watch)

    with contextlib.suppress(KeyboardInterrupt):
        run(_Dies())
        raise NotTried(f"a run has fewer than {DIES} steps")
    resumed = run(resume=True)
    near(torch.tensor(resumed.losses), torch.tensor(losses[-len(resumed.losses) :]), 0.0, "losses")
    for name, t in wanted.tensors.items():
        near(resumed.adapter.tensors[name], t, 0.0, name)
    if resumed.adapter.files() != wanted.files():
        raise Broken("the manifests differ")
    return f"stopped at step {DIES} of {len(losses)}, ended in the same bytes"
