"""The installed strategies side by side: metric, trained parameters, adapter bytes, seconds, memory.

    python benchmarks/strategies.py --dataset demo:sentiment --update README.md
    python benchmarks/strategies.py --data DATA --limit 500 --out docs/figures/strategies.json \\
        --update docs/strategies.md --plot docs/figures/strategies.png

Each strategy runs with its defaults, every seed in turn, each run in a child of a process that has the base loaded, so
that its memory is its own. What `--out` holds already isn't measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from adapterkit import Base, Plan, Registry, run
from adapterkit.discovery import installed
from adapterkit.workflows.meters import Memory

MARKS = "<!-- strategies:begin -->", "<!-- strategies:end -->"
CASES = {  # of the shared data: where, and what else its run needs
    "sentiment": ("sentiment", {}),
    "nli": ("nli", {}),
    "ner": ("ner", {}),
}


def measured(base: Base, strategy: str, case: dict[str, Any], seed: int, threads: int) -> dict[str, Any]:
    """Run in a child, and return what came of it."""
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
            found = {
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
            os.write(writer, json.dumps(found).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        answer = said.read()
    if os.waitpid(child, 0)[1] or not answer:
        raise SystemExit(f"{strategy} on {case}, seed {seed}, failed")
    found: dict[str, Any] = json.loads(answer)
    return found


def table(rows: list[dict[str, Any]], cases: list[str], about: str) -> str:
    """Return the figures as a table."""
    seeds = len({row["seed"] for row in rows})
    metric = {case: next(row["metric"] for row in rows if row["case"] == case) for case in cases}
    heads = [f"{case}, {metric[case]}" for case in cases]
    lines = [
        f"| strategy | {' | '.join(heads)} | trained parameters | adapter bytes | of the base | seconds | memory |",
        "|---" * (6 + len(cases)) + "|",
    ]
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == strategy]
        first = own[0]
        cells = [f"`{strategy}`"]
        for case in cases:
            each = [row for row in own if row["case"] == case]
            low, high = (statistics.mean(row["interval"][k] for row in each) for k in (0, 1))
            cells.append(f"{statistics.mean(row['value'] for row in each):.3f} ({low:.3f} to {high:.3f})")
        cells += [
            f"{first['trained_parameters']:,}",
            f"{first['adapter_bytes']:,}",
            f"{first['adapter_bytes'] / first['base_bytes']:.2%}",
            f"{statistics.median(row['seconds'] for row in own):.0f}",
            f"{statistics.median(row['memory'] for row in own) / 1e6:,.0f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    n = ", ".join(f"{int(next(row['n'] for row in rows if row['case'] == case)):,} of {case}" for case in cases)
    of = f" (parameters and bytes: of {cases[0]})" if len(cases) > 1 else ""
    return "\n".join(
        [
            *lines,
            "",
            f"{about} Metrics are means of {seeds} seeds on the test rows ({n}), in brackets their 95 % intervals "
            f"by resampling rows, each end a mean of the seeds'. Seconds and memory above the base are medians{of}.",
        ]
    )


def plot(rows: list[dict[str, Any]], cases: list[str], path: Path) -> None:
    """Draw each case's metric against the adapter's bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(cases), figsize=(4.6 * len(cases), 4.2), squeeze=False)
    for axis, case in zip(axes[0], cases, strict=True):
        own = [row for row in rows if row["case"] == case]
        for strategy in dict.fromkeys(row["strategy"] for row in own):
            each = [row for row in own if row["strategy"] == strategy]
            values = [row["value"] for row in each]
            size, value = each[0]["adapter_bytes"], statistics.mean(values)
            error = [[value - min(values)], [max(values) - value]]
            axis.errorbar([size], [value], yerr=error, fmt="o", capsize=2, color="#31688e")
            axis.annotate(strategy, (size, value), xytext=(4, 4), fontsize=7,
                          textcoords="offset points")  # fmt: skip
        axis.set(xscale="log", xlabel="bytes of the adapter", ylabel=own[0]["metric"], title=case)
        axis.grid(alpha=0.3)
        axis.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


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
        cases = {name: {"dataset": str(args.data / where), **more, **common} for name, (where, more) in CASES.items()}
    names = [found.name for found in installed()]
    rows = json.loads(args.out.read_text()) if args.out and args.out.exists() else []
    known = {(row["case"], row["strategy"], row["seed"]) for row in rows}
    for seed in range(args.seeds):  # interleaved, so that a busy minute of the machine falls on all
        for name in names:
            for case, values in cases.items():
                if (case, name, seed) in known:
                    continue
                found = measured(base, name, values, seed, threads)
                rows.append({"case": case, "strategy": name, "seed": seed, **found})
                print(f"# {case} {name} {seed}: {found['value']:.3f}, {found['seconds']:.1f} s", flush=True)
                if args.out:
                    args.out.write_text(json.dumps(rows, indent=1))
    cut = f", at most {args.limit:,} training rows" if args.limit else ""
    about = f"Base `{args.base}`, {args.epochs} epochs{cut}, {threads} CPU threads, all else at its default."
    text = table(rows, list(cases), about)
    print(f"\n{text}")
    if args.plot:
        plot(rows, list(cases), args.plot)
    if args.update:
        begin, end = MARKS
        page = args.update.read_text()
        args.update.write_text(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL))


if __name__ == "__main__":
    main()
