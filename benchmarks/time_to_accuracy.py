"""How long training takes to an accuracy, here and with transformers' Trainer (and PEFT) at its best.

Both sides get the same base, rows, validation rows, strategy, rank, batch size, schedule, epochs, seed and threads,
each measurement in a process of its own, in turns, seed by seed. Ours runs with its defaults otherwise, and Trainer as
`benchmarks/training.py` has it at its best: batches by length, SDPA, fused AdamW, no saves, in the precision of
--precision, and at the rate, of ours and its multiples, with which a trial of another seed is most accurate. After
each epoch the validation rows are measured, in both sides' time. CPU seconds count from rows to that measurement:
tokenizing, fitting ours' first head, training, validating; not imports or loading.

The accuracy to reach is one point below the mean of Trainer's best epochs, for both sides. A side has reached it at the
end of the first epoch that does; before the first epoch is epoch 0, which ours measures, too.

The second base has no dropout and random weights: ModernBERT of MiniLM's width and depth, with MiniLM's tokenizer.

    python benchmarks/time_to_accuracy.py --data DATA --figures docs/figures/time_to_accuracy.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pages
import torch
import training
import transformers
from training_cases import Case

import adapterkit as ak
from adapterkit.base.checkpoint import find_base

SIDES = ("ours", "best")
CASES = ("lora", "full")
BASES = ("minilm", "modernbert")
RATES = (1, 3)  # times ours, of which Trainer takes the best
Curve = list[tuple[float, float]]  # CPU seconds since the start and accuracy, after each epoch


# ---- one measurement, in a process of its own


class Clock(ak.Watch):
    """Notes when each epoch was measured, and its accuracy."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.began, self.curve = sum(os.times()[:2]), Curve()

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        self.curve.append((sum(os.times()[:2]) - self.began, float(metrics["accuracy"])))


class Evaluated(transformers.TrainerCallback):
    """Notes on a `Clock` what a Trainer measured."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.clock.epoch(0, 0, {"accuracy": more["metrics"]["eval_accuracy"]})


def child(job: dict[str, Any]) -> Curve:
    """Return the curve of one side, after a training on a few rows that has imports and kernels ready."""
    torch.set_num_threads(job["threads"])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    clock = Clock()
    trainings = training.ours(job, clock) if job["side"] == "ours" else training.trainer(job, [Evaluated(clock)])
    trainings("warm", "warm", 1)()
    train = trainings("train", "validation", job["values"]["num_train_epochs"])
    clock.start()
    train()
    return clock.curve


# ---- all of them


def without_dropout(folder: Path) -> str:
    """Write a random ModernBERT of MiniLM's width and depth with MiniLM's tokenizer, and return its folder."""
    path = find_base("minilm")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    like = transformers.AutoConfig.from_pretrained(path)
    special = {"pad_token_id": tokenizer.pad_token_id, "cls_token_id": tokenizer.cls_token_id}
    special |= {"sep_token_id": tokenizer.sep_token_id, "bos_token_id": None, "eos_token_id": None}
    config = transformers.ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=like.hidden_size,
        num_hidden_layers=like.num_hidden_layers,
        num_attention_heads=like.num_attention_heads,
        intermediate_size=like.intermediate_size,
        **special,
    )
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def job_of(args: argparse.Namespace, strategy: str, base: str, side: str, folder: Path) -> dict[str, Any]:
    """Return what a child is to do, as JSON values."""
    args.base = base
    case = Case(strategy, args.epochs)
    job = training.job_of(args, strategy, args.problem, (side, case, None, 1), folder)
    job["best_in_bf16"] = args.precision == "bf16"
    job["values"].pop("target_modules", None)  # the defaults of LoRA, as of everything else
    return job


def measured(job: dict[str, Any], seed: int) -> Curve:
    """Run a job in a process of its own."""
    curve: Curve = training.measured(job, seed, __file__)
    return curve


def with_best_rate(job: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Return Trainer's job at the best of the rates, and how many times ours that is."""
    ours = ak.Plan.resolve(job["values"]).strategy.learning_rate
    jobs = {times: {**job, "values": {**job["values"], "learning_rate": times * ours}} for times in RATES}
    best = max(jobs, key=lambda times: max(value for _, value in measured(jobs[times], 1000)))
    print(f"# Trainer's rate: {best} times ours", flush=True)
    return jobs[best], best


