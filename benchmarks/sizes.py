"""What adapters weigh, and what making them smaller costs: sizes and test accuracy, before and after.

    python benchmarks/sizes.py --dataset DATA/sentiment --out sizes.json --figures docs/figures/sizes.json

For each seed, one full fine-tune is trained and then saved in every encoding; head-only and LoRA are there to compare.
What `--out` holds already isn't measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages
import torch

from adapterkit import Adapter, Base, Plan, Registry, run
from adapterkit.convert.compress import compress_and_measure
from adapterkit.workflows.run_rows import load_run_splits

TRAINED: dict[str, dict[str, Any]] = {
    "head-only, transformers' head": {"strategy": "head-only", "head": "model"},
    "head-only, probe": {"strategy": "head-only"},
    "lora r=8, query and value": {"strategy": "lora", "r": 8, "target_modules": "query,value"},
    "lora r=8, all linear maps": {"strategy": "lora", "r": 8, "target_modules": "all-linear"},
    "full": {"strategy": "full"},
}
ENCODINGS = ("exact", "bf16", "1bit", "rank:8")
BOUNDS = {  # most bytes, as a number of bytes or as a share of the base
    "head-only, transformers' head": 10_240,
    "head-only, probe": 32_768,
    "lora r=8, query and value": 0.0035,
    "full, exact": 0.65,
    "full, 1bit": 1 / 25,
}
MOST_LOST = {"full, exact": 0.0, "full, 1bit": 0.005}
"""The most accuracy that an encoding may cost."""


def measure(args: argparse.Namespace, seed: int, base: Base, figures: dict[str, Any]) -> Iterator[None]:
    """Put into `figures` what it lacks of a seed's figures, and yield after each."""
    common = {"dataset": str(args.dataset), "base": args.base, "num_train_epochs": args.epochs, "seed": seed}
    common |= {"max_train_samples": args.limit} if args.limit else {}
    missing = [encoding for encoding in ENCODINGS if f"full, {encoding}" not in figures]
    for name, values in TRAINED.items():
        if name in figures and not (name == "full" and missing):
            continue
        with tempfile.TemporaryDirectory() as folder:
            plan = Plan.resolve({**common, **values})
            report = run(plan, Registry(Path(folder) / "registry.json"), base=base)
        test = report.metrics["test"]
        figures[name] = {"bytes": report.adapter_bytes, "after": test["accuracy"], "n": test["n"]}
        print(f"# seed {seed}, {name}: {figures[name]}", flush=True)
        yield
    rows = load_run_splits(plan.data, plan.training.seed, report.adapter.task).sets if missing else {}
    splits = {split: rows[split] for split in ("train", "test") if rows}
    for encoding in missing:
        began = time.process_time()
        encoded = compress_and_measure(base, report.adapter, encoding, splits)
        stated = encoded.manifest["encoding"]
        name = f"full, {encoding}"
        figures[name] = {"bytes": stated["after"]["bytes"], "seconds": time.process_time() - began}
        for when in ("before", "after"):
            figures[name][when] = stated[when]["metrics"]["test"]["accuracy"]
        figures[name]["identical"] = identical(base, report.adapter, encoded)
        print(f"# seed {seed}, {name}: {figures[name]}", flush=True)
        yield


def identical(base: Base, one: Adapter, other: Adapter) -> bool:
    """Return whether two adapters hold the same tensors, bit for bit, once they are decoded."""
    a, b = one.decoded(base).tensors, other.decoded(base).tensors
    return a.keys() == b.keys() and all(t.dtype == b[name].dtype and torch.equal(t, b[name]) for name, t in a.items())


def row(name: str, seeds: list[dict[str, Any]], base_bytes: int) -> list[str]:
    most, after = max(one["bytes"] for one in seeds), [one["after"] for one in seeds]
    accuracy = f"{statistics.mean(after):.4f}"
    lost = [one["before"] - one["after"] for one in seeds if "before" in one]
    if lost:
        each = ", ".join(f"{-100 * x + 0:+.2f}" for x in lost)
        accuracy += f" ({each} points)"
    same = {True: "yes", False: "no"}[all(one["identical"] for one in seeds)] if lost else ""
    times = [one["seconds"] for one in seeds if "seconds" in one]
    seconds = f"{statistics.median(times):.0f}" if times else ""
    verdict = judged(name, seeds, most, base_bytes)
    return [name, f"{most:,}", f"{most / base_bytes:.3%}", accuracy, same, seconds, verdict]


def judged(name: str, seeds: list[dict[str, Any]], most: int, base_bytes: int) -> str:
    """Return the target, and by how much it was missed."""
    if name not in BOUNDS:
        return ""
    bound = BOUNDS[name]
    limit, target = (bound * base_bytes, f"{bound:.2%}") if isinstance(bound, float) else (bound, f"{bound:,} bytes")
    parts = [f"at most {target}: " + ("held" if most <= limit else f"missed by {most / limit - 1:.0%}")]
    if name in MOST_LOST:
        lost = statistics.mean(one["before"] - one["after"] for one in seeds)
        allowed = MOST_LOST[name]
        held = "held" if lost <= allowed + 1e-9 else f"missed by {100 * (lost - allowed):.2f} points"
        parts.append(f"at most {100 * allowed:.1f} points lost on the mean: {held}")
    return "; ".join(parts)


def table(figures: dict[str, dict[str, dict[str, Any]]], base: Base, args: argparse.Namespace) -> dict[str, Any]:
    """Return the table that the page shows: its titles, cells and note."""
    seeds = [figures[seed] for seed in sorted(figures)]
    titles = "adapter | bytes, the most of the seeds | of the base | test accuracy, mean (each seed's change)"
    cut = f"{args.limit:,} training rows drawn at random (`--limit`), " if args.limit else ""
    return {
        "titles": f"{titles} | same bits | CPU seconds | target".split(" | "),
        "rows": [row(name, [one[name] for one in seeds], base.nbytes) for name in seeds[0]],
        "note": f"Data set `{args.dataset.name}`, {cut}{args.epochs} epochs, {seeds[0]['full']['n']:,} test rows, "
        f"seeds {', '.join(sorted(figures))}; base `{args.base}`, {base.nbytes:,} bytes in fp32; every other "
        "option at its default. CPU seconds are those of encoding and both measurements, the median, on one thread.",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="a folder of labelled texts")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="train on no more rows than this")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--figures", type=Path, help="write the table as JSON, for benchmarks/figures.py")
    parser.add_argument("--out", type=Path, help="keep the figures here as JSON, and go on from what it holds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = Base.load(args.base)
    figures = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    for seed in args.seeds.split(","):
        for _ in measure(args, int(seed), base, figures.setdefault(seed, {})):
            if args.out:
                args.out.write_text(json.dumps(figures, indent=2))
    tables = {"sizes": table(figures, base, args)}
    print(f"\n{pages.rendered(tables['sizes'])}")
    if args.figures:
        args.figures.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
