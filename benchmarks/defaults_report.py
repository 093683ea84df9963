"""Table of what benchmarks/defaults.py measured."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pages

HIDDEN = {"max_seq_length"}
"""Options that are the same for all runs of a case."""


def table(figures: list[dict[str, Any]]) -> str:
    """Return a row for each combination of data, rows, strategy and options, with the values of its seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in figures:
        key = {name: value for name, value in row["run"].items() if name != "seed"}
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(row)
    lines = []
    for key, rows in sorted(groups.items(), key=lambda group: _order(json.loads(group[0]))):
        run, values = json.loads(key), [row["value"] for row in rows]
        size = f"{run['rows']:,}" if run["rows"] else f"{run['per_label']} a label"
        options = {name: value for name, value in run["options"].items() if name not in HIDDEN}
        head = options.pop("head_init", "auto")
        spread = "" if len(values) == 1 else f" ({min(values):.3f} to {max(values):.3f})"
        lines.append(
            [
                run["case"],
                size,
                f"`{run['strategy']}`",
                f"probe x {run['head_scale']:g}" if head == "probe" and "head_scale" in run else head,
                ", ".join(f"{name}={value}" for name, value in options.items()),
                f"{rows[0]['metric']} {statistics.mean(values):.3f}{spread}",
                str(len(values)),
                f"{statistics.mean(row['seconds'] for row in rows):.0f}",
            ]
        )
    titles = ["data", "rows", "strategy", "head", "options", "metric: mean (range)", "seeds", "CPU s"]
    return pages.table(titles, lines)


def _order(run: dict[str, Any]) -> tuple[Any, ...]:
    return (
        run["case"],
        run["rows"] or 0,
        run["per_label"] or 0,
        run["strategy"],
        sorted(map(str, run["options"].items())),
    )