def reached(curve: Curve, accuracy: float) -> float | None:
    """Return the CPU seconds after which a curve reaches an accuracy."""
    return next((seconds for seconds, value in curve if value >= accuracy), None)


def row_of(name: str, base: str, times_rate: int, curves: dict[str, list[Curve]]) -> list[str]:
    """Return a row of the table: when each side reached the accuracy, and how accurate its best epochs are."""
    best = {side: statistics.mean(max(value for _, value in curve) for curve in curves[side]) for side in SIDES}
    goal = best["best"] - 0.01
    times = {side: [reached(curve, goal) for curve in curves[side]] for side in SIDES}
    cells = []
    for side in SIDES:
        found = [seconds for seconds in times[side] if seconds is not None]
        missed = len(times[side]) - len(found)
        cells.append(f"{statistics.median(found):.1f}" if found else "never")
        cells[-1] += f" ({missed} of {len(times[side])} didn't)" if missed else ""
    whole = {side: statistics.median(curve[-1][0] for curve in curves[side]) for side in SIDES}
    pairs = [(a, b) for a, b in zip(times["ours"], times["best"], strict=True) if a is not None and b is not None]
    ratio = f"{statistics.median(b / a for a, b in pairs):.2f}" if pairs else "-"
    return [
        *(name, base, str(times_rate), f"{goal:.3f}", *cells, ratio),
        *(f"{whole[side]:.1f}" for side in SIDES),
        f"{whole['best'] / whole['ours']:.2f}",
        *(f"{best[side]:.3f}" for side in SIDES),
    ]


TITLES = [
    "strategy",
    "base",
    "Trainer's rate / ours",
    "accuracy to reach",
    "ours, CPU s to it",
    "Trainer, CPU s to it",
    "times as fast",
]
TITLES += ["ours, all epochs", "Trainer, all epochs", "times as fast", "ours, best epoch", "Trainer, best epoch"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of the data sets, one folder each")
    parser.add_argument("--problem", default="snips", help="data set")
    parser.add_argument("--cases", type=training.names, default=list(CASES))
    parser.add_argument("--bases", type=training.names, default=list(BASES))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=2000, help="training rows")
    parser.add_argument("--limit-eval", type=int, default=700, help="validation rows")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="of both sides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figures", type=Path, help="write the table as JSON, for benchmarks/figures.py")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        with contextlib.redirect_stdout(io.StringIO()):
            curve = child(args.child)
        print(json.dumps(curve))
        return
    for chosen, choices in ((args.cases, CASES), (args.bases, BASES)):
        if wrong := [name for name in chosen if name not in choices]:
            parser.error(f"no '{wrong[0]}'; there is {', '.join(choices)}")
    if args.data is None:
        parser.error("--data is needed")
    args.options, args.no_best = {}, True
    note = (
        f"{args.limit:,} rows of {args.problem}, {args.limit_eval} validation rows, {args.epochs} epochs, batches of "
        f"{args.batch_size}, {args.seeds} seeds, {args.threads} thread, precision {args.precision}; medians of CPU "
        f"seconds; {pages.cpu_name()}, torch {torch.__version__}, transformers {transformers.__version__}."
    )
    table: dict[str, Any] = {"titles": TITLES, "rows": [], "note": note}
    with tempfile.TemporaryDirectory() as folder:
        for base in args.bases:
            where = base if base == "minilm" else without_dropout(Path(folder) / base)
            for name in args.cases:
                curves: dict[str, list[Curve]] = {side: [] for side in SIDES}
                jobs = {side: job_of(args, name, where, side, Path(folder)) for side in SIDES}
                jobs["best"], times_rate = with_best_rate(jobs["best"])
                for seed in range(args.seeds):
                    for side in SIDES:
                        curves[side].append(measured(jobs[side], seed))
                        print(f"# {base} {name} {side} {seed}: {curves[side][-1]}", flush=True)
                table["rows"].append(row_of(name, base, times_rate, curves))
                print("# " + "  ".join(table["rows"][-1]), flush=True)
                if args.figures:
                    args.figures.write_text(json.dumps({"time-to-accuracy": table}, indent=1) + "\n")
    print(pages.rendered(table))


if __name__ == "__main__":
    main()
