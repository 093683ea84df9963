"""Put the figures of docs/figures/*.json into the pages: nothing is measured.

python benchmarks/figures.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accuracy_by_rows_report
import defaults_report
import embeddings_report
import pages
import pool_report
import saved_epoch
import serving_report
import training_report


def bitplanes(figures: dict[str, Any]) -> str:
    """Return the table of coders of byte planes; a case is a dict of figures."""
    lines = []
    for case, measured in figures.items():
        if not isinstance(measured, dict):
            continue
        lines += [f"| {case} | share of the bytes | pack, CPU s | unpack, CPU s |", "|---|---|---|---|"]
        for name, one in measured["coders"].items():
            share = one["bytes"] / measured["plain_bytes"]
            lines.append(f"| {name} | {share:.4f} | {one['pack_cpu_seconds']:.2f} | {one['unpack_cpu_seconds']:.2f} |")
        lines.append("")
    return "\n".join(lines[:-1])


DOCS = Path(__file__).parent.parent / "docs"
SOURCES: dict[str, tuple[str, Callable[[Any], str]]] = {  # a mark in the pages: the file of its figures, and the text
    "pool": ("pool", pool_report.table),
    "pool-pass": ("pool_pass", lambda tables: pages.rendered(tables["pool-pass"])),
    "pool-mixed": ("pool_pass", lambda tables: pages.rendered(tables["pool-mixed"])),
    "training": ("training", training_report.table),
    "training-short": ("training", training_report.short),
    "time-to-accuracy": ("time_to_accuracy", lambda tables: pages.rendered(tables["time-to-accuracy"])),
    "accuracy-by-rows": ("accuracy_by_rows", accuracy_by_rows_report.table),
    "saved-epoch": ("saved_epoch", saved_epoch.table),
    "defaults": ("defaults", defaults_report.table),
    "sizes": ("sizes", lambda tables: pages.rendered(tables["sizes"])),
    "bitplanes": ("bitplanes", bitplanes),
    "verdicts": ("verdicts", lambda tables: pages.rendered(tables["verdicts"])),
    "few-rows": ("few_rows", lambda tables: pages.rendered(tables["few-rows"])),
    "few-shot": ("few_shot", lambda tables: pages.rendered(tables["few-shot"])),
    "checked": ("estimate", lambda tables: pages.rendered(tables["checked"])),
    "dtypes": ("dtypes", lambda tables: pages.rendered(tables["dtypes"])),
    "serving": ("serving", serving_report.sides),
    "serving-adapters": ("serving_adapters", serving_report.adapters),
    "embeddings": ("embeddings", embeddings_report.table),
    "large": ("estimate", lambda tables: pages.rendered(tables["large"])),
}


def rendered() -> dict[str, str]:
    """Return the text of each mark, from its file of figures."""
    return {
        mark: text(json.loads((DOCS / f"figures/{file}.json").read_text())) for mark, (file, text) in SOURCES.items()
    }


def main() -> None:
    texts = rendered()
    by_rows = json.loads((DOCS / "figures/accuracy_by_rows.json").read_text())
    accuracy_by_rows_report.plot(by_rows, DOCS / "figures/accuracy_by_rows.svg")
    for page in sorted(DOCS.rglob("*.md")):
        if any(pages.block(mark).search(page.read_text(encoding="utf-8")) for mark in texts):
            pages.update(page, texts)
            print(page.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
