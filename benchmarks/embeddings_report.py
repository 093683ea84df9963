"""The table of benchmarks/embeddings.py for the pages: nothing is measured."""

from __future__ import annotations

import statistics
from typing import Any

import pages

SIDES = {"ours": "adapterkit", "theirs": "sentence-transformers"}


def table(figures: dict[str, Any]) -> str:
    """Return means of nDCG@10 with the least and the greatest of the seeds, and medians of CPU seconds."""
    results = figures["results"]
    rows = []
    for cell in dict.fromkeys((r["data"], r["strategy"]) for r in results):
        of_sides = [[r for r in results if (r["data"], r["strategy"], r["side"]) == (*cell, side)] for side in SIDES]
        values = [[r["ndcg"] for r in some] for some in of_sides]
        scores = [f"{statistics.mean(v):.4f} ({min(v):.4f} to {max(v):.4f})" for v in values]
        rows.append([*cell, *scores, *(f"{statistics.median(r['seconds'] for r in some):.1f}" for some in of_sides)])
    heads = [f"{figure}, {name}" for figure in ("nDCG@10", "CPU s") for name in SIDES.values()]
    seeds = len({r["seed"] for r in results})
    return f"{seeds} seeds, up to {figures['pairs']} pairs, {figures['cpu']}:\n\n" + pages.table(
        ["data", "strategy", *heads], rows
    )
