"""Time `adapt compare` over all built-in strategies against an `adapt run` of each, interleaved, and compare figures.

    python benchmarks/compare.py --data DATA/sentiment --limit 500 --out docs/figures/compare.json

Each side is a process of the command line, so that starting it counts. The order alternates between rounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

STRATEGIES = ("head-only", "layerwise", "bitfit", "bottleneck", "full", "ia3", "lora", "peft", "prefix")


def timed(arguments: list[str], folder: Path) -> tuple[float, dict[str, Any]]:
    """Return the seconds of a command, and the JSON that it prints."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "adapterkit.cli", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, json.loads(done.stdout)


def rows_of(options: argparse.Namespace) -> list[str]:
    files = [f"--{split}-file={next(options.data.glob(f'{split}.*')).resolve()}" for split in ("train", "test")]
    rows = ["--max-train-samples", str(options.limit), "--max-eval-samples", "200", "--validation-split-percentage=10"]
    epochs = [] if options.epochs is None else ["--epochs", str(options.epochs)]
    return [*files, *rows, "--base", options.base, *epochs]


def runs(options: argparse.Namespace, folder: Path) -> tuple[float, dict[str, float]]:
    """Return the seconds of a run of each strategy, and its metric on the test rows."""
    seconds, values = 0.0, {}
    for strategy in options.strategies:
        took, report = timed(["run", "--strategy", strategy, *rows_of(options), "--name", strategy], folder)
        seconds += took
        values[strategy] = next(iter(report["metrics"]["test"].values()))
    return seconds, values


def comparison(options: argparse.Namespace, folder: Path) -> tuple[float, dict[str, float], float]:
    """Return the seconds of a comparison, the metric of each strategy, and the seconds that sharing saved."""
    names = ",".join(options.strategies)
    took, results = timed(["compare", "--strategies", names, "--keep", "all", *rows_of(options)], folder)
    strategies = [c for c in results["candidates"] if c["kind"] == "strategy"]
    values = {c["name"]: next(iter(c["metrics"]["test"]["values"].values())) for c in strategies}
    return took, values, sum(c["costs"].get("saved") or 0.0 for c in strategies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with train and test files")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--limit", type=int, default=500, help="training rows")
    parser.add_argument("--epochs", type=int, help="epochs (default: each strategy's)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--strategies", type=lambda text: text.split(","), default=list(STRATEGIES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"runs": [], "compare": []}
    differences, saved = [], 0.0
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            if number % 2:
                took, alone = runs(options, Path(one))
                both, values, saved = comparison(options, Path(two))
            else:
                both, values, saved = comparison(options, Path(two))
                took, alone = runs(options, Path(one))
        seconds["runs"].append(took)
        seconds["compare"].append(both)
        differences += [abs(alone[name] - values[name]) for name in options.strategies]
        print(f"round {number + 1}: {took:.1f} s of runs, {both:.1f} s of compare, {saved:.1f} s saved by sharing")
    result = {
        "rows": options.limit,
        "epochs": options.epochs,
        "strategies": options.strategies,
        "seconds": seconds,
        "ratio": median(seconds["compare"]) / median(seconds["runs"]),
        "saved": saved,
        "largest difference": max(differences),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
