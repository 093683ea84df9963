"""Table and chart of what benchmarks/pool.py measured."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages

Figures = dict[str, Any]
SHOWN = {  # steps counted in passes of the bare base: what, and the target
    "mixed": ("32 LoRA adapters, one row each, passes", "1.10"),
    "heads": ("8 head-only adapters on the same 16 texts, passes", "1.1"),
    "top": ("8 layerwise adapters of the top quarter of 12 blocks, same 16 texts, passes", "2.8"),
}


def table(figures: Figures) -> str:
    """Return the figures as a Markdown table, each with its target and what PEFT, or a loop by hand, takes."""
    rows = [*lookups(figures), *loads(figures), *passes(figures), *rest(figures)]
    text = pages.table(["what", "target", "pool", "compared with"], rows)
    threads = {step: machine["threads"] for step, machine in figures["machine"].items()}
    counts = sorted({*threads.values()})
    used = [f"{n} thread{'s' * (n > 1)}: {', '.join(s for s in threads if threads[s] == n)}" for n in counts]
    return f"{text}\n\nMeasured with {'; with '.join(used)}."


def ms(value: dict[str, float]) -> str:
    return f"{value['median']:.3g} ({value['low']:.3g} to {value['high']:.3g})"


def lookups(figures: Figures) -> Iterator[list[str]]:
    worst = max(v for k, v in figures["exact"].items() if k != "base tensors changed")
    yield ["largest difference to each adapter alone (logits)", "1e-5", f"{worst:.1e}", ""]
    request = figures["request"]
    for adapter in ("the same adapter", "another adapter"):
        ours, theirs = request[f"pool, {adapter}"], request[f"PEFT, {adapter}"]
        how = "PEFT `set_adapter` and a pass" if adapter == "another adapter" else "PEFT, a pass"
        yield [f"request of one text to {adapter}, 64 loaded, ms", "", ms(ours), f"{how} {ms(theirs)}"]
    for key, value in figures["lookup"].items():
        yield [f"of that, looking up the adapter: {key.removeprefix('pool, ')}, ms", "0.1", ms(value), ""]


def loads(figures: Figures) -> Iterator[list[str]]:
    load = figures["load"]
    theirs = {
        "pool": f"PEFT `load_adapter` {ms(load['PEFT load_adapter, the first 8'])}",
        "pool of a registry": "",
    }
    for kind, compared in theirs.items():
        first, late = load[f"{kind}, the first 50"], load[f"{kind}, around the 500th"]
        what, ratio = f"cold load, {kind}".removesuffix(", pool"), late["median"] / first["median"]
        yield [f"{what}, first, ms", "3", ms(first), compared]
        yield [f"{what}, the 500th, ms", "1.2x the first", f"{ms(late)}: {ratio:.2f}x", ""]
    peft, late = load["PEFT load_adapter, the last 8 of 64"], load["pool, around the 500th"]
    less = f"{peft['median'] / late['median']:.0f}x less"
    yield ["cold load with 64 loaded, ms", "30x less", less, f"PEFT `load_adapter` {ms(peft)}"]


def passes(figures: Figures) -> Iterator[list[str]]:
    for step, (what, target) in SHOWN.items():
        one = figures[step]["bare base"]["median"]
        sides = {k: f"{v['median'] / one:.2f}" for k, v in figures[step].items() if not k.startswith(("bare", "pool"))}
        yield [what, target, counted(figures, step, "pool"), listed(sides) if step != "top" else ""]
        if step == "top":
            yield ["8 LoRA adapters of the same blocks, same texts, passes", "", counted(figures, step, "pool, LoRA"),
                   listed(sides)]  # fmt: skip


def counted(figures: Figures, step: str, side: str) -> str:
    """Return a side's time in passes of the bare base, with quartiles."""
    one, spent = figures[step]["bare base"]["median"], figures[step][side]
    return f"{spent['median'] / one:.2f} ({spent['low'] / one:.2f} to {spent['high'] / one:.2f})"


def listed(sides: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in sides.items())


def rest(figures: Figures) -> Iterator[list[str]]:
    zipf, memory = figures["zipf"], figures["memory"]
    share = zipf["all resident"]["median"] / zipf["a quarter resident"]["median"]
    rate = f"working set of 4x the slots (hit rate {zipf['hit rate']:.2f}), throughput of all resident"
    yield [rate, "0.9", f"{share:.2f}", ""]
    count = f"{memory['adapters']:.0f} resident adapters"
    yield [f"bytes for each of {count} / of its tensors", "1.1", f"{memory['ratio']:.2f}", ""]
    for what, sides in figures["impossible"].items():
        yield [what, "", sides["pool"], f"PEFT `{sides['PEFT']}`"]


def chart(figures: Figures, path: Path) -> None:
    """Draw what each side takes, in passes of the bare base."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = {
        "mixed": "32 LoRA adapters,\none row each",
        "heads": "8 heads on\nthe same texts",
        "top": "8 LoRA adapters of the\ntop quarter, same texts",
    }
    figure, axes = pyplot.subplots(1, 3, figsize=(9, 2.8))
    for axis, (step, title) in zip(axes, titles.items(), strict=True):
        one = figures[step]["bare base"]["median"]
        skipped = ("bare base", "pool") if step == "top" else ("bare base",)
        sides = {textwrap.fill(k, 14): v["median"] / one for k, v in figures[step].items() if k not in skipped}
        bars = axis.bar(list(sides), list(sides.values()), color=["#2a6f97", "#bcbcbc", "#8c8c8c"][: len(sides)])
        axis.bar_label(bars, fmt="%.2f", fontsize=8)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("passes of the bare base", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def finish(figures: Figures, args: argparse.Namespace) -> None:
    """Print the table, and write what the arguments name."""
    text = table(figures)
    if args.table:
        args.table.write_text(text + "\n")
    if args.chart:
        chart(figures, args.chart)
    for page in args.update:
        pages.update(page, {"pool": text})
    print(text)
