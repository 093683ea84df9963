"""What a GPU does, and how much of it training takes: throughput, share of the matrix-product ceiling, peak memory.

The ceiling is the best of some large matrix products in bf16. A step of training is counted as 2 operations a parameter
and token forward, as many backward for the activations, and as many for the weights that learn (Kaplan et al. 2020,
arXiv:2001.08361). On a machine without a GPU it measures the CPU, to be tried out there.

    python benchmarks/gpu.py --figures .gpu --update docs/explanation/gpu.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from adapterkit import Base, Plan
from adapterkit.execution.precision import precision
from adapterkit.training.accelerate_setup import accelerator_for
from adapterkit.training.fit import fitted
from adapterkit.training.inputs import batches_of, feeds_of
from adapterkit.training.stages import Prepared, Training
from adapterkit.training.steps import stepping
from adapterkit.training.train import build_model
from adapterkit.watch import Watch
from adapterkit.workflows.run import prepare_run

STRATEGIES = ("head-only", "layerwise", "lora", "full")
TOKENS = 128


def on_gpu() -> bool:
    return torch.cuda.is_available()


def timed(step: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds of a step, once it has been made."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        step()
        if on_gpu():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def ceiling(sizes: tuple[int, ...]) -> float:
    """Return the most operations a second of a product of two square bf16 matrices."""
    device = "cuda" if on_gpu() else "cpu"
    best = 0.0
    for n in sizes:
        a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * n**3 / timed(lambda a=a, b=b: a @ b, 10))
    return best


def blocks_below(model: Any, learning: set[int]) -> tuple[int, int]:
    """Return how many parameters of linear maps a token passes, and how many of them need gradients."""
    through, backward, seen = 0, 0, False
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            seen = seen or any(id(p) in learning for p in module.parameters())
            through += module.weight.numel()
            backward += module.weight.numel() if seen else 0
    return through, backward


def measured(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Make steps of a strategy on rows that fill their tokens, with nothing cached."""
    rows = "".join(json.dumps({"text": "word " * 3 * TOKENS, "label": i % 2}) + "\n" for i in range(4 * batch))
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write(rows)
        file.flush()
        values = {"strategy": name, "train_file": file.name, "validation_file": file.name, "max_seq_length": TOKENS}
        plan = Plan.resolve({**values, "cache_trunk": "off", "per_device_train_batch_size": batch, "head": "model"})
        on = prepare_run(plan, base=Base.load("minilm"))
    mixed = precision("auto")
    with on.base.locked(), fitted(on.base, plan.strategy) as fit:
        run = Prepared(on.base, on.task, plan.strategy, fit, on.splits.sets, plan.training, Watch())
        target = build_model(run)
        accelerator = accelerator_for(plan.training, mixed)
        feeds = feeds_of(run, target.model)
        if on_gpu():
            torch.cuda.reset_peak_memory_stats()
        with stepping(Training.start(run, target), accelerator, feeds) as steps:
            optimizer = steps.optimizer()
            schedule = steps.schedule(optimizer, 10_000)
            some = steps.batch(next(iter(batches_of(feeds["train"], plan.training, 1))))
            seconds = timed(lambda: steps.learn([some], optimizer, schedule, Watch()), rounds)
        learning = set(map(id, target.parameters))
        through, backward = blocks_below(target.model, learning)
        trained = sum(p.numel() for p in target.parameters if p.ndim > 1)
        peak = torch.cuda.max_memory_allocated() if on_gpu() else 0
    tokens = batch * TOKENS
    work = 2 * tokens * (through + backward + min(trained, backward))
    return {"tokens": tokens / seconds, "work": work / seconds, "peak": peak, "precision": mixed.name}


def lines(device: dict[str, Any], figures: Path | None) -> Iterator[str]:
    yield f"{device['device']}; torch {torch.__version__}; {device['batch']} rows of {TOKENS} tokens a step, minilm.\n"
    yield f"Matrix products in bf16: {device['ceiling'] / 1e12:.1f} T operations a second.\n"
    yield "| strategy | tokens a second | T operations a second | of the ceiling | peak memory, MB |"
    yield "|---|---|---|---|---|"
    for name, row in device["strategies"].items():
        share = row["work"] / device["ceiling"]
        yield f"| {name} | {row['tokens']:,.0f} | {row['work'] / 1e12:.2f} | {share:.1%} | {row['peak'] / 1e6:,.0f} |"
    for part in ("tests.txt", "fsdp.txt") if figures else ():
        yield f"\n```\n{(figures / part).read_text().strip()}\n```" if figures and (figures / part).exists() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256 if on_gpu() else 8)
    parser.add_argument("--rounds", type=int, default=20 if on_gpu() else 2)
    parser.add_argument("--sizes", default="4096,8192" if on_gpu() else "1024", help="of the matrices")
    parser.add_argument("--figures", type=Path, help="the folder that gpu.sh wrote")
    parser.add_argument("--update", type=Path, help="write this page")
    args = parser.parse_args()
    device = {
        "device": torch.cuda.get_device_name() if on_gpu() else "CPU",
        "batch": args.batch,
        "ceiling": ceiling(tuple(int(n) for n in args.sizes.split(","))),
        "strategies": {name: measured(name, args.batch, args.rounds) for name in STRATEGIES},
    }
    text = "\n".join(lines(device, args.figures))
    print(text)
    if args.update:
        args.update.write_text(f"# On a GPU\n\nWritten by `benchmarks/gpu.sh`.\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
