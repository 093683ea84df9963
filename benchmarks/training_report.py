"""Tables and chart of what benchmarks/training.py measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from training_cases import CASES, COLUMNS, EFFICIENT, FLAT, MEMORY, PROCESSES, Figures


def measured_of(figures: dict[str, Any], name: str) -> dict[str, dict[str, list[Figures]]]:
    """Return the measurements of a case by data set and side."""
    sets: dict[str, dict[str, list[Figures]]] = {}
    for row in figures["rows"]:
        if row["case"] == name:
            sets.setdefault(row["data"], {}).setdefault(row["side"], []).append(row)
    return sets


def middle(rows: list[Figures], key: str) -> float:
    return float(statistics.median(row[key] for row in rows))


def mean(rows: list[Figures], key: str) -> float:
    return float(statistics.mean(row[key] for row in rows))


def spread(rows: list[Figures], key: str, scale: float = 1.0, digits: str = ".3g") -> str:
    values = [row[key] * scale for row in rows]
    return f"{statistics.median(values):{digits}} ({min(values):{digits}} to {max(values):{digits}})"


def met(ratio: float, wanted: float) -> str:
    return "yes" if ratio >= wanted else f"no, {1 - ratio / wanted:.0%} short"


def speed(figures: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a row for each side that ours is compared with."""
    compared = [
        (name, problem, side, sides["ours"], theirs)
        for name in CASES
        for problem, sides in measured_of(figures, name).items()
        for side, theirs in sides.items()
        if side != "ours"
    ]
    for name, problem, side, mine, theirs in compared:
        ratio, wanted = middle(theirs, "seconds") / middle(mine, "seconds"), CASES[name].targets.get(side)
        more = mean(mine, "accuracy") - mean(theirs, "accuracy")
        verdict = met(ratio, wanted) if wanted else ""
        if wanted and name == "probe":
            verdict += "; more accurate" if more > 0 else f"; no, accuracy {more:+.3f}"
        yield [
            f"{name}, {problem}",
            side,
            spread(mine, "seconds"),
            spread(theirs, "seconds"),
            f"{ratio:.2f}",
            f"{wanted:g}" if wanted else "",
            verdict,
            f"{middle(theirs, 'cpu') / middle(mine, 'cpu'):.2f}",
            f"{middle(mine, 'peak') / 1e6:.0f}, {middle(theirs, 'peak') / 1e6:.0f}",
            f"{mean(mine, 'accuracy'):.3f}, {mean(theirs, 'accuracy'):.3f}",
        ]


def memory(figures: dict[str, Any]) -> Iterator[list[str]]:
    for sides in measured_of(figures, "memory").values():
        for side, rows in sides.items():
            share, wanted = middle(rows, "peak") / middle(sides["full"], "peak"), MEMORY[side][1]
            verdict = [f"{wanted:g}", met(wanted / share, 1)] if wanted else ["", ""]
            yield [side, spread(rows, "peak", 1e-6, ".0f"), f"{share:.2f}", *verdict]


def processes(figures: dict[str, Any]) -> Iterator[list[str]]:
    for sides in measured_of(figures, "processes").values():
        alone = middle(sides["1 process"], "seconds")
        for side, rows in sides.items():
            share = alone / middle(rows, "seconds") / PROCESSES[side]
            verdict = [f"{EFFICIENT:g}", met(share, EFFICIENT)] if PROCESSES[side] > 1 else ["", ""]
            yield [side, spread(rows, "seconds"), f"{share:.2f}", *verdict, f"{mean(rows, 'accuracy'):.3f}"]


def scaling(figures: dict[str, Any]) -> Iterator[list[str]]:
    for sides in measured_of(figures, "scaling").values():
        fewest: dict[str, float] = {}  # seconds an example
        for side, rows in sides.items():
            name, _, size = side.rpartition(" ")
            each = middle(rows, "seconds") / int(size)
            grown = each / fewest.setdefault(name, each)
            verdict = [f"{FLAT:g}", met(FLAT / grown, 1)]
            yield [name, f"{int(size):,}", spread(rows, "seconds"), f"{each * 1e6:,.0f}", f"{grown:.2f}", *verdict]


