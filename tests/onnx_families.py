"""Compare an export's answers with a pool's for every text task of every family of encoders.

    python -m tests.onnx_families [--data FOLDER] [--rows 60] [BASE...]

A base is a family, of which a tiny random one is made, or a name or folder as in `adapt run --base`. With a folder of
data sets, rows of theirs are answered. Prints a line for each base and task, and exits with 1 where answers or scores
differ by more than 1e-4. Not part of the suite, which has all tasks of BERT: each graph takes a second to export.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapterkit import Base, Pool
from adapterkit.convert.onnx_export import write_onnx
from adapterkit.data.splits import load as load_splits
from adapterkit.runtime import OnnxPool
from adapterkit.settings import DataOptions
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.pooled import same
from tests.helpers.random_probes import probe
from tests.helpers.task_kinds import has_head, kinds

FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "deberta-v2")
WITHIN = 1e-4
LENGTH = 256  # tokens of a row, and of a window of a context


def rows_of(path: Path, limit: int) -> list[dict[str, Any]]:
    """Return rows of a file, drawn without regard to its order."""
    rows = load_splits(DataOptions(train_file=str(path)))["train"].shuffle(seed=0)
    return list(rows.select(range(min(limit, len(rows)))))


def masked(text: str, mask: str) -> str:
    """Put a mask in the place of the middle word."""
    words = text.split()
    return " ".join([*words[: len(words) // 2], mask, *words[len(words) // 2 + 1 :]])


def real_rows(data: Path, limit: int, mask: str) -> dict[str, list[Any]]:
    """Return rows of the data sets for each kind of task."""
    texts = [row["text"] for row in rows_of(data / "sentiment" / "test.csv", limit)]
    several = [row["text"] for row in rows_of(data / "multilabel" / "test.jsonl", limit)]
    pairs = [(row["premise"], row["hypothesis"]) for row in rows_of(data / "nli" / "test.tsv", limit)]
    questions = rows_of(data / "squad" / "validation.json", limit)
    return {
        "classes": texts,
        "several": several,
        "number": texts,
        "pair": [{"premise": a, "hypothesis": b} for a, b in pairs],
        "entities": [{"tokens": row["tokens"]} for row in rows_of(data / "ner" / "test.conll", limit)],
        "questions": [{"q": row["question"], "c": row["context"]} for row in questions],
        "choices": ["\t".join(three) for three in zip(texts[::3], texts[1::3], texts[2::3], strict=False)],
        "vectors": texts,
        "ranking": [{"q": a, "p": b} for a, b in pairs],
        "masks": [masked(text, mask) for text in texts if len(text.split()) > 2],
    }


def adapters_of(base: Base, task: Any, kind: str) -> dict[str, Any]:
    """Return an update and, where the task has one, a probe."""
    adapters = {f"{kind}-lora": made.adapter(base, task, "lora", seed=1)}
    if task.probe_unit is not None:
        adapters[f"{kind}-probe"] = probe(base, task, (1,), "mean" if task.probe_unit == "text" else None, seed=2)
    return adapters


def compared(base: Base, adapters: dict[str, Any], texts: list[Any], export: OnnxPool) -> str:
    """Return how the answers of a task's adapters compare, and all scores."""
    names = list(adapters)
    with Pool(base, adapters) as pool:
        for scores in (False, True):
            wanted = pool.predict(texts, adapters=names, all_scores=scores)
            same(export.predict(texts, adapters=names, all_scores=scores), wanted, within=WITHIN)
    return f"{len(texts)} rows equal to {WITHIN} ({', '.join(names)})"


def base_of(name: str, folder: Path) -> Base:
    """Return a tiny random base of a family, or the base of that name."""
    if name not in tiny.CONFIGS:
        return Base.load(name)
    size = {} if name == "modernbert" else {"num_hidden_layers": 1}  # it lists the kinds of its layers
    base = Base.load(str(tiny.make(name, folder / "base", max_position_embeddings=LENGTH + 2, **size)))
    base.tokenizer.model_max_length = LENGTH
    return base


def compare_base(base: Base, folder: Path, rows: dict[str, list[Any]]) -> Iterator[tuple[str, str]]:
    """Yield the kind of each task and how it compares: one export holds the adapters of all of them."""
    tasks = {k: replace(task, max_seq_length=LENGTH) for k, (task, _) in kinds().items()}
    usable = {k: task for k, task in tasks.items() if task.auto_class and has_head(base, task)}
    yield from ((kind, "no head") for kind in kinds().keys() - usable.keys())
    adapters = {kind: adapters_of(base, task, kind) for kind, task in usable.items()}
    write_onnx(base, {n: ("1", a) for of_kind in adapters.values() for n, a in of_kind.items()}, folder / "onnx")
    export = OnnxPool(folder / "onnx")
    for kind, of_kind in adapters.items():
        try:
            yield kind, compared(base, of_kind, rows[kind], export)
        except AssertionError as error:
            yield kind, f"DIFFERENT: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bases", nargs="*", default=FAMILIES, metavar="BASE")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="data sets whose rows are answered")
    parser.add_argument("--rows", type=int, default=60, help="of each data set, with --data (default: 60)")
    args = parser.parse_args()
    failed = False
    for name in args.bases:
        with tempfile.TemporaryDirectory() as folder:
            base = base_of(name, Path(folder))
            rows = {kind: texts for kind, (_, texts) in kinds().items()}
            if args.data:
                rows = real_rows(args.data, args.rows, base.tokenizer.mask_token)
            for kind, result in compare_base(base, Path(folder), rows):
                print(f"{name:<12} {kind:<10} {result}", flush=True)
                failed = failed or result.startswith("DIFFERENT")
    sys.exit(failed)


if __name__ == "__main__":
    main()
