"""Head-only's linear probe against scikit-learn's LogisticRegression on mean embeddings of the same base.

Both read the same rows, choose by the same validation rows (the penalty; ours the layer and the pooling too), and are
evaluated on the same test rows. Seconds, printed beside, count from text
to fitted head, in turns; head-only's are those of a complete run, the check of what is saved included.

    python benchmarks/probe.py --data DATA --figures docs/figures/probe.json && python benchmarks/figures.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pages
import torch
import transformers
from sklearn.linear_model import LogisticRegression
from training import rows_of
from training_cases import READ, columns_of

import adapterkit as ak

DATA = ("sentiment", "snips", "banking77", "nli", "long-reviews")
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


def read(path: Path, name: str) -> tuple[list[tuple[str, ...]], list[str]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    texts, label = columns_of(list(rows[0]), READ.get(name, {}))
    return [tuple(row[column] for column in texts) for row in rows], [str(row[label]) for row in rows]


def embedded(base: ak.Base, texts: list[tuple[str, ...]]) -> np.ndarray[Any, Any]:
    """Return the mean of each text's last hidden states, (texts, width); texts of like length share a batch."""
    order = sorted(range(len(texts)), key=lambda i: sum(map(len, texts[i])))
    vectors: dict[int, np.ndarray[Any, Any]] = {}
    for start in range(0, len(order), 32):
        part = order[start : start + 32]
        fields = [list(column) for column in zip(*(texts[i] for i in part), strict=True)]
        batch = base.tokenizer(*fields, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            hidden = base.model(**batch)[0]
        mask = batch["attention_mask"][..., None]
        vectors |= dict(zip(part, ((hidden * mask).sum(1) / mask.sum(1)).numpy(), strict=True))
    return np.stack([vectors[i] for i in range(len(texts))])


def by_regression(base: ak.Base, folder: Path, name: str) -> tuple[float, float]:
    """Return seconds and test accuracy of LogisticRegression, its penalty chosen on the validation rows."""
    sets = {split: read(folder / f"{split}.jsonl", name) for split in ("train", "validation", "test")}
    began = time.perf_counter()
    x = {split: embedded(base, sets[split][0]) for split in ("train", "validation")}
    models = [LogisticRegression(C=c, max_iter=2000).fit(x["train"], sets["train"][1]) for c in PENALTIES]
    best = max(models, key=lambda model: model.score(x["validation"], sets["validation"][1]))
    seconds = time.perf_counter() - began
    return seconds, float(best.score(embedded(base, sets["test"][0]), sets["test"][1]))


def by_probe(base: ak.Base, folder: Path, name: str) -> tuple[float, float]:
    """Return seconds and test accuracy of head-only."""
    files = {f"{split}_file": f"{folder}/{split}.jsonl" for split in ("train", "validation", "test")}
    with tempfile.TemporaryDirectory() as store:
        options = {"task": "text-classification", "max_seq_length": 128, **READ.get(name, {}), **files}
        report = ak.run(
            strategy="head-only", base=base, registry=f"{store}/registry.json", watch=None, name="probe", **options
        )
    return report.seconds, float(report.metrics["test"]["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets, one folder each")
    parser.add_argument("--limit", type=int, default=400, help="training rows")
    parser.add_argument("--limit-eval", type=int, default=200, help="validation rows, and as many test rows")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figures", type=Path, help="write the table as JSON, for benchmarks/figures.py")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    base, rows = ak.Base.load("minilm"), []
    with tempfile.TemporaryDirectory() as temporary:
        for name in DATA:
            folder = rows_of(args, name, Path(temporary), None)
            sides = {"probe": by_probe, "regression": by_regression}
            turns: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for _ in range(args.turns):
                for side, function in sides.items():
                    turns[side].append(function(base, folder, name))
            rows.append([name, *(f"{measured[0][1]:.3f}" for measured in turns.values())])
            seconds = {side: statistics.median(each for each, _ in measured) for side, measured in turns.items()}
            print(f"# {rows[-1]}, seconds {seconds}", flush=True)
    titles = ["data", "head-only's probe: test accuracy", "LogisticRegression on mean embeddings: test accuracy"]
    note = (
        f"{args.limit} training rows, {args.limit_eval} validation and test rows at most, 128 tokens; one split, so "
        "that a difference below 0.05 is no evidence. The penalty, and the probe's layer and pooling, are chosen on "
        "the validation rows."
    )
    tables = {"probe": {"titles": titles, "rows": rows, "note": note}}
    print(pages.rendered(tables["probe"]))
    if args.figures:
        args.figures.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
