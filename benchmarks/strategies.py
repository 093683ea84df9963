"""The installed strategies side by side: metric, trained parameters, adapter bytes, seconds, memory.

    python benchmarks/strategies.py --dataset demo:sentiment --out FILE
    python benchmarks/strategies.py --data DATA --limit 500 --out docs/figures/strategies.json \\
        --update docs/explanation/strategies-compared.md --plot docs/figures/strategies.png

Each strategy runs with its defaults, every seed in turn, each run in a child of a process that has the base loaded, so
that its memory is its own. What `--out` holds already isn't measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pages
import torch
from strategies_report import plot, table

from adapterkit import Base, Plan, Registry, run
from adapterkit.discovery import installed
from adapterkit.workflows.meters import Memory

CASES = {  # of the shared data: where, and what else its run needs
    "sentiment": ("sentiment", {}),
    "nli": ("nli", {}),
    "ner": ("ner", {}),
}


def measured(base: Base, strategy: str, case: dict[str, Any], seed: int, threads: int) -> dict[str, Any]:
    """Run in a child process and return its figures."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(threads)
            memory = Memory(base.nbytes)
            values = {"strategy": strategy, **case, "seed": seed}
            with tempfile.TemporaryDirectory() as folder:
                report = run(Plan.resolve(values), Registry(Path(folder) / "registry.json"), base=base)
            metrics = report.metrics["test"]
            best = report.adapter.task.best
            figures = {
                "metric": best,
                "value": metrics[best],
                "interval": metrics["intervals"].get(best),
                "n": metrics["n"],
                "trained_parameters": report.trained_parameters,
                "adapter_bytes": report.adapter_bytes,
                "base_bytes": report.base_bytes,
                "seconds": report.seconds,
                "memory": memory.growth(),
            }
            os.write(writer, json.dumps(figures).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    if os.waitpid(child, 0)[1] or not answer:
        raise SystemExit(f"{strategy} on {case}, seed {seed}, failed")
    measured: dict[str, Any] = json.loads(answer)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of the shared data sets")
    parser.add_argument("--dataset", default="demo:sentiment", help="one data set instead")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="training rows at most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--update", type=Path, help="put the table between the marks in this file")
    parser.add_argument("--out", type=Path, help="keep the figures as JSON, and go on from it")
    parser.add_argument("--plot", type=Path, help="draw metric against bytes")
    args = parser.parse_args()
    threads = args.threads
    torch.set_num_threads(1)  # no threads to lose in children; they have their own
    base = Base.load(args.base)
    common = {"base": args.base, "num_train_epochs": args.epochs, "max_seq_length": 128}
    if args.limit:
        common |= {"max_train_samples": args.limit, "max_eval_samples": args.limit}
    cases = {args.dataset: {"dataset": args.dataset, **common}}
    if args.data:
        cases = {name: {"dataset": str(args.data / folder), **more, **common} for name, (folder, more) in CASES.items()}
    names = [plugin.name for plugin in installed()]
    rows = json.loads(args.out.read_text())["rows"] if args.out and args.out.exists() else []
    done = {(row["case"], row["strategy"], row["seed"]) for row in rows}
    cut = f", at most {args.limit:,} training rows" if args.limit else ""
    about = f"Base `{args.base}`, {args.epochs} epochs{cut}, {threads} CPU threads, all else at its default."
    for seed in range(args.seeds):  # interleaved, so that a busy minute of the machine falls on all
        for name in names:
            for case, values in cases.items():
                if (case, name, seed) in done:
                    continue
                figures = measured(base, name, values, seed, threads)
                rows.append({"case": case, "strategy": name, "seed": seed, **figures})
                print(f"# {case} {name} {seed}: {figures['value']:.3f}, {figures['seconds']:.1f} s", flush=True)
                if args.out:
                    args.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    text = table({"about": about, "rows": rows})
    print(f"\n{text}")
    if args.plot:
        plot(rows, list(cases), args.plot)
    if args.update:
        pages.update(args.update, {"strategies": text})


if __name__ == "__main__":
    main()
