"""Compare an export's answers with a pool's for every text task of every family of encoders.

    python -m tests.onnx_families [FAMILY...]

Prints a line for each family and task, and exits with 1 where answers or scores differ by more than 1e-4. Not part of
the suite, which has all tasks of BERT: each graph takes a second to export.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapterkit import Base, Pool
from adapterkit.convert.onnx_export import write_onnx
from adapterkit.runtime import OnnxPool
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.pooled import same
from tests.helpers.random_probes import probe
from tests.helpers.task_kinds import has_head, kinds

FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "deberta-v2")
WITHIN = 1e-4


def adapters_of(base: Base, task: Any, kind: str) -> dict[str, Any]:
    """Return an update and, where the task has one, a probe."""
    adapters = {f"{kind}-lora": made.adapter(base, task, "lora", seed=1)}
    if task.probe_unit is not None:
        adapters[f"{kind}-probe"] = probe(base, task, (1,), "mean" if task.probe_unit == "text" else None, seed=2)
    return adapters


def compared(base: Base, adapters: dict[str, Any], texts: list[str], export: OnnxPool) -> str:
    """Return how the answers of a task's adapters compare, and all scores."""
    names = list(adapters)
    with Pool(base, adapters) as pool:
        for scores in (False, True):
            wanted = pool.predict(texts, adapters=names, all_scores=scores)
            same(export.predict(texts, adapters=names, all_scores=scores), wanted, within=WITHIN)
    return f"equal to {WITHIN} ({', '.join(names)})"


def compare_family(family: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the kind of each task and how it compares: one export holds the adapters of all of them."""
    size = {} if family == "modernbert" else {"num_hidden_layers": 1}  # it lists the kinds of its layers
    base = Base.load(str(tiny.make(family, folder / "base", **size)))
    usable = {k: task for k, (task, _) in kinds().items() if task.auto_class and has_head(base, task)}
    yield from ((kind, "no head") for kind in kinds().keys() - usable.keys())
    adapters = {kind: adapters_of(base, task, kind) for kind, task in usable.items()}
    write_onnx(base, {n: ("1", a) for of_kind in adapters.values() for n, a in of_kind.items()}, folder / "onnx")
    export = OnnxPool(folder / "onnx")
    for kind, of_kind in adapters.items():
        try:
            yield kind, compared(base, of_kind, kinds()[kind][1], export)
        except AssertionError as error:
            yield kind, f"DIFFERENT: {error}"


def main() -> None:
    failed = False
    for family in sys.argv[1:] or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            for kind, result in compare_family(family, Path(folder)):
                print(f"{family:<12} {kind:<10} {result}", flush=True)
                failed = failed or result.startswith("DIFFERENT")
    sys.exit(failed)


if __name__ == "__main__":
    main()
