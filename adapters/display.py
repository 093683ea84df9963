"""Texts for people: sizes, metrics, and the short and HTML forms of results in a console or notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .errors import printable

_COUNTS = ("n", "intervals")
"""Entries beside the metrics."""


def size(count: int) -> str:
    """Return a number of bytes for reading: 303.1 kB."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"


def metric_text(metrics: Mapping[str, Any]) -> str:
    """Return metrics for reading, with their 95 % intervals: accuracy 0.933 [0.883, 0.975] (120 rows)."""
    intervals = metrics.get("intervals", {})
    parts = []
    for name, value in metrics.items():
        if name not in _COUNTS:
            low, high = intervals.get(name, (None, None))
            parts.append(f"{name} {value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else ""))
    text = ", ".join(parts)
    return f"{text} ({metrics['n']:,} rows)" if "n" in metrics else text


def best_metric(metrics: Mapping[str, Mapping[str, Any]], best: str | None = None) -> str:
    """Return the metric of the best epoch, on the test rows if there are any: accuracy 0.933 (test, 120 rows).

    `best` names the metric by which the epoch was chosen; "-" for an adapter without metrics.
    """
    split = next((split for split in ("test", "validation") if split in metrics), next(iter(metrics), "validation"))
    measured = metrics.get(split, {})
    if not measured.get("n"):
        return "-"
    name = best if best is not None and best in measured else next(iter(measured))
    return f"{name} {measured[name]:.3f} ({split}, {int(measured['n']):,} rows)"


def metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return metrics by split as rows of a table: split, metric, value with its interval, rows."""
    rows = []
    for split, measured in metrics.items():
        intervals = measured.get("intervals", {})
        for name, value in measured.items():
            if name not in _COUNTS:
                interval = " [{:.3f}, {:.3f}]".format(*intervals[name]) if name in intervals else ""
                rows.append([split, name, f"{value:.3f}{interval}", f"{int(measured.get('n', 0)):,}"])
    return rows


def metric_table(
    metrics: Mapping[str, Mapping[str, Any]], best: str | None = None
) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of a table of metrics: a row for each, `best` first, and a column for each split."""
    names = list(dict.fromkeys(name for measured in metrics.values() for name in measured if name not in _COUNTS))
    names.sort(key=lambda name: name != best)
    columns = ["metric", *(f"{split} ({int(measured.get('n', 0)):,} rows)" for split, measured in metrics.items())]
    return columns, [[name, *(_with_interval(measured, name) for measured in metrics.values())] for name in names]


def _with_interval(measured: Mapping[str, Any], name: str) -> str:
    if name not in measured:
        return "-"
    low_high = measured.get("intervals", {}).get(name)
    return f"{measured[name]:.3f}" + (" [{:.3f}, {:.3f}]".format(*low_high) if low_high else "")


_BLOCKS = "▁▂▃▄▅▆▇█"


def curve(values: Sequence[float]) -> str:
    """Return numbers as a line of blocks from the lowest to the highest, between the first and the last: 0.7 █▃▁ 0.2.

    A number that isn't finite is an exclamation mark.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, step = min(finite, default=0.0), (max(finite, default=0.0) - min(finite, default=0.0)) / (len(_BLOCKS) - 1)
    blocks = [
        "!" if not math.isfinite(value) else _BLOCKS[round((value - low) / step) if step else 0] for value in values
    ]
    return f"{values[0]:.3f} {''.join(blocks)} {values[-1]:.3f}"


def learning_curves(history: Sequence[Mapping[str, float]], best: str) -> list[tuple[str, str]]:
    """Return the curves of the training loss and of the metric that chose the epoch, each with its name.

    Empty for fewer than two epochs.
    """
    curves = []
    for name in ("train_loss", best):
        values = [float(epoch[name]) for epoch in history if epoch.get(name) is not None]
        if len(values) > 1:
            curves.append((name, curve(values)))
    return curves


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table for a notebook, every cell escaped."""

    def cells(tag: str, values: Sequence[Any]) -> str:
        inner = "".join(f"<{tag} style='text-align:left'>{escape(printable(str(value)))}</{tag}>" for value in values)
        return f"<tr>{inner}</tr>"

    body = "".join(cells("td", row) for row in rows)
    head = f"<thead>{cells('th', columns)}</thead>" if columns else ""
    return f"<table><caption>{escape(printable(title))}</caption>{head}<tbody>{body}</tbody></table>"
