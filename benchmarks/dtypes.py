"""What a pool's dtype costs in accuracy: the answers of one adapter in each of them, and the time that they take.

For each data set a LoRA adapter is trained on some of its rows. It answers the test rows in every dtype, one by one
and in batches of 32, on one thread.

    python benchmarks/dtypes.py --data ../shared/data --out docs/figures/dtypes.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pages
import torch

import adapterkit as ak
from adapterkit.data.splits import LINE
from adapterkit.data.splits import load as load_splits
from adapterkit.errors import PoolError
from adapterkit.execution.precision import bf16_support
from adapterkit.settings import DataOptions

CLASSES = {"task": "text-classification"}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {  # training rows, test rows, and the options of a run
    "sentiment": ("sentiment/train.csv", "sentiment/test.csv", {}),
    "nli": ("nli/train.tsv", "nli/test.tsv", {}),
    "snips intents": ("snips/train.jsonl", "snips/test.jsonl", {**CLASSES, "label_column_name": "intent"}),
    "banking77": ("banking77/train.csv", "banking77/test.csv", {}),
    "clinc150 travel": ("clinc150/travel/train.csv", "clinc150/travel/test.csv", {}),
    "long-reviews": ("long-reviews/train.jsonl", "long-reviews/test.jsonl", {}),
    "multilabel": ("multilabel/train.jsonl", "multilabel/test.jsonl", {}),
    "ner": ("ner/train.conll", "ner/test.conll", {"task": "token-classification"}),
}
DTYPES = ("float32", "float16-weights", "int8", *(("bfloat16",) if bf16_support("cpu")[0] else ()))
BATCHES = (1, 32)


def rows_of(path: Path, limit: int) -> list[dict[str, Any]]:
    """Return the first rows of a file, drawn without regard to its order."""
    rows = load_splits(DataOptions(train_file=str(path)))["train"].remove_columns([LINE]).shuffle(seed=0)
    return list(rows.select(range(min(limit, len(rows)))))


def outcome(answer: Any) -> Any:
    """Return what an answer decides, without its scores and with its labels alone."""
    if isinstance(answer, list):
        return [outcome(part) for part in answer]
    if not isinstance(answer, dict):
        return answer
    if "labels" in answer:
        return sorted(answer["labels"])
    decided = {key: outcome(value) for key, value in answer.items() if key != "score"}
    return next(iter(decided.values())) if len(decided) == 1 else decided


def labels_of(row: dict[str, Any], column: str | None) -> Any:
    """Return a row's labels as `outcome` returns them; None where it has none of its own."""
    labels = row.get(column or "")
    return sorted(labels) if isinstance(labels, list) else labels


def measured(case: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return, by dtype and rows a batch, the answers that are right and that differ, and milliseconds of CPU a text."""
    train, test, options = CASES[case]
    rows, held = (rows_of(args.data / part, limit) for part, limit in ((train, args.rows), (test, args.limit)))
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        registry = Path(folder) / "registry.json"
        run = ak.run(registry=registry, base="minilm", train=rows, test=held, strategy="lora", seed=0, **options)
    column = getattr(run.adapter.task, "label_column_name", None)
    expected: list[Any] = []
    for dtype in DTYPES:
        try:
            pool = ak.Pool("minilm", {"it": run.adapter}, dtype=dtype)
        except PoolError as error:
            print(f"{case}: {error}")
            continue
        with pool:
            for batch in BATCHES:
                outcomes, spent = [], 0.0
                for start in range(0, len(held), batch):
                    texts = held[start : start + batch]
                    began = time.process_time()
                    answers = pool.predict(texts, adapter="it")
                    spent += time.process_time() - began
                    outcomes += map(outcome, answers)
                expected = expected or outcomes
                right = [found == labels_of(row, column) for found, row in zip(outcomes, held, strict=True)]
                figures[f"{dtype}, {batch}"] = {
                    "right": sum(right),
                    "changed": sum(a != b for a, b in zip(outcomes, expected, strict=True)),
                    "ms": 1000 * spent / len(held),
                    "rows": len(held),
                }
    return figures


def table(figures: dict[str, dict[str, dict[str, float]]], cpu: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the table of a page."""
    rows = []
    for case, by_pass in figures.items():
        plain = {batch: by_pass[f"float32, {batch}"] for batch in BATCHES}
        for name, one in by_pass.items():
            dtype, _, batch = name.partition(", ")
            exact, count = plain[int(batch)], one["rows"]
            right = f"{one['right'] / count:.3f}" if exact["right"] else "-"
            rows.append(
                [case, dtype, batch, right, f"{one['changed']:.0f} of {count:.0f}", f"{one['ms'] / exact['ms']:.2f}"]
            )
    titles = ["test rows of", "dtype", "texts a pass", "right", "answers that differ", "CPU time"]
    note = f"LoRA, {args.rows} training rows at most; CPU time by that of float32. {cpu}."
    return {"titles": titles, "rows": rows, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rows", type=int, default=500, help="training rows")
    parser.add_argument("--limit", type=int, default=1000, help="test rows")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    figures = {case: measured(case, args) for case in args.cases.split(",")}
    report = {"dtypes": table(figures, pages.cpu_name(), args), "figures": figures}
    print(pages.rendered(report["dtypes"]))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
