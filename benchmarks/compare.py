"""Time `adapt compare` against an `adapt run` of each strategy, or of each trial of a search, by CPU; compare figures.

    python benchmarks/compare.py --data DATA/sentiment --out compare.json
    python benchmarks/compare.py --data DATA/sentiment --strategies head-only,layerwise --trials 20 -- --head model

Each side is a process of the command line, so that starting it counts. Half of the runs come before the comparison and
half after it. With --trials, `--sample` of each strategy's trials are run alone, with their options, and their mean is
taken for all; every trial counts as a run of all epochs, which is what it would be without a pruner. What follows `--`
goes to both commands.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

STRATEGIES = ("head-only", "layerwise", "bitfit", "bottleneck", "full", "ia3", "lora", "peft", "prefix")


def timed(arguments: list[str], folder: Path) -> tuple[float, dict[str, Any]]:
    """Return the CPU seconds of a command, and the JSON that it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "adapterkit.cli", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, json.loads(done.stdout)


def rows_of(options: argparse.Namespace) -> list[str]:
    """Return the flags that both sides have."""
    files = [f"--{split}-file={next(options.data.glob(f'{split}.*')).resolve()}" for split in ("train", "test")]
    limit = ["--max-train-samples", str(options.limit), "--max-eval-samples", str(options.limit)]
    return [*files, *limit, "--validation-split-percentage=10", "--base", options.base, *options.more]


def run(strategy: str, values: Mapping[str, Any], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run a strategy; return its CPU seconds, those of training and its metrics on the test rows."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    seconds, report = timed(["run", "--strategy", strategy, *rows_of(options), *flags, "--name", strategy], folder)
    print(f"run        {strategy} {' '.join(flags)}: {seconds:.1f} s", flush=True)
    return {"strategy": strategy, "cpu": seconds, "wall": report["seconds"], "metrics": _metrics(report["metrics"])}


def comparison(options: argparse.Namespace, folder: Path) -> tuple[float, dict[str, Any]]:
    """Return the CPU seconds of a comparison, and its results."""
    names = ["--strategies", ",".join(options.strategies), "--trials", str(options.trials)]
    seconds, results = timed(["compare", *names, "--keep", "all", *rows_of(options)], folder)
    print(f"compare    {seconds:.1f} s", flush=True)
    return seconds, results


def _metrics(of: Mapping[str, Any]) -> dict[str, float]:
    values = of["test"].get("values", of["test"])
    return {name: value for name, value in values.items() if name not in ("n", "intervals")}


def strategies_alone(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare all strategies at their defaults with a run of each."""
    half = len(options.strategies) // 2
    runs = [run(name, {}, options, folder) for name in options.strategies[:half]]
    seconds, results = comparison(options, folder)
    runs += [run(name, {}, options, folder) for name in options.strategies[half:]]
    together = {c["name"]: _metrics(c["metrics"]) for c in results["candidates"] if c["kind"] == "strategy"}
    gaps = {r["strategy"]: max(abs(v - together[r["strategy"]][k]) for k, v in r["metrics"].items()) for r in runs}
    alone = sum(r["cpu"] for r in runs)
    return {"runs": runs, "compare": seconds, "ratio": seconds / alone, "largest difference": gaps}


def trials_alone(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare a search of each strategy with runs of a sample of its trials."""
    seconds, results = comparison(options, folder)
    runs, alone = [], 0.0
    for candidate in (c for c in results["candidates"] if c["kind"] == "strategy"):
        trials = candidate.get("trials") or [{"options": {}}]
        chosen = trials[:: max(1, len(trials) // options.sample)][: options.sample]
        some = [run(candidate["name"], trial["options"], options, folder) for trial in chosen]
        alone += options.trials * mean(r["cpu"] for r in some)
        runs += [{**r, "of": len(trials)} for r in some]
        states = [trial.get("state") for trial in trials]
        print(f"{candidate['name']}: {len(trials)} trials, {states.count('pruned')} of them ended early", flush=True)
    return {"runs": runs, "compare": seconds, "alone": alone, "ratio": seconds / alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with train and test files")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--limit", type=int, default=500, help="rows of training, and of test")
    parser.add_argument("--strategies", type=lambda text: text.split(","), default=list(STRATEGIES))
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--sample", type=int, default=2, help="trials of each strategy that are run alone")
    parser.add_argument("--out", type=Path)
    parser.add_argument("more", nargs="*", help="flags of both commands, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = (trials_alone if options.trials else strategies_alone)(options, Path(temporary))
    result = {"data": options.data.name, "rows": options.limit, "trials": options.trials, **result}
    print(json.dumps({key: value for key, value in result.items() if key != "runs"}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