def markdown(titles: str, rows: Iterable[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {titles} |", "|---" * (titles.count("|") + 1) + "|", *lines]) if lines else ""


def table(figures: dict[str, Any]) -> str:
    about = figures["about"]
    first = "case | against Trainer | ours, s | Trainer, s | times faster | target | met | times less CPU"
    parts = [
        markdown(f"{first} | peak above the model, MB: ours, Trainer | accuracy: ours, Trainer", speed(figures)),
        markdown("ours | peak above the loaded model, MB | of full | at most | met", memory(figures)),
        markdown(
            "ours | training rows | seconds | ms for 1,000 rows | of that with the fewest | at most | met",
            scaling(figures),
        ),
        markdown(
            "LoRA, 3 epochs, a thread each | seconds | efficiency | at least | met | accuracy", processes(figures)
        ),
        f"Base {about['base']}; {about['limit']:,} training rows and {about['limit_eval']:,} validation and test rows "
        f"at most, {about['max_length']} tokens a text; batches of {about['batch_size']}; {turns(figures)}; "
        f"ours and the tutorial in {'fp32' if about['precision'] == 'no' else 'bf16 autocast'}"
        f"{'; Trainer saves nothing' * about['no_best']}; "
        f"{about['threads']} threads; torch {about['torch']}, transformers {about['transformers']}.",
    ]
    return "\n\n".join(part for part in parts if part)


def turns(figures: dict[str, Any]) -> str:
    """Return how many turns each case was measured in, and with how many seeds."""
    of = {name: 1 + max(row["turn"] for row in figures["rows"] if row["case"] == name) for name in cases_of(figures)}
    usual = max(of.values())
    fewer = ", ".join(f"{name}: {count}" for name, count in of.items() if count != usual)
    return f"{usual} turns{f' ({fewer})' if fewer else ''} of {min(figures['about']['seeds'], usual)} seeds"


def cases_of(figures: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["case"] for row in figures["rows"]))


def short(figures: dict[str, Any]) -> str:
    """Return a row for each case: how many times faster, and in brackets the target."""
    rows = []
    for name, case in CASES.items():
        for problem, sides in measured_of(figures, name).items():
            cells = []
            for side in (*COLUMNS, "full"):
                ratio = middle(sides[side], "seconds") / middle(sides["ours"], "seconds") if side in sides else None
                target = f" ({case.targets[side]:g})" if side in case.targets else ""
                cells.append("" if ratio is None else f"{ratio:.2f}{target}")
            rows.append([f"{name}, {problem}", *cells])
    titles = "times faster than Trainer, in brackets the target | as its tutorials write it | at its best"
    return markdown(f"{titles} | at its defaults (fp32) | training everything", rows)


def chart(figures: dict[str, Any], path: Path) -> None:
    """Draw how many times faster ours is; of a case with several data sets, the one where it is least."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = [name for name in CASES if measured_of(figures, name)]
    figure, axes = pyplot.subplots(1, len(cases), figsize=(2.4 * len(cases), 2.8), squeeze=False)
    for axis, name in zip(axes[0], cases, strict=True):
        ratios: dict[str, float] = {}
        for sides in measured_of(figures, name).values():
            for side, rows in sides.items():
                ratio = middle(rows, "seconds") / middle(sides["ours"], "seconds")
                if side != "ours":
                    ratios[side] = min(ratio, ratios.get(side, ratio))
        bars = axis.bar(list(ratios), list(ratios.values()), color=["#2a6f97", "#8c8c8c", "#bcbcbc", "#d9d9d9"])
        axis.bar_label(bars, fmt="%.2f", fontsize=8)
        for i, side in enumerate(ratios):
            if wanted := CASES[name].targets.get(side):
                axis.hlines(wanted, i - 0.4, i + 0.4, color="black", linewidth=1.2)  # the target
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("times faster than Trainer\n(lines: targets)", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
