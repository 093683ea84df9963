"""Table and chart of what benchmarks/strategies.py measured."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table."""
    about, rows = figures["about"], figures["rows"]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    seeds = len({row["seed"] for row in rows})
    metric = {case: next(row["metric"] for row in rows if row["case"] == case) for case in cases}
    heads = [f"{case}, {metric[case]}" for case in cases]
    lines = [
        f"| strategy | {' | '.join(heads)} | trained parameters | adapter bytes | of the base | seconds | memory |",
        "|---" * (6 + len(cases)) + "|",
    ]
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        rows_of_it = [row for row in rows if row["strategy"] == strategy]
        first = rows_of_it[0]
        cells = [f"`{strategy}`"]
        for case in cases:
            each = [row for row in rows_of_it if row["case"] == case]
            low, high = (statistics.mean(row["interval"][k] for row in each) for k in (0, 1))
            cells.append(f"{statistics.mean(row['value'] for row in each):.3f} ({low:.3f} to {high:.3f})")
        cells += [
            f"{first['trained_parameters']:,}",
            f"{first['adapter_bytes']:,}",
            f"{first['adapter_bytes'] / first['base_bytes']:.2%}",
            f"{statistics.median(row['seconds'] for row in rows_of_it):.0f}",
            f"{statistics.median(row['memory'] for row in rows_of_it) / 1e6:,.0f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    n = ", ".join(f"{int(next(row['n'] for row in rows if row['case'] == case)):,} of {case}" for case in cases)
    of = f" (parameters and bytes: of {cases[0]})" if len(cases) > 1 else ""
    return "\n".join(
        [
            *lines,
            "",
            f"{about} Metrics are means of {seeds} seeds on the test rows ({n}), in brackets their 95 % intervals "
            f"by resampling rows, each end a mean of the seeds'. Seconds and memory above the base are medians{of}.",
        ]
    )


def plot(rows: list[dict[str, Any]], cases: list[str], path: Path) -> None:
    """Draw each case's metric against the adapter's bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(cases), figsize=(4.6 * len(cases), 4.2), squeeze=False)
    for axis, case in zip(axes[0], cases, strict=True):
        rows_of_it = [row for row in rows if row["case"] == case]
        for strategy in dict.fromkeys(row["strategy"] for row in rows_of_it):
            each = [row for row in rows_of_it if row["strategy"] == strategy]
            values = [row["value"] for row in each]
            size, value = each[0]["adapter_bytes"], statistics.mean(values)
            error = [[value - min(values)], [max(values) - value]]
            axis.errorbar([size], [value], yerr=error, fmt="o", capsize=2, color="#31688e")
            axis.annotate(strategy, (size, value), xytext=(4, 4), fontsize=7,
                          textcoords="offset points")  # fmt: skip
        axis.set(xscale="log", xlabel="bytes of the adapter", ylabel=rows_of_it[0]["metric"], title=case)
        axis.grid(alpha=0.3)
        axis.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
