"""Time `adapt compare` against an `adapt run` of each strategy, or of each trial of a search; compare the figures.

    python benchmarks/compare.py --data DATA/sentiment --workers 1,2 --out compare.json
    python benchmarks/compare.py --data DATA/sentiment --strategies head-only,layerwise --trials 20 -- --head model

Each side is started from the command line, so that starting counts, in wall time and in CPU time (on Linux, that of the
processes of a comparison included). There is a comparison for each number of --workers. A run of each strategy takes
all threads, as it does by default; the runs are divided equally between the time before, between and after the
comparisons. With --trials, `--sample` of each strategy's trials are run alone, with their options, and their mean is
taken for all; every trial counts as a run of all epochs, which is what it would be without a pruner. What follows `--`
goes to both commands.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # processes that a comparison leaves are waited for here, so that their CPU time counts
STRATEGIES = ("head-only", "layerwise", "bitfit", "bottleneck", "full", "ia3", "lora", "peft", "prefix")


@dataclass(frozen=True)
class Seconds:
    """Wall time and CPU time."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, {self.cpu:.1f} s of CPU"

    def over(self, other: Seconds) -> dict[str, float]:
        """Return the ratios to another."""
        return {"wall": self.wall / other.wall, "cpu": self.cpu / other.cpu}


def total(several: Iterable[Seconds]) -> Seconds:
    """Return the sum."""
    each = list(several)
    return Seconds(sum(s.wall for s in each), sum(s.cpu for s in each))


def timed(arguments: list[str], folder: Path) -> tuple[Seconds, dict[str, Any]]:
    """Return the seconds of a command, and the JSON that it prints."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "adapterkit.cli", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    wall = time.perf_counter() - began
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()  # the server of a comparison's processes, which ends after it
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(wall, cpu), json.loads(done.stdout)


def rows_of(options: argparse.Namespace) -> list[str]:
    """Return the flags that both sides have."""
    files = [f"--{split}-file={next(options.data.glob(f'{split}.*')).resolve()}" for split in ("train", "test")]
    limit = ["--max-train-samples", str(options.limit), "--max-eval-samples", str(options.limit)]
    return [*files, *limit, "--validation-split-percentage=10", "--base", options.base, *options.more]


def run(strategy: str, values: Mapping[str, Any], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run a strategy; return its seconds and its metrics on the test rows."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    seconds, report = timed(["run", "--strategy", strategy, *rows_of(options), *flags, "--name", strategy], folder)
    print(f"run        {strategy} {' '.join(flags)}: {seconds}", flush=True)
    return {"strategy": strategy, "seconds": seconds, "metrics": _metrics(report["metrics"])}


def comparison(workers: str, options: argparse.Namespace, folder: Path) -> tuple[Seconds, dict[str, Any]]:
    """Return the seconds of a comparison, and its results."""
    names = ["--strategies", ",".join(options.strategies), "--trials", str(options.trials), "--workers", workers]
    names += ["--out", f"workers{workers}", "--registry", f"workers{workers}/registry.json"]
    seconds, results = timed(["compare", *names, "--keep", "all", *rows_of(options)], folder)
    print(f"compare    --workers {workers}: {seconds}", flush=True)
    return seconds, results


def _training(results: Mapping[str, Any]) -> float:
    """Return the seconds of training of a comparison's strategies, which its processes share."""
    return sum(c["costs"]["seconds"] for c in results["candidates"] if c["kind"] == "strategy")


def _metrics(of: Mapping[str, Any]) -> dict[str, float]:
    values = of["test"].get("values", of["test"])
    return {name: value for name, value in values.items() if name not in ("n", "intervals")}


def strategies_alone(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare all strategies at their defaults with a run of each."""
    parts = len(options.workers) + 1
    runs: list[dict[str, Any]] = []
    compared: dict[str, tuple[Seconds, dict[str, Any]]] = {}
    for part in range(parts):
        runs += [run(name, {}, options, folder) for name in options.strategies[part::parts]]
        for workers in options.workers[part : part + 1]:
            compared[workers] = comparison(workers, options, folder)
    alone = total(r["seconds"] for r in runs)
    result: dict[str, Any] = {"alone": vars(alone), "by workers": {}}
    for workers, (seconds, results) in compared.items():
        together = {c["name"]: _metrics(c["metrics"]) for c in results["candidates"] if c["kind"] == "strategy"}
        gaps = {r["strategy"]: max(abs(v - together[r["strategy"]][k]) for k, v in r["metrics"].items()) for r in runs}
        figures = {"ratio": seconds.over(alone), "training": _training(results), "largest difference": gaps}
        result["by workers"][workers] = {**vars(seconds), **figures}
    return {**result, "runs": [{**r, "seconds": vars(r["seconds"])} for r in runs]}


def trials_alone(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare a search of each strategy with runs of a sample of its trials."""
    compared = {workers: comparison(workers, options, folder) for workers in options.workers}
    runs, alone = [], Seconds(0.0, 0.0)
    _, results = next(iter(compared.values()))
    for candidate in (c for c in results["candidates"] if c["kind"] == "strategy"):
        trials = candidate.get("trials") or [{"options": {}}]
        chosen = trials[:: max(1, len(trials) // options.sample)][: options.sample]
        some = [run(candidate["name"], trial["options"], options, folder) for trial in chosen]
        each = total(r["seconds"] for r in some)
        share = options.trials / len(some)
        alone = total([alone, Seconds(share * each.wall, share * each.cpu)])
        runs += [{**r, "seconds": vars(r["seconds"]), "of": len(trials)} for r in some]
        states = [trial.get("state") for trial in trials]
        print(f"{candidate['name']}: {len(trials)} trials, {states.count('pruned')} of them ended early", flush=True)
    by_workers = {w: {**vars(seconds), "ratio": seconds.over(alone)} for w, (seconds, _) in compared.items()}
    return {"alone": vars(alone), "by workers": by_workers, "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with train and test files")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--limit", type=int, default=500, help="rows of training, and of test")
    parser.add_argument("--strategies", type=lambda text: text.split(","), default=list(STRATEGIES))
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--workers", type=lambda text: text.split(","), default=["2"], help="processes of a comparison")
    parser.add_argument("--sample", type=int, default=2, help="trials of each strategy that are run alone")
    parser.add_argument("--out", type=Path)
    parser.add_argument("more", nargs="*", help="flags of both commands, after --")
    options = parser.parse_args()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as temporary:
        result = (trials_alone if options.trials else strategies_alone)(options, Path(temporary))
    result = {"data": options.data.name, "rows": options.limit, "trials": options.trials, **result}
    print(json.dumps({key: value for key, value in result.items() if key != "runs"}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
