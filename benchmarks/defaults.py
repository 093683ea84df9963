"""Measure options of a run on draws of training rows, as the defaults of strategies were chosen.

    python benchmarks/defaults.py --data DATA --case sentiment --rows 500 --strategy bitfit \\
        --set learning_rate=0.001,0.004 --seeds 2 --out docs/figures/defaults.json

Training, validation and evaluation rows are disjoint random draws of the data set's training file; its validation and
test files are never read. Every combination of the values of `--set` runs with every seed, the seeds outermost. What
`--out` holds already isn't measured again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import adapterkit
from adapterkit.data.splits import LINE
from adapterkit.data.splits import load as load_splits
from adapterkit.settings import DataOptions
from adapterkit.training import probe_head
from adapterkit.watch import Watch

CASES = {  # by name: the training file, the task, and its options
    "sentiment": ("sentiment/train.csv", "text-classification", {}),
    "nli": ("nli/train.tsv", "text-classification", {}),
    "snips-intent": ("snips/train.jsonl", "text-classification", {"label_column_name": "intent"}),
    "banking77": ("banking77/train.csv", "text-classification", {}),
    "ner": ("ner/train.conll", "token-classification", {}),
    "snips-slots": ("snips/train.jsonl", "token-classification", {"label_column_name": "slots"}),
}
LABELS = {"sentiment": "label", "nli": "label", "snips-intent": "intent", "banking77": "category"}


def draws(rows: list[dict[str, Any]], args: argparse.Namespace, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Return disjoint draws for training, validation and evaluation; the latter two are as random as the file."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    held = args.validation + args.evaluation
    splits = {
        "test": [rows[i] for i in order[: args.evaluation]],
        "validation": [rows[i] for i in order[args.evaluation : held]],
    }
    rest = [rows[i] for i in order[held:]]
    if args.per_label:
        counts: dict[str, int] = {}
        chosen = []
        for row in rest:
            label = row[LABELS[args.case]]
            counts[label] = counts.get(label, 0) + 1
            if counts[label] <= args.per_label:
                chosen.append(row)
        rest = chosen
    return {"train": rest[: args.rows], **{name: part for name, part in splits.items() if part}}


class Epochs(Watch):
    """The validation metrics of each epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def epoch(self, number: int, of: int, metrics: Any) -> None:
        self.rows.append({"epoch": number, **metrics})


def measured(
    base: adapterkit.Base, args: argparse.Namespace, rows: list[dict[str, Any]], seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Train once and return the metrics."""
    _, task, more = CASES[args.case]
    watch, splits = Epochs(), draws(rows, args, seed)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        report = adapterkit.run(
            registry=Path(folder) / "registry.json",
            base=base,
            **splits,
            watch=watch,
            strategy=args.strategy,
            task=task,
            seed=seed,
            **more,
            **options,
        )
    best = report.adapter.task.best
    return {
        "metric": best,
        "value": report.metrics["test"][best],
        "epochs": [[row["epoch"], row["train_loss"], row[best]] for row in watch.rows],
        "rows": len(splits["train"]),
        "seconds": round(time.process_time() - began, 1),
    }


def value_of(text: str) -> Any:
    """Return a value of an option as a number where it is one."""
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of the shared data sets")
    parser.add_argument("--case", choices=[*CASES], required=True)
    parser.add_argument("--rows", type=int, help="training rows at most")
    parser.add_argument("--per-label", type=int, help="training rows of each label")
    parser.add_argument("--validation", type=int, default=200, help="rows of validation; 0: none")
    parser.add_argument("--evaluation", type=int, default=500, help="rows to evaluate on")
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--set", nargs="*", default=[], help="options of the run: NAME=VALUE,VALUE")
    parser.add_argument("--head-scale", type=float, help="factor on a solved head's weights [default: the package's]")
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON of the figures, continued where it exists")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.head_scale is not None:
        probe_head.HEAD_SCALE = probe_head.HEAD_SCALE_OF_TWO = args.head_scale
    file, task, _ = CASES[args.case]
    table = load_splits(DataOptions(train_file=str(args.data / file)), Watch(), task)["train"]
    rows = [{key: value for key, value in row.items() if key != LINE} for row in table]
    base = adapterkit.Base.load(args.base)
    names = [pair.partition("=")[0] for pair in args.set]
    choices = [pair.partition("=")[2].split(",") for pair in args.set]
    figures = json.loads(args.out.read_text()) if args.out.exists() else []
    size = {"rows": args.rows, "per_label": args.per_label, "validation": args.validation}
    done = {json.dumps(row["run"], sort_keys=True) for row in figures}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for values in itertools.product(*choices):
            options = dict(zip(names, map(value_of, values), strict=True))
            run = {"case": args.case, **size, "strategy": args.strategy, "options": options, "seed": seed}
            if args.head_scale is not None:
                run["head_scale"] = args.head_scale
            if json.dumps(run, sort_keys=True) in done:
                continue
            try:
                result = measured(base, args, rows, seed, options)
            except adapterkit.AdapterkitError as error:
                result = {"error": str(error)}
            figures.append({"run": run, **result})
            args.out.write_text(json.dumps(figures, indent=None).replace('{"run"', '\n{"run"') + "\n")
            shown = {key: result[key] for key in ("value", "seconds", "error") if key in result}
            print(args.case, args.rows or args.per_label, args.strategy, options, seed, shown, flush=True)


if __name__ == "__main__":
    main()
