"""The four strategies side by side on one data set: accuracy, trained parameters, adapter bytes, seconds.

    python benchmarks/strategies.py --update README.md

Each strategy runs with its defaults, every seed in turn, one after the other in this process on one shared base.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from pathlib import Path

import torch

from adapterkit import Base, Plan, Registry, Report, run
from adapterkit.strategies import installed

MARKS = "<!-- strategies:begin -->", "<!-- strategies:end -->"


def measure(args: argparse.Namespace, strategy: str, seed: int, base: Base) -> Report:
    values = {"strategy": strategy, "dataset": args.dataset, "base": args.base, "num_train_epochs": args.epochs}
    with tempfile.TemporaryDirectory() as folder:
        return run(Plan.resolve({**values, "seed": seed}), Registry(Path(folder) / "registry.json"), base=base)


def row(strategy: str, reports: list[Report]) -> str:
    scores = [report.metrics["test"]["accuracy"] for report in reports]
    first = reports[0]
    cells = [
        f"`{strategy}`",
        f"{statistics.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})",
        f"{first.trained_parameters:,}",
        f"{first.adapter_bytes:,}",
        f"{first.adapter_bytes / first.base_bytes:.2%}",
        f"{statistics.median(report.seconds for report in reports):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="demo:sentiment")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--update", type=Path, help="put the table between the marks in this file")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    base = Base.load(args.base)
    names = [found.name for found in installed()]
    reports: dict[str, list[Report]] = {name: [] for name in names}
    for seed in range(args.seeds):  # interleaved, so that a busy minute of the machine falls on all
        for name in names:
            reports[name].append(measure(args, name, seed, base))
            print(f"# {name} seed {seed}: {reports[name][-1].metrics['test']['accuracy']:.3f}", flush=True)
    rows = reports[names[0]][0].metrics["test"]["n"]
    lines = [
        f"| strategy | test accuracy, mean of {args.seeds} seeds (range) | trained parameters | adapter bytes "
        "| of the base | seconds |",
        "|---|---|---|---|---|---|",
        *(row(name, found) for name, found in reports.items()),
        "",
        f"`{args.dataset}`, base `{args.base}`, {args.epochs} epochs, {int(rows)} test rows, {torch.get_num_threads()} "
        "CPU threads, every other option at its default. Seconds are the median of training alone.",
    ]
    table = "\n".join(lines)
    print(f"\n{table}")
    if args.out:
        args.out.write_text(json.dumps({name: [r.plain() for r in found] for name, found in reports.items()}, indent=2))
    if args.update:
        begin, end = MARKS
        text = args.update.read_text()
        args.update.write_text(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
