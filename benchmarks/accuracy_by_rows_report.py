"""Tables and chart of what benchmarks/accuracy_by_rows.py measured."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pages

Figures = list[dict[str, Any]]
OURS = ("head-only", "few-shot", "lora", "layerwise", "full")
FAMILY = ("bitfit", "ia3", "bottleneck", "prefix", "peft")
BLUE, YELLOW, RED, GREEN, PURPLE, GREY = "#4269d0", "#d9a00f", "#d62728", "#3ca951", "#7b4ab2", "#7f7f7f"
PANELS = {  # by title: methods and their colours, of others that of the strategy to compare with
    "strategies, and what people take else (dashed)": {
        "head-only": BLUE,
        "few-shot": YELLOW,
        "lora": RED,
        "layerwise": GREEN,
        "full": PURPLE,
        "sentence-transformers": BLUE,
        "SetFit": YELLOW,
        "Trainer, LoRA": RED,
        "TF-IDF": GREY,
        "Trainer, full": PURPLE,
    },
    "further strategies, beside lora": {
        "lora": RED,
        "bitfit": BLUE,
        "ia3": YELLOW,
        "bottleneck": GREEN,
        "prefix": PURPLE,
        "peft": GREY,
        "AdapterHub, bottleneck": GREEN,
    },
}


def table(figures: Figures) -> str:
    """Return a table for each data set: the metric at each number of rows, and what a training costs."""
    parts = []
    for case in dict.fromkeys(row["case"] for row in figures):
        of_case = [row for row in figures if row["case"] == case]
        counts = sorted({row["rows"] for row in of_case})
        costs = [count for count in (64, 1000) if count in counts]
        titles = [
            f"{case}, {of_case[0]['metric']}",
            *(f"{n:,} rows" for n in counts),
            *(f"CPU s, {n:,} rows" for n in costs),
        ]
        draws = {n: len({row["seed"] for row in of_case if row["rows"] == n}) for n in counts}
        lines = []
        for method in dict.fromkeys(row["method"] for row in of_case):
            values = {n: [row for row in of_case if (row["method"], row["rows"]) == (method, n)] for n in counts}
            cells = [f"`{method}`" if method in OURS + FAMILY else method]
            cells += [_mean(values[n], "value", ".3f") + _fewer(values[n], draws[n]) for n in counts]
            cells += [_mean(values[n], "seconds", ".1f") for n in costs]
            lines.append(cells)
        note = f"{of_case[0]['tests']:,} test rows; draws of the training rows: "
        note += ", ".join(f"{draws[n]} of {n:,}" for n in counts) + "."
        parts.append(f"{pages.table(titles, lines)}\n\n{note}")
    cpus = " and ".join(sorted({row["cpu"] for row in figures}))
    return "\n\n".join([*parts, _sizes(figures), f"Means of the draws, base `minilm`, one thread, {cpus}."])


def _sizes(figures: Figures) -> str:
    """Return a table of what the strategies train and save, of the first data set at its most rows."""
    case = figures[0]["case"]
    rows = {row["method"]: row for row in figures if row["case"] == case and "adapter_bytes" in row}
    lines = [[f"`{m}`", f"{row['trained_parameters']:,}", f"{row['adapter_bytes']:,}"] for m, row in rows.items()]
    return pages.table(["strategy", "trained parameters", f"adapter bytes, {case}"], lines)


def _mean(rows: Figures, name: str, form: str) -> str:
    return format(statistics.mean(row[name] for row in rows), form) if rows else "-"


def _fewer(rows: Figures, draws: int) -> str:
    """Return how many draws a mean is of, where it isn't of all."""
    return f" ({len(rows)} of {draws} draws)" if 0 < len(rows) < draws else ""


def plot(figures: Figures, path: Path) -> None:
    """Draw the metric against the number of rows: a row of two panels for each data set of several numbers of rows."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "accuracy", "svg.fonttype": "none", "font.family": "sans-serif"})
    cases = [case for case in dict.fromkeys(row["case"] for row in figures) if len(_counts(figures, case)) > 2]
    figure, axes = pyplot.subplots(len(cases), 2, figsize=(11, 5 * len(cases)), squeeze=False, sharey="row")
    for case, row_of_axes in zip(cases, axes, strict=True):
        for axis, (title, colours) in zip(row_of_axes, PANELS.items(), strict=True):
            shown = {name: points for name in colours if (points := _points(figures, case, name))}
            if len(shown) < 2:
                axis.set_axis_off()
                continue
            for name, points in shown.items():
                line, marker = ("-", "o") if name in OURS + FAMILY else ("--", "s")
                x, y = zip(*points, strict=True)
                axis.plot(x, y, line, marker=marker, markersize=4, label=name, color=colours[name], linewidth=1.8)
            counts = _counts(figures, case)
            axis.set_xscale("log")
            axis.set_xticks(counts, [f"{n:,}" for n in counts])
            axis.minorticks_off()
            axis.set(xlabel="training rows", title=f"{case}: {title}")
            axis.title.set_fontsize(10)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
        row_of_axes[0].set_ylabel(next(row["metric"] for row in figures if row["case"] == case))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _points(figures: Figures, case: str, method: str) -> list[tuple[int, float]]:
    """Return the numbers of rows of a method and the mean of its metric."""
    values: dict[int, list[float]] = {}
    for row in figures:
        if (row["case"], row["method"]) == (case, method):
            values.setdefault(row["rows"], []).append(row["value"])
    return [(count, statistics.mean(values[count])) for count in sorted(values)]


def _counts(figures: Figures, case: str) -> list[int]:
    return sorted({row["rows"] for row in figures if row["case"] == case})
