"""Few-shot against SetFit and head-only, at 8 to 64 rows a label.

All read the same rows of the training file, drawn by seed, without validation rows, and are measured on the same rows
of the test file. Each runs in a process of its own, SetFit in an environment of its own, in turns, draw by draw. SetFit
has the paper's 20 pairs of each kind a row, its batch of 16 and its one epoch. CPU seconds count from texts to fitted
model, user and system, all threads. Imports and loading are not counted.

    make bench-few-shot DATA=DATA
    python benchmarks/few_shot.py --data DATA --rival RIVAL/bin/python --cells sentiment:16,snips-intent:8
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import few_rows

SIDES = ("few-shot", "head-only", "setfit")


def by_setfit(folder: str) -> Any:
    import numpy as np
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    def run(job: dict[str, Any]) -> tuple[float, float]:
        texts = {s: [" [SEP] ".join(row[:-1]) for row in job[s]] for s in ("train", "test")}
        names = sorted({row[-1] for row in job["train"]})
        labels = [names.index(row[-1]) for row in job["train"]]
        encoder = SentenceTransformer(folder, device="cpu")  # anew, since training changes it
        model = SetFitModel(model_body=encoder, model_head=LogisticRegression(max_iter=1000))
        with tempfile.TemporaryDirectory() as output:
            options = TrainingArguments(
                output_dir=output,
                batch_size=16,
                num_epochs=1,
                num_iterations=20,
                save_strategy="no",
                report_to="none",
                show_progress_bar=False,
            )
            began = few_rows.cpu_seconds()
            rows = Dataset.from_dict({"text": texts["train"], "label": labels})
            Trainer(model=model, args=options, train_dataset=rows).train()
            seconds = few_rows.cpu_seconds() - began
        answers = np.asarray(model.predict(texts["test"], as_numpy=True, show_progress_bar=False))
        right = [names[answer] == row[-1] for answer, row in zip(answers, job["test"], strict=True)]
        return seconds, statistics.mean(right)

    return run


def cell(args: argparse.Namespace, name: str, count: int, sides: list[few_rows.Side], file: Path) -> list[str]:
    """Return the row of a table for a data set and a number of rows a label."""
    train_files, test_files, columns, label = few_rows.SETS[name]
    rows = few_rows.read(args.data, train_files, columns, label)
    tests = few_rows.read(args.data, test_files, columns, label)
    test = random.Random(0).sample(tests, min(args.limit, len(tests)))
    results: dict[str, list[list[float]]] = {side.name: [] for side in sides}
    for seed in range(args.draws):
        train = few_rows.drawn(rows, count, seed)
        file.write_text(json.dumps({"train": train, "test": test}))
        for side in sides:
            results[side.name].append(side.run(file))
            print(f"# {name} {count} draw {seed} {side.name} {results[side.name][-1]}", flush=True)
    accuracy = {side: [each for _, each in results[side]] for side in SIDES}
    seconds = {side: statistics.median(each for each, _ in results[side]) for side in SIDES}
    points = [100 * (a - b) for a, b in zip(accuracy["few-shot"], accuracy["setfit"], strict=True)]
    return [
        name,
        str(count),
        f"{len(train):,}",
        str(args.draws),
        *(f"{statistics.mean(accuracy[side]):.3f}" for side in SIDES),
        f"{statistics.mean(points):+.1f} ({min(points):+.1f} to {max(points):+.1f})",
        *(f"{seconds[side]:.1f}" for side in SIDES),
        f"{seconds['setfit'] / seconds['few-shot']:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of the data sets, one folder each")
    parser.add_argument("--rival", type=Path, help="the Python of an environment with setfit")
    parser.add_argument("--base", help="the folder of the model for all sides [default: that of minilm]")
    parser.add_argument("--cells", default=",".join(f"{name}:{n}" for n in (8, 16, 64) for name in few_rows.SETS))
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--limit", type=int, default=1000, help="test rows at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figures", type=Path, help="write the table as JSON, for benchmarks/figures.py")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run = by_setfit(args.folder) if args.child == "setfit" else few_rows.by_strategy(args.child, args.folder)
        few_rows.answer_jobs(run)
        return
    import pages

    import adapterkit as ak

    args.base = args.base or str(ak.Base.load("minilm").path)
    pythons = {side: str(args.rival) if side == "setfit" else sys.executable for side in SIDES}
    sides = [few_rows.Side(side, python, args.base, args.threads, __file__) for side, python in pythons.items()]
    titles = ["data", "rows a label", "rows", "draws", *(f"{side}, accuracy" for side in SIDES)]
    titles += ["points to SetFit", *(f"{side}, CPU s" for side in SIDES), "SetFit's CPU / few-shot's"]
    note = (
        "SetFit 1.2 at the paper's settings, few-shot and head-only at their defaults, in turns. Means of the draws "
        f"(in brackets the least and the largest difference of a draw), {args.limit:,} test rows at most, "
        f"{args.threads} thread; medians of CPU seconds from texts to fitted model; {pages.cpu_name()}."
    )
    table: dict[str, Any] = {"titles": titles, "rows": [], "note": note}
    with tempfile.TemporaryDirectory() as temporary:
        for each in args.cells.split(","):
            name, _, count = each.partition(":")
            table["rows"].append(cell(args, name, int(count), sides, Path(temporary) / "job.json"))
            print("# " + "  ".join(table["rows"][-1]), flush=True)
            if args.figures:
                args.figures.write_text(json.dumps({"few-shot": table}, indent=1) + "\n")
    print(pages.rendered(table))


if __name__ == "__main__":
    main()
