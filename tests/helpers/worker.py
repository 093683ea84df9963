"""Train with several strategies, by themselves or in several processes, and write what came of it: see test_processes.

python -m tests.helpers.worker JOBS.json RESULTS.json
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import accelerate
import safetensors.torch
import torch

from adapterkit import Base, Plan, Strategy
from adapterkit.evaluation.evaluate import metrics_plain
from adapterkit.execution import processes
from adapterkit.testing.worker import main
from adapterkit.training import steps, trunk_cache
from adapterkit.training.train import train
from adapterkit.watch import Watch
from adapterkit.workflows.run import prepare_run
from tests.helpers.files import ROOT


class Notes(Watch):
    """Keep what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, topic: str, text: str) -> None:
        self.said.append(f"{topic}: {text}")


class Sharding(accelerate.Accelerator):
    """Shard a model's blocks and the rest of it by FSDP2, which Accelerate does on devices other than the CPU."""

    def prepare(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or not isinstance(args[0], torch.nn.Module):
            return super().prepare(*args, **kwargs)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        from adapterkit.modules import blocks

        mesh = init_device_mesh("cpu", (self.num_processes,))
        for block in blocks(args[0].base_model).values():
            fully_shard(block, mesh=mesh)
        return fully_shard(args[0], mesh=mesh)


def trained(job: dict[str, Any]) -> dict[str, Any]:
    """Train as a job says; return losses, metrics and where the adapter's tensors are."""
    if job.get("shard"):
        steps.accelerate.Accelerator = Sharding  # type: ignore[misc]
    notes = Notes()
    put, filled = trunk_cache.CachedFeed.write, list[int]()

    def counted(kept: Any, indices: Any, *args: Any) -> None:
        if len(kept) > 4:  # fewer are a check
            filled.extend(indices)
        put(kept, indices, *args)

    trunk_cache.CachedFeed.write = counted  # type: ignore[method-assign]
    try:
        plan = Plan.resolve(job["plan"])
        if job.get("stranger"):
            plan = type(plan)(**{**vars(plan), "strategy": stranger(plan.strategy.learning_rate)})
        on = prepare_run(plan, base=Base.load(job["plan"]["base"]), watch=notes)
        found = train(on.base, on.task, plan.strategy, on.splits.sets, plan.training, about={"data": {}}, watch=notes)
    finally:
        trunk_cache.CachedFeed.write = put  # type: ignore[method-assign]
        steps.accelerate.Accelerator = accelerate.Accelerator  # type: ignore[misc]
    out = Path(job["out"])
    if processes.index() == 0:
        out.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(found.adapter.tensors, out)
    found.adapter.manifest |= {"strategy": {"name": plan.strategy_name}, "metrics": {}}  # as a run's is
    return {
        "losses": found.losses,
        "history": found.history,
        "metrics": metrics_plain(found.validation),
        "untouched": not on.base.changed_tensors(),
        "said": notes.said,
        "filled": len(filled),
        "format": sorted(found.adapter.files()),
    }


def stranger(rate: float) -> Strategy:
    """Return the strategy of the package in tests/strangers."""
    folder = ROOT / "tests" / "strangers" / "adapterkit-bitfit"
    sys.path.insert(0, str(next(folder.rglob("*.py")).parent))
    module = __import__(next(folder.rglob("*.py")).stem)
    kind = next(
        v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Strategy) and v is not Strategy
    )
    return kind(learning_rate=rate)


if __name__ == "__main__":
    main(trained)
