"""Head-only against sentence-transformers' encode and scikit-learn's LogisticRegression, from 8 rows a label up.

Both read the same rows of the training file, drawn by seed, without validation rows, and are measured on the same rows
of the test file. Each side runs in a process of its own, the rival in an environment of its own, in turns. CPU seconds
count from texts to fitted model, user and system, all threads; those of imports and loading are in a column of their
own. The rival encodes as the model's card has it: mean pooling, normalised.

    make bench-few-rows DATA=DATA
    python benchmarks/few_rows.py --data DATA --rival RIVAL/bin/python --figures docs/figures/few_rows.json
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SETS = {  # training and test files, columns of the texts, and that of the label
    "sentiment": ("sentiment/train.csv", "sentiment/test.csv", ("text",), "label"),
    "nli": ("nli/train.tsv", "nli/test.tsv", ("premise", "hypothesis"), "label"),
    "snips-intent": ("snips/train.jsonl", "snips/test.jsonl", ("text",), "intent"),
    "banking77": ("banking77/train.csv", "banking77/test.csv", ("text",), "category"),
    "clinc150": ("clinc150/*/train.csv", "clinc150/*/test.csv", ("text",), "label"),
}
SIDES = ("head-only", "rival")


def read(data: Path, pattern: str, columns: tuple[str, ...], label: str) -> list[list[str]]:
    """Return the rows of the files that match a pattern: texts, then the label."""
    rows = []
    for path in sorted(data.glob(pattern)):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            records = map(json.loads, file) if path.suffix == ".jsonl" else csv.DictReader(file, delimiter=delimiter)
            rows += [[*(record[column] for column in columns), record[label]] for record in records]
    return rows


def drawn(rows: list[list[str]], count: int, seed: int) -> list[list[str]]:
    """Return at most `count` rows of each label, drawn by a seed."""
    rows, by_label = random.Random(seed).sample(rows, len(rows)), dict[str, list[list[str]]]()
    for row in rows:
        by_label.setdefault(row[-1], []).append(row)
    chosen = [row for of_label in by_label.values() for row in of_label[:count]]
    return random.Random(seed).sample(chosen, len(chosen))


# ---- a side, in a process of its own


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def by_head_only(folder: str) -> Any:
    import adapterkit as ak

    base = ak.Base.load(folder)

    def run(job: dict[str, Any]) -> tuple[float, float]:
        names = ["text"] if len(job["train"][0]) == 2 else ["premise", "hypothesis"]
        train, test = ([dict(zip([*names, "label"], row, strict=True)) for row in job[s]] for s in ("train", "test"))
        with tempfile.TemporaryDirectory() as store:
            began = cpu_seconds()
            report = ak.run(
                strategy="head-only", train=train, base=base, registry=f"{store}/registry.json", name="a", watch=None
            )
            seconds = cpu_seconds() - began
            return seconds, float(report.model.evaluate(test).metrics.values["accuracy"])

    return run


def by_rival(folder: str) -> Any:
    from sentence_transformers import SentenceTransformer, models
    from sklearn.linear_model import LogisticRegression

    word = models.Transformer(folder, max_seq_length=128)
    pooling = models.Pooling(word.get_word_embedding_dimension(), "mean")
    encoder = SentenceTransformer(modules=[word, pooling, models.Normalize()], device="cpu")

    def run(job: dict[str, Any]) -> tuple[float, float]:
        texts = {s: [row[0] if len(row) == 2 else tuple(row[:-1]) for row in job[s]] for s in ("train", "test")}
        began = cpu_seconds()
        x = encoder.encode(texts["train"], show_progress_bar=False)
        model = LogisticRegression(max_iter=1000).fit(x, [row[-1] for row in job["train"]])
        seconds = cpu_seconds() - began
        right = model.predict(encoder.encode(texts["test"], show_progress_bar=False)) == [
            row[-1] for row in job["test"]
        ]
        return seconds, float(right.mean())

    return run


def child(side: str, folder: str, file: str) -> None:
    """Run a side on the jobs of a file, and print seconds before the first and of each, and accuracies."""
    jobs = json.loads(Path(file).read_text())
    run = {"head-only": by_head_only, "rival": by_rival}[side](folder)
    run({split: rows[:8] for split, rows in jobs[0].items()} | {"train": jobs[0]["train"]})  # imports on first use
    started = cpu_seconds()
    print("\n" + json.dumps({"started": started, "results": [run(job) for job in jobs]}))


# ---- all of them


def measured(side: str, python: str, folder: str, file: Path, threads: int) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [python, __file__, "--child", side, "--folder", folder, "--jobs", str(file)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def cell(args: argparse.Namespace, name: str, count: int, temporary: Path) -> list[str] | None:
    """Return the row of a table for a data set and a number of rows a label."""
    train_files, test_files, columns, label = SETS[name]
    rows = read(args.data, train_files, columns, label)
    labels = {row[-1] for row in rows}
    if len(labels) * count > args.most:
        return None
    test = random.Random(0).sample(tests := read(args.data, test_files, columns, label), min(args.limit, len(tests)))
    jobs = [{"train": drawn(rows, count, seed), "test": test} for seed in range(args.draws)]
    pythons = {"head-only": sys.executable, "rival": str(args.rival)}
    results: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    started: dict[str, list[float]] = {side: [] for side in SIDES}
    for job in jobs:
        file = temporary / "jobs.json"
        file.write_text(json.dumps([job]))
        for side in SIDES:
            done = measured(side, pythons[side], args.base, file, args.threads)
            results[side] += done["results"]
            started[side].append(done["started"])
    accuracy = {side: [each for _, each in results[side]] for side in SIDES}
    seconds = {side: statistics.median(each for each, _ in results[side]) for side in SIDES}
    starts = {side: statistics.median(started[side]) for side in SIDES}
    means = {side: statistics.mean(accuracy[side]) for side in SIDES}
    return [
        name,
        str(count),
        str(len(jobs[0]["train"])),
        *(f"{means[side]:.4f}" for side in SIDES),
        f"{100 * (means['head-only'] - means['rival']):+.2f}",
        *(f"{seconds[side]:.2f}" for side in SIDES),
        f"{seconds['head-only'] / seconds['rival']:.2f}",
        f"{starts['head-only'] / starts['rival']:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of the data sets, one folder each")
    parser.add_argument("--rival", type=Path, help="the Python of an environment with sentence-transformers")
    parser.add_argument("--base", help="the folder of the model for both sides [default: that of minilm]")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--rows", default="8,16,64,400", help="rows of each label")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--limit", type=int, default=1000, help="test rows at most")
    parser.add_argument("--most", type=int, default=100_000, help="leave out cells of more training rows than this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figures", type=Path, help="write the table as JSON, for benchmarks/figures.py")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--jobs", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder, args.jobs)
        return
    import bitplanes
    import pages

    import adapterkit as ak

    args.base = args.base or str(ak.Base.load("minilm").path)
    titles = ["data", "rows a label", "rows", *(f"{side}, accuracy" for side in SIDES), "points"]
    titles += [*(f"{side}, CPU s" for side in SIDES), "ratio", "ratio of imports and loading"]
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.sets.split(","):
            for count in map(int, args.rows.split(",")):
                row = cell(args, name, count, Path(temporary))
                if row is not None:
                    rows.append(row)
                    print("# " + "  ".join(row), flush=True)
    note = (
        f"Rival: sentence-transformers' encode and LogisticRegression. Means of {args.draws} draws, {args.limit} test "
        f"rows at most, {args.threads} thread, medians of CPU seconds from texts to fitted model; {bitplanes.cpu()}."
    )
    if args.most < 100_000:
        note += f" Cells of more than {args.most:,} training rows were not run."
    tables = {"few-rows": {"titles": titles, "rows": rows, "note": note}}
    print(pages.rendered(tables["few-rows"]))
    if args.figures:
        args.figures.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
