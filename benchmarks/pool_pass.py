"""How many texts a CPU core answers per second with one adapter and with 64: the pool against transformers.

Every side runs on one thread, the sides taking turns; CPU time is counted, so that others on the
machine change little. Three sets of texts: short questions, sentences, and reviews cut to 128 tokens.

    python benchmarks/pool_pass.py --data ../shared/data --out docs/figures/pool_pass.json
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pages
import torch
import transformers
from pool_setup import trained, variants

from adapterkit import Base, Pool
from adapterkit.convert.merge import merge
from adapterkit.pool import folding, packing

LENGTH = 128


def texts(data: Path, count: int) -> dict[str, list[str]]:
    """Return the three sets of texts, in an order that mixes their lengths."""
    questions = [row["text"] for row in csv.DictReader((data / "banking77/test.csv").open(encoding="utf-8"))]
    sentences = [row["text"] for row in csv.DictReader((data / "sentiment/test.csv").open(encoding="utf-8"))]
    lines = (data / "long-reviews/test.jsonl").read_text(encoding="utf-8").splitlines()
    reviews = [json.loads(line)["text"] for line in lines]
    return {
        "short questions": questions[:: len(questions) // count][:count],
        "sentences": sentences[:: len(sentences) // count][:count],
        "reviews": reviews[: count // 4],
    }


@contextlib.contextmanager
def padded() -> Iterator[None]:
    """Run a pool's passes padded, and its adapters unfolded, as they were before they could be otherwise."""
    before = packing.has_padding, folding.Folding.weights
    packing.has_padding = lambda lengths: False
    folding.Folding.weights = lambda self, adapter, tokens: adapter  # type: ignore[method-assign]
    try:
        yield
    finally:
        packing.has_padding, folding.Folding.weights = before  # type: ignore[method-assign]


def in_turns(sides: dict[str, Callable[[], Any]], count: int) -> dict[str, float]:
    """Return the median CPU seconds of each side."""
    for side in sides.values():
        side()
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(count):
        for name, side in sides.items():
            began = time.thread_time()
            side()
            spent[name].append(time.thread_time() - began)
    return {name: statistics.median(values) for name, values in spent.items()}


def bare(model: Any, tokenizer: Any, batch: list[str]) -> None:
    """Run a base on a padded batch: tokenization and one pass."""
    inputs = tokenizer(batch, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.inference_mode():
        model(**inputs)


def measured(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the table of texts per second, and of passes of 64 adapters."""
    base = Base.load("minilm")
    adapter = trained(base, folder / "lora", "lora", max_seq_length=LENGTH, head="model")
    many = variants(adapter, 64, folder / "many")
    merged = merge(base, adapter, folder / "merged")
    pipe = transformers.pipeline("text-classification", model=str(merged), device="cpu")
    options = {"truncation": True, "max_length": LENGTH}
    names = [one.name for one in many]
    rows, passes = [], []
    with Pool(base, many) as exact, Pool(base, many, dtype="bfloat16") as rounded:
        half = rounded._routed._plain
        for title, some in texts(args.data, args.texts).items():

            def padded_pool(pool: Pool, some: list[str] = some) -> None:
                with padded():
                    pool.predict(some, "a0")

            spent = in_turns(
                {
                    "pipeline": lambda some=some: pipe(some, **options),
                    "pipeline, batches of 64": lambda some=some: pipe(some, batch_size=64, **options),
                    "padded pool": lambda: padded_pool(exact),
                    "pool": lambda some=some: exact.predict(some, "a0"),
                    "padded pool, bf16": lambda: padded_pool(rounded),
                    "pool, bf16": lambda some=some: rounded.predict(some, "a0"),
                },
                args.turns,
            )
            rows.append([title, *(f"{len(some) / seconds:.0f}" for seconds in spent.values())])
            batch = [some[i % len(some)] for i in range(64)]
            once = in_turns(
                {
                    "base": lambda batch=batch: bare(half, base.tokenizer, batch),
                    "pool": lambda batch=batch: rounded.predict(batch, adapter_of_each=names),
                },
                args.turns,
            )
            passes.append([title, "64", f"{once['pool'] / once['base']:.2f}"])
    titles = ["texts per CPU second", *spent]
    note = (
        f"{pages.cpu_name()}, one thread, torch {torch.__version__}, medians of CPU time in {args.turns} turns. "
        "The padded pool is this pool without packing and folding."
    )
    return {
        "pool-pass": {"titles": titles, "rows": rows, "note": note},
        "pool-mixed": {
            "titles": ["texts", "LoRA adapters", "passes of the bare base in bf16"],
            "rows": passes,
            "note": note,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # reviews are cut on every side
    with tempfile.TemporaryDirectory() as folder:
        tables = measured(args, Path(folder))
    args.out.write_text(json.dumps(tables, indent=1) + "\n")
    for table in tables.values():
        print(pages.rendered(table), end="\n\n")


if __name__ == "__main__":
    main()
