"""Head-only against sentence-transformers' encode and scikit-learn's LogisticRegression, from 8 rows a label up.

Both read the same rows of the training file, drawn by seed, without validation rows, and are measured on the same rows
of the test file. Each side runs in a process of its own, the rival in an environment of its own, in turns, draw by
draw. CPU seconds count from texts to fitted model, user and system, all threads; those of imports and loading are in a
line of their own. The rival encodes as the model's card has it: mean pooling, normalised.

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


def by_strategy(strategy: str, folder: str) -> Any:
    import adapterkit as ak

    base = ak.Base.load(folder)

    def run(job: dict[str, Any]) -> tuple[float, float]:
        seconds, value, _ = trained(base, strategy, job)
        return seconds, value

    return run


def trained(base: Any, strategy: str, job: dict[str, Any]) -> tuple[float, float, Any]:
    """Return the CPU seconds of a run, its task's metric on the test rows, and its report."""
    import adapterkit as ak

    names = job.get("columns") or (
        ["text", "label"] if len(job["train"][0]) == 2 else ["premise", "hypothesis", "label"]
    )
    train, test = ([dict(zip(names, row, strict=True)) for row in job[s]] for s in ("train", "test"))
    with tempfile.TemporaryDirectory() as store:
        options = {"registry": f"{store}/registry.json", "name": "a", "watch": None}
        options |= {"seed": job["seed"]} if "seed" in job else {}
        began = cpu_seconds()
        report = ak.run(strategy=strategy, train=train, base=base, **options)
        seconds = cpu_seconds() - began
        values = report.model.evaluate(test).metrics.values
        return seconds, float(values[report.adapter.task.best]), report


def by_rival(folder: str) -> Any:
    from sentence_transformers import SentenceTransformer, models
    from sklearn.linear_model import LogisticRegression

    word = models.Transformer(folder, max_seq_length=128)
    pooling = models.Pooling(word.get_word_embedding_dimension(), "mean")
    encoder = SentenceTransformer(modules=[word, pooling, models.Normalize()], device="cpu")
    encoded: dict[str, Any] = {}  # the test rows, which no time counts

    def run(job: dict[str, Any]) -> tuple[float, float]:
        texts = {s: [row[0] if len(row) == 2 else tuple(row[:-1]) for row in job[s]] for s in ("train", "test")}
        began = cpu_seconds()
        x = encoder.encode(texts["train"], show_progress_bar=False)
        model = LogisticRegression(max_iter=1000).fit(x, [row[-1] for row in job["train"]])
        seconds = cpu_seconds() - began
        if encoded.get("texts") != texts["test"]:
            encoded.update(texts=texts["test"], vectors=encoder.encode(texts["test"], show_progress_bar=False))
        right = model.predict(encoded["vectors"]) == [row[-1] for row in job["test"]]
        return seconds, float(right.mean())

    return run


def child(side: str, folder: str) -> None:
    """Print the CPU seconds of imports and loading, then seconds and accuracy for each file of a job that is read."""
    answer_jobs(by_rival(folder) if side == "rival" else by_strategy(side, folder))


def answer_jobs(run: Any) -> None:
    """Do as `child`, for a function that runs a job."""
    rows = [[f"{word} one", word] for word in ("good", "bad") for _ in range(4)]
    run({"train": rows, "test": rows})  # imports on first use
    print("\n" + json.dumps(cpu_seconds()), flush=True)
    for line in sys.stdin:
        print("\n" + json.dumps(run(json.loads(Path(line.strip()).read_text()))), flush=True)


# ---- all of them


class Side:
    """A side in a process of its own, which runs one job after another."""

    def __init__(self, side: str, python: str, folder: str, threads: int, script: str = __file__) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [python, script, "--child", side, "--folder", folder]
        self.name, self.process = (
            side,
            subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ),
        )
        self.started: float = self._answer()

    def run(self, file: Path) -> list[float]:
        """Return the CPU seconds and the accuracy of a job."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{file}\n")
        self.process.stdin.flush()
        result: list[float] = self._answer()
        return result

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                return json.loads(line)
            except ValueError:
                continue
        raise SystemExit(f"{self.name}: ended with {self.process.wait()}")


def cell(args: argparse.Namespace, name: str, count: int, sides: list[Side], temporary: Path) -> list[str] | None:
    """Return the row of a table for a data set and a number of rows a label."""
    train_files, test_files, columns, label = SETS[name]
    rows = read(args.data, train_files, columns, label)
    labels = {row[-1] for row in rows}
    if len(labels) * count > args.most:
        return None
    test = random.Random(0).sample(tests := read(args.data, test_files, columns, label), min(args.limit, len(tests)))
    results: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    for seed in range(args.draws):
        train = drawn(rows, count, seed)
        file = temporary / "job.json"
        file.write_text(json.dumps({"train": train, "test": test}))
        for side in sides:
            results[side.name].append(side.run(file))
    accuracy = {side: [each for _, each in results[side]] for side in SIDES}
    seconds = {side: statistics.median(each for each, _ in results[side]) for side in SIDES}
    means = {side: statistics.mean(accuracy[side]) for side in SIDES}
    points = [100 * (a - b) for a, b in zip(*accuracy.values(), strict=True)]
    return [
        name,
        str(count),
        f"{len(train):,}",
        *(f"{means[side]:.3f}" for side in SIDES),
        f"{statistics.mean(points):+.1f} ({min(points):+.1f} to {max(points):+.1f})",
        *(f"{seconds[side]:.2f}" for side in SIDES),
        f"{seconds['head-only'] / seconds['rival']:.2f}",
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
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder)
        return
    import pages

    import adapterkit as ak

    args.base = args.base or str(ak.Base.load("minilm").path)
    titles = ["data", "rows a label", "rows", *(f"{side}, accuracy" for side in SIDES), "points"]
    titles += [*(f"{side}, CPU s" for side in SIDES), "ratio"]
    rows: list[list[str]] = []
    sides = [Side("head-only", sys.executable, args.base, args.threads)]
    sides.append(Side("rival", str(args.rival), args.base, args.threads))
    started = ", ".join(f"{side.name} {side.started:.1f} s" for side in sides)
    note = (
        f"Rival: sentence-transformers' encode and LogisticRegression. Means of {args.draws} draws (in brackets the "
        f"least and the largest difference of a draw), {args.limit:,} test rows at most, {args.threads} thread; "
        f"medians of CPU seconds from texts to fitted model; imports and loading: {started}; {pages.cpu_name()}."
    )
    if args.most < 100_000:
        note += f" Cells of more than {args.most:,} training rows were not run."
    table = {"titles": titles, "rows": rows, "note": note}
    order = args.sets.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        for count in map(int, args.rows.split(",")):
            for name in order:
                row = cell(args, name, count, sides, Path(temporary))
                if row is None:
                    continue
                rows.append(row)
                rows.sort(key=lambda row: (order.index(row[0]), int(row[1])))
                print("# " + "  ".join(row), flush=True)
                if args.figures:
                    args.figures.write_text(json.dumps({"few-rows": table}, indent=1) + "\n")
    print(pages.rendered(table))


if __name__ == "__main__":
    main()
