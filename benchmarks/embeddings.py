"""Vectors of texts against sentence-transformers: the same pairs, loss, batch, steps, rate and seeds, in turns.

banking77 and clinc150 are positives by label (each text beside another of its label), nli triplets: a premise, a
hypothesis that it entails, and one of a similar premise that doesn't. Both sides train with in-batch negatives, full or
LoRA of the same rank in the same modules; vectors of the same test texts are measured by the same code. CPU seconds
count from texts to trained model, user and system, all threads, tokenization included, imports and loading not.

    make bench-embeddings DATA=DATA
    python benchmarks/embeddings.py --data DATA --rival RIVAL/bin/python --cells nli:lora --seeds 2
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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH, RATES = 32, {"full": 2e-5, "lora": 5e-4}
DATA = ("banking77", "clinc150", "nli")
Job = dict[str, Any]


# ---- the rows


def rows_of(folder: Path, split: str) -> list[tuple[str, ...]]:
    """Return texts with labels, or premise, hypothesis and label."""
    files = sorted(folder.rglob(f"{split}.*"))
    rows: list[tuple[str, ...]] = []
    for file in files:
        with file.open(newline="") as lines:
            rows += [tuple(r) for r in csv.reader(lines, delimiter="\t" if file.suffix == ".tsv" else ",")][1:]
    return rows


def by_label(rows: list[tuple[str, ...]], count: int) -> list[list[str]]:
    """Return pairs of texts of a label; each text is in one pair, for a copy of it would be its own negative."""
    chosen, groups = random.Random(0).sample(rows, min(2 * count, len(rows))), {}
    for row in chosen:
        groups.setdefault(row[-1], []).append(row[0])
    return [[a, b] for texts in groups.values() for a, b in zip(texts[::2], texts[1::2], strict=False)]


def triplets(rows: list[tuple[str, ...]], count: int) -> list[list[str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    entailed = [row for row in rows if row[2] == "entailment"]
    others = [row for row in rows if row[2] != "entailment"]
    entailed = random.Random(0).sample(entailed, min(count, len(entailed)))
    words = TfidfVectorizer().fit([row[0] for row in rows])
    near = words.transform([r[0] for r in entailed]) @ words.transform([r[0] for r in others]).T
    return [[a, b, others[i][1]] for (a, b, _), i in zip(entailed, near.argmax(1).A1, strict=True)]


def job_of(data: Path, name: str, count: int, tests: int) -> Job:
    train, test = rows_of(data / name, "train"), rows_of(data / name, "test")
    if name == "nli":
        rows = triplets(test, tests)
        return {"train": triplets(train, count), "texts": [t for row in rows for t in row], "rows": rows}
    test = random.Random(0).sample(test, min(tests, len(test)))
    return {"train": by_label(train, count), "texts": [row[0] for row in test], "labels": [row[-1] for row in test]}


def measured(job: Job, vectors: Any) -> dict[str, Any]:
    """Return nDCG@10 with its interval."""
    import numpy as np

    from adapterkit.metrics import corpus_retrieval, label_retrieval

    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    if "labels" in job:
        metrics = label_retrieval(unit, job["labels"])
    else:
        corpus = {text: i for i, text in enumerate(job["texts"]) if i % 3}
        number = {text: n for n, text in enumerate(corpus)}
        relevant = [{number[row[1]]} for row in job["rows"]]
        metrics = corpus_retrieval(unit[::3], unit[list(corpus.values())], relevant)
    return {"ndcg": metrics.values["ndcg_at_10"], "interval": metrics.intervals["ndcg_at_10"]}


# ---- the sides


def ours(folder: str) -> Callable[[Job], Any]:
    import numpy as np

    import adapterkit as ak

    base = ak.Base.load(folder)

    def run(job: Job) -> tuple[Any, float]:
        names = ("anchor", "positive", "negative")
        rows = [dict(zip(names, row, strict=False)) for row in job["train"]]
        with tempfile.TemporaryDirectory() as there:
            began = time.process_time()
            report = ak.run(
                base=base,
                task="sentence-similarity",
                strategy=job["strategy"],
                train=rows,
                validation=rows[:4],
                registry=f"{there}/registry.json",
                learning_rate=job["rate"],
                per_device_train_batch_size=BATCH,
                num_train_epochs=1,
                max_seq_length=128,
                mixed_precision="no",
                seed=job["seed"],
                name="bench",
            )
            seconds = time.process_time() - began
            answers = report.predict(job["texts"])
        return np.array([answer["embedding"] for answer in answers]), seconds

    return run


def theirs(folder: str) -> Callable[[Job], Any]:
    import numpy as np
    from datasets import Dataset
    from peft import LoraConfig
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    def run(job: Job) -> tuple[Any, float]:
        model = SentenceTransformer(folder, device="cpu")
        model.max_seq_length = 128
        if job["strategy"] == "lora":
            targets = r".*layer\.\d+\..*(query|key|value|dense)"
            model.add_adapter(LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets))
        names = ("anchor", "positive", "negative")
        data = Dataset.from_list([dict(zip(names, row, strict=False)) for row in job["train"]])
        with tempfile.TemporaryDirectory() as there:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=there,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH,
                learning_rate=job["rate"],
                warmup_steps=0.1,
                seed=job["seed"],
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                bf16=False,
            )
            loss = MultipleNegativesRankingLoss(model)
            began = time.process_time()
            SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss).train()
            seconds = time.process_time() - began
        return np.asarray(model.encode(job["texts"])), seconds

    return run


def worker(side: str, folder: str) -> None:
    """Answer jobs, a JSON line each, with the path of vectors and seconds."""
    import numpy as np

    to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    run = {"ours": ours, "theirs": theirs}[side](folder)
    for line in sys.stdin:
        job = json.loads(line)
        vectors, seconds = run(job)
        np.save(job["to"], vectors)
        print(json.dumps(seconds), file=to, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rival", default=sys.executable)
    parser.add_argument("--cells", default=",".join(f"{d}:{s}" for d in DATA for s in RATES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--worker", nargs=2)
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker)
        return
    import numpy as np
    from pages import cpu_name

    from adapterkit.base import find_base

    folder = find_base("minilm")
    pythons = {"ours": sys.executable, "theirs": args.rival}
    sides = {
        side: subprocess.Popen(
            [python, __file__, "--worker", side, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for side, python in pythons.items()
    }
    results: list[Job] = []
    with tempfile.TemporaryDirectory() as there:
        for cell in args.cells.split(","):
            name, strategy = cell.split(":")
            job = job_of(args.data, name, args.rows, args.tests)
            for seed in range(args.seeds):
                for side, process in sides.items():
                    to = f"{there}/{side}.npy"
                    asked = {**job, "strategy": strategy, "rate": RATES[strategy], "seed": seed, "to": to}
                    assert process.stdin is not None
                    assert process.stdout is not None
                    process.stdin.write(json.dumps(asked) + "\n")
                    process.stdin.flush()
                    seconds = float(process.stdout.readline())
                    results.append(
                        {"data": name, "strategy": strategy, "side": side, "seed": seed, "seconds": seconds}
                        | measured(job, np.load(to))
                    )
            some = [r for r in results if (r["data"], r["strategy"]) == (name, strategy)]
            for side in sides:
                of = [r for r in some if r["side"] == side]
                values, seconds = [r["ndcg"] for r in of], statistics.median(r["seconds"] for r in of)
                print(
                    f"{name:10} {strategy:5} {side:7} nDCG@10 {statistics.mean(values):.4f} "
                    f"({min(values):.4f} to {max(values):.4f}), {seconds:.1f} CPU s",
                    flush=True,
                )
            if args.figures:
                figures = {"cpu": cpu_name(), "pairs": args.rows, "results": results}
                args.figures.write_text(json.dumps(figures, indent=1) + "\n")
    for process in sides.values():
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
