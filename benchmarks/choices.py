"""What an option does to the measure of a task: each of its values on the same rows, strategies and seeds.

This is how defaults are chosen, and how a user can choose theirs. Every value runs on every seed in turn, in this
process, on one shared base; what is measured is the test rows, by the adapter that was best on the validation rows.

    python benchmarks/choices.py head_init=random,probe --data DATA
    python benchmarks/choices.py mixed_precision=no,bf16 --data DATA --problems ner,squad --strategies lora
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from fidelity import PROBLEMS as OTHERS
from fidelity import Problem, prepared, quietly, text_reference

from adapterkit import Base, Plan, Registry, Report, run

PROBLEMS = {
    **OTHERS,
    "long-reviews": Problem("long-reviews", "accuracy", text_reference),
    "clinc150-travel": Problem("clinc150/travel", "accuracy", text_reference),
}


def names(text: str) -> list[str]:
    return text.split(",")


def plain(text: str) -> Any:
    """Return a choice as its JSON value, or as a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def measured(args: argparse.Namespace, problem: Problem, values: dict[str, Any], folder: Path, base: Base) -> Report:
    files = {f"{split}_file": str(next(folder.glob(f"{split}.*"))) for split in ("train", "validation", "test")}
    plan = Plan.resolve(
        {
            **files,
            **problem.options,
            "base": args.base,
            "name": "chosen",
            "num_train_epochs": args.epochs,
            "max_seq_length": args.max_length,
            **values,
        }
    )
    with tempfile.TemporaryDirectory() as store:
        return run(plan, Registry(Path(store) / "registry.json"), base=base)


def row(name: str, strategy: str, metric: str, results: dict[str, list[dict[str, float]]]) -> str:
    """Compare each value with the first: the mean of the differences by seed, and on how many seeds it is higher."""
    scores = {value: [one["test"] for one in rows] for value, rows in results.items()}
    first, *others = scores
    cells = [name, strategy, metric]
    cells += [f"{statistics.mean(each):.4f} ({min(each):.4f} to {max(each):.4f})" for each in scores.values()]
    for other in others:
        differences = [a - b for a, b in zip(scores[other], scores[first], strict=True)]
        spread = max(max(each) - min(each) for each in (scores[first], scores[other]))
        cells.append(f"{statistics.mean(differences):+.4f}, spread {spread:.4f}")
        cells.append(f"{sum(d > 0 for d in differences)} of {len(differences)}")
    cells += [f"{statistics.median(one['seconds'] for one in rows):.1f}" for rows in results.values()]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("option", help="an option of adapt run and its values, as head_init=random,probe")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets, one folder each")
    parser.add_argument("--problems", type=names, default=names("sentiment,nli,banking77,snips-intent,long-reviews"))
    parser.add_argument("--strategies", type=names, default=names("lora,layerwise,full"))
    parser.add_argument("--base", default="minilm")
    parser.add_argument("--limit", type=int, default=1000, help="training rows")
    parser.add_argument("--limit-eval", type=int, default=500, help="validation rows, and as many test rows")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--with", dest="also", type=json.loads, default={}, help="JSON: options that all runs have")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    option, _, values = args.option.partition("=")
    choices = names(values)
    if wrong := [name for name in args.problems if name not in PROBLEMS]:
        parser.error(f"no '{wrong[0]}'; there is {', '.join(PROBLEMS)}")
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    base = Base.load(args.base)
    figures, lines = [], []
    for name in args.problems:
        problem = PROBLEMS[name]
        with tempfile.TemporaryDirectory() as folder:
            prepared(args, problem, Path(folder))
            for strategy in args.strategies:
                results: dict[str, list[dict[str, float]]] = {value: [] for value in choices}
                for seed in range(args.seeds):
                    for value in choices:
                        values = {**args.also, "strategy": strategy, "seed": seed, option: plain(value)}
                        report = quietly(measured, args, problem, values, Path(folder), base)
                        scores = {split: report.metrics[split][problem.metric] for split in ("validation", "test")}
                        results[value].append({**scores, "seconds": report.seconds})
                        print(f"# {name} {strategy} {value} seed {seed}: {json.dumps(results[value][-1])}", flush=True)
                figures.append({"problem": name, "strategy": strategy, "metric": problem.metric, **results})
                lines.append(row(name, strategy, problem.metric, results))
        if args.out:
            about = {key: str(value) for key, value in vars(args).items()}
            args.out.write_text(json.dumps({**about, "rows": figures}, indent=2) + "\n")
    first, *others = choices
    compared = [cell for value in others for cell in (f"{value} less {first}", "seeds where it is higher")]
    titles = ["data", "strategy", "metric", *choices, *compared, *(f"{value}, s" for value in choices)]
    print("\n".join(["", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *lines, ""]))
    print(
        f"`{option}`, base {args.base}: {args.limit:,} training rows and {args.limit_eval} test rows at most, "
        f"{args.epochs} epochs, {args.max_length} tokens a text, the mean of {args.seeds} seeds (range); seconds are "
        f"the median of training alone, {torch.get_num_threads()} threads; every other option "
        f"{'as ' + json.dumps(args.also) + ' or ' if args.also else ''}at its default."
    )


if __name__ == "__main__":
    main()
