"""Which epoch few validation rows choose, and what other rules would have saved.

A training measures 600 further rows of the training file after each epoch. Of these, some are drawn as validation rows
by which a rule chooses an epoch, whose accuracy on the rest is what that rule saves; 400 draws for each number of rows.

    python benchmarks/saved_epoch.py --data DATA --rows 250 --strategies bitfit,lora \\
        --out docs/figures/saved_epoch.json && python benchmarks/figures.py
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accuracy_by_rows
import few_rows
import numpy as np
import pages
import torch

MEASURED, DRAWS, VALIDATION = 600, 400, (25, 50, 100, 200)
Rule = Callable[["np.ndarray[Any, Any]", int], int]  # metrics of the start and the epochs, of so many rows: the index


def best_epoch(values: np.ndarray[Any, Any]) -> int:
    """Return the epoch with the best value, of equally good ones the last."""
    return len(values) - 1 - int(np.argmax(values[:0:-1]))


def error(value: float, count: int) -> float:
    """Return the standard error of an accuracy of so many rows."""
    return float(np.sqrt(value * (1 - value) / count))


def unless_start(values: np.ndarray[Any, Any], count: int, errors: float) -> int:
    """Return the best epoch, or the start where it is better by so many standard errors."""
    best = best_epoch(values)
    return best if values[best] >= values[0] - errors * error(values[best], count) else 0


def last_within_error(values: np.ndarray[Any, Any], count: int) -> int:
    """Return the last epoch within a standard error of the best."""
    return int(np.flatnonzero(values >= values.max() - error(values.max(), count))[-1])


RULES: dict[str, Rule] = {
    "the best, the start included": functools.partial(unless_start, errors=0),
    "the same, the start only by a standard error": functools.partial(unless_start, errors=1),
    "the best epoch, never the start": lambda values, _: best_epoch(values),
    "the last within a standard error of the best": last_within_error,
}


def correct(data: Path, case: str, count: int, strategy: str, seed: int) -> list[str]:
    """Train, and return which of the measured rows are right, 1 or 0 each, at the start and after each epoch."""
    import adapterkit as ak
    from adapterkit.training import loop

    recorded: list[list[Any]] = []
    original = loop.predictions_of

    def recording(*args: Any) -> list[Any]:
        recorded.append(original(*args))
        return recorded[-1]

    rows = accuracy_by_rows.rows_of(data, case)
    job = accuracy_by_rows.job_of(rows, case, count, seed, 1)
    if job is None:
        raise SystemExit(f"{case}: {count} rows are fewer than two of each label")
    others = [row for row in rows["train"] if row not in job["train"]]
    measured = random.Random(seed).sample(others, MEASURED)
    train, validation = (
        [dict(zip(rows["columns"], row, strict=True)) for row in of] for of in (job["train"], measured)
    )
    loop.predictions_of = recording  # type: ignore[assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            more: dict[str, Any] = {"registry": f"{folder}/registry.json", "name": "a", "watch": None, "seed": seed}
            ak.run(strategy=strategy, train=train, validation=validation, base=ak.Base.load("minilm"), **more)
    finally:
        loop.predictions_of = original
    names = sorted({row[-1] for row in job["train"]})
    truth = [names.index(row[-1]) for row in measured]
    answers = [[int(np.argmax(logits)) for logits in predictions] for predictions in recorded]
    return ["".join(str(int(a == t)) for a, t in zip(epoch, truth, strict=True)) for epoch in answers]


def table(figures: list[dict[str, Any]]) -> str:
    """Return the mean accuracy that each rule saves, by the number of validation rows."""
    cells: dict[tuple[str, int], list[float]] = {}
    for row in figures:
        right = np.array([[int(value) for value in epoch] for epoch in row["right"]])
        draw = np.random.default_rng(0)
        for count in VALIDATION:
            for _ in range(DRAWS):
                order = draw.permutation(right.shape[1])
                chosen, rest = right[:, order[:count]].mean(1), right[:, order[count:]].mean(1)
                for rule, choose in RULES.items():
                    cells.setdefault((rule, count), []).append(float(rest[choose(chosen, count)]))
    lines = [[rule, *(f"{np.mean(cells[rule, count]):.4f}" for count in VALIDATION)] for rule in RULES]
    trainings = ", ".join(f"{row['case']} {row['rows']} `{row['strategy']}`" for row in figures)
    titles = ["saved", *(f"{count} validation rows" for count in VALIDATION)]
    note = f"Mean accuracy on the rest of {MEASURED} rows, {DRAWS} draws of validation rows each of {len(figures)} "
    return f"{pages.table(titles, lines)}\n\n{note}trainings: {trainings}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets, one folder each")
    parser.add_argument("--case", choices=list(few_rows.SETS), default="sentiment")
    parser.add_argument("--rows", type=int, default=250, help="training rows")
    parser.add_argument("--strategies", default="lora")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON of the figures, continued where it exists")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = json.loads(args.out.read_text()) if args.out.exists() else []
    for strategy in args.strategies.split(","):
        row = {"case": args.case, "rows": args.rows, "seed": args.seed, "strategy": strategy}
        row["right"] = correct(args.data, args.case, args.rows, strategy, args.seed)
        figures.append(row)
        args.out.write_text("[\n" + ",\n".join(map(json.dumps, figures)) + "\n]\n")
    print(table(figures))


if __name__ == "__main__":
    main()
