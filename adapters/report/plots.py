"""Plots of results as inline SVG, drawn by matplotlib; colours are the page's, so that they follow its dark mode."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .results import Candidate, Results

TEXT, LINE, SERIES = "#000001", "#000002", "#0000{:02x}"
"""Colours that are replaced by the variables of the page's style sheet."""
_FIRST = 0xA0
_COLOURS = 12
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.edgecolor": LINE,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "text.color": TEXT,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Plot:
    """A plot: a title, a sentence for screen readers, and the SVG."""

    title: str
    text: str
    svg: str


def plots_of(results: Results) -> dict[str, list[Plot]]:
    """Return the plots of results by section; a section that has nothing to draw is left out."""
    drawn = {
        "cost": _costs(results),
        "learning": _learning(results),
        "trials": _trials(results),
        "calibration": _calibration(results),
        "numbers": _numbers(results),
    }
    return {name: plots for name, plots in drawn.items() if plots}


def colour(number: int) -> str:
    """Return the colour of a candidate by its number."""
    return SERIES.format(_FIRST + number % _COLOURS)


def _drawn(title: str, text: str, draw: Callable[[Any], None], *, size: tuple[float, float] = (5.6, 3.4)) -> Plot:
    """Return what `draw` draws on a figure."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return Plot(title, text, _inline(out.getvalue(), title, text))


def _inline(svg: str, title: str, text: str) -> str:
    """Return a document of matplotlib as an element: named, of the page's colours and as wide as there is room."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace(TEXT, "var(--fg)").replace(LINE, "var(--line)")
    for number in range(_COLOURS):
        svg = svg.replace(colour(number), f"var(--c{number})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", svg)
    svg = re.sub(r'<g id="mark ([^"]*)">', lambda m: f'<g class="mark"><title>{m[1]}</title>', svg)
    label = escape(f"{title}: {text}", quote=True)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    return re.sub(r"\n\s*", "\n", svg).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _mark(artist: Any, text: str) -> None:
    """Make an artist a mark of the plot with a tooltip."""
    artist.set_gid(f"mark {text}")


# ---- quality against cost


def _costs(results: Results) -> list[Plot]:
    of: list[tuple[str, str, Callable[[Candidate], float | None]]] = [
        ("Quality and size", "bytes of the adapter", lambda c: c.costs.bytes),
        ("Quality and training time", "seconds of training", lambda c: c.costs.seconds),
        ("Quality and inference time", "milliseconds a row", lambda c: 1000 / c.costs.rate if c.costs.rate else None),
    ]
    return [plot for title, unit, cost in of if (plot := _cost_plot(results, title, unit, cost)) is not None]


def _cost_plot(results: Results, title: str, unit: str, cost: Callable[[Candidate], float | None]) -> Plot | None:
    points = []
    for number, candidate in enumerate(results.candidates):
        measured = candidate.metrics.get(results.split)
        value = measured.values.get(results.metric) if measured is not None else None
        x = cost(candidate)
        if not candidate.error and value is not None and x and candidate.costs.parameters != 0:  # not the majority
            points.append((x, value, candidate.name, number))
    if len(points) < 2:
        return None
    front = pareto([(x, y) for x, y, _, _ in points], lower=results.lower_is_better)
    names = ", ".join(points[i][2] for i in front)
    from matplotlib.ticker import EngFormatter

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([points[i][0] for i in front], [points[i][1] for i in front], color=LINE, lw=1.5, zorder=1)
        for i, (x, y, name, number) in enumerate(points):
            chosen = i in front
            (mark,) = axes.plot([x], [y], marker="o" if chosen else "s", ms=9 if chosen else 6, color=colour(number))
            _mark(mark, f"{name}: {results.metric} {y:.4f}, {x:,.4g} {unit}")
        if max(x for x, *_ in points) > 20 * min(x for x, *_ in points):
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 2M bytes
        axes.margins(x=0.18, y=0.15)
        low, high = axes.get_ylim()
        if max(y for _, y, *_ in points) <= 1 < high:  # few metrics exceed 1
            axes.set_ylim(low, 1 + 0.1 * (1 - low))
        axes.set_xlabel(unit)
        axes.set_ylabel(f"{results.metric} ({results.split})")
        _label(figure, axes, [(x, y, name) for x, y, name, _ in points])

    text = f"{results.metric} of {len(points)} candidates against {unit}; the Pareto front is {names}"
    return _drawn(title, text, draw, size=(5.0, 3.4))


def _label(figure: Any, axes: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Write names beside points, each at the nearest place within the axes that no other name and no point covers.

    A name that is not beside its point has a line to it.
    """
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    edge = axes.bbox.extents * scale
    at = [axes.transData.transform(point[:2]) * scale for point in points]
    covered = [(left - 4, bottom - 4, left + 4, bottom + 4) for left, bottom in at]
    places = [(dy, side) for dy in (4, -12, 16, -24, 28, -36, 40, -48) for side in ("left", "right", "center")]
    places.remove((4, "center"))  # on the point itself
    for x, y, name in sorted(points, key=lambda point: point[1]):
        left, bottom = axes.transData.transform((x, y)) * scale
        width, boxes = 5.2 * len(name), {}
        for dy, side in places:
            start = left + {"left": 7, "right": -7 - width, "center": -width / 2}[side]
            boxes[dy, side] = (start, bottom + dy, start + width, bottom + dy + 10)
        free = [place for place in places if _is_free(boxes[place], edge, covered)]
        dy, side = (free or places)[0]
        covered.append(boxes[dy, side])
        line = {"arrowprops": {"arrowstyle": "-", "color": LINE}} if abs(dy) > 16 else {}
        offset = ({"left": 7, "right": -7, "center": 0}[side], dy)
        axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", fontsize=9, ha=side, **line)


def _is_free(box: Sequence[float], edge: Sequence[float], covered: Sequence[Sequence[float]]) -> bool:
    """Return whether a box, (left, bottom, right, top), is within the edge and overlaps none of those covered."""
    inside = edge[0] <= box[0] and box[2] <= edge[2] and edge[1] <= box[1] and box[3] <= edge[3]
    return inside and not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in covered)


def pareto(points: Sequence[tuple[float, float]], *, lower: bool = False) -> list[int]:
    """Return the numbers of the points that no other beats in cost and quality, the cheapest first."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], points[i][1] if lower else -points[i][1]))
    front: list[int] = []
    for i in order:
        y = points[i][1]
        if not front or (y < points[front[-1]][1] if lower else y > points[front[-1]][1]):
            front.append(i)
    return front


# ---- training


def _learning(results: Results) -> list[Plot]:
    curves = []
    for number, candidate in enumerate(results.candidates):
        values = [epoch.get(results.metric) for epoch in candidate.history]
        if len(values) > 1:
            curves.append((candidate.name, number, [math.nan if v is None else v for v in values]))
    if not curves:
        return []

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        styles = itertools.cycle(("-", "--", ":", "-."))
        for (name, number, values), style in zip(curves, styles, strict=False):
            (line,) = axes.plot(range(1, len(values) + 1), values, style, marker="o", ms=4, color=colour(number))
            line.set_label(name)
            _mark(line, f"{name}: {', '.join(f'{v:.3f}' for v in values)}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{results.metric} (validation)")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)

    text = f"{results.metric} on the validation rows after each epoch, of {', '.join(c[0] for c in curves)}"
    return [_drawn("Learning curves", text, draw)]


def _trials(results: Results) -> list[Plot]:
    plots = []
    for number, candidate in enumerate(results.candidates):
        done = [t for t in candidate.trials if t.score is not None]
        names = [n for n in (done[0].options if done else ()) if all(_is_number(t.options.get(n)) for t in done)]
        if len(done) > 2 and names:
            plots.append(_trial_plot(results, candidate.name, number, done, names[:3]))
    return plots


def _trial_plot(results: Results, name: str, number: int, done: Sequence[Any], options: Sequence[str]) -> Plot:
    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(options), sharey=True, squeeze=False)[0]
        for axes, option in zip(panels, options, strict=True):
            for trial in done:
                marker = "o" if trial.state == "done" else "x"
                (mark,) = axes.plot([trial.options[option]], [trial.score], marker, color=colour(number))
                _mark(mark, f"{option} {trial.options[option]:.4g}: {results.metric} {trial.score:.4f}, {trial.state}")
            tried = sorted({t.options[option] for t in done})
            if tried[0] > 0:
                axes.set_xscale("log")
            if len(tried) <= 5:
                axes.set_xticks(tried, [f"{value:g}" for value in tried])
                axes.minorticks_off()
            axes.set_xlabel(option)
        panels[0].set_ylabel(f"{results.metric} (validation)")

    text = f"{len(done)} trials of {', '.join(options)} against {results.metric}; crosses were stopped early"
    return _drawn(f"Trials of {name}", text, draw)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- predictions


def _calibration(results: Results) -> list[Plot]:
    some = [(c.name, i, c.tables) for i, c in enumerate(results.candidates) if c.tables.get("calibration")]
    if not some:
        return []

    def draw(figure: Any) -> None:
        columns = min(3, len(some))
        panels = figure.subplots(math.ceil(len(some) / columns), columns, sharex=True, sharey=True, squeeze=False)
        for axes in panels.flat[len(some) :]:
            axes.set_visible(False)
        for axes, (name, number, tables) in zip(panels.flat, some, strict=False):
            axes.plot([0, 1], [0, 1], color=LINE, lw=1)
            count = sum(row["rows"] for row in tables["calibration"])
            for row in tables["calibration"]:
                radius = 3 + 7 * math.sqrt(row["rows"] / count)
                (mark,) = axes.plot([row["confidence"]], [row["accuracy"]], "o", color=colour(number), ms=radius)
                _mark(
                    mark, f"{name}: {row['rows']} rows, confidence {row['confidence']:.2f}, right {row['accuracy']:.2f}"
                )
            axes.set_title(f"{name}\nECE {tables['ece']:.3f}", fontsize=9)
            axes.set_xlim(0, 1.05)
            axes.set_ylim(-0.05, 1.05)
        figure.supxlabel("confidence", fontsize=10)
        figure.supylabel("share of right answers", fontsize=10)

    text = "; ".join(f"{name}: expected calibration error {tables['ece']:.3f}" for name, _, tables in some)
    return [_drawn("Reliability", text, draw, size=(6.0, 2.2 * math.ceil(len(some) / 3) + 0.5))]


def _numbers(results: Results) -> list[Plot]:
    plots = []
    for number, candidate in enumerate(results.candidates):
        if points := candidate.tables.get("points"):
            plots.append(_number_plot(candidate.name, number, points))
    return plots


def _number_plot(name: str, number: int, points: Sequence[Sequence[float]]) -> Plot:
    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        truth, guess = zip(*points, strict=True)
        ends = [min(*truth, *guess), max(*truth, *guess)]
        left.plot(ends, ends, color=LINE, lw=1)
        right.axhline(0, color=LINE, lw=1)
        (mark,) = left.plot(truth, guess, "o", ms=3, color=colour(number))
        _mark(mark, f"{name}: predicted against expected")
        (mark,) = right.plot(guess, [g - t for t, g in points], "o", ms=3, color=colour(number))
        _mark(mark, f"{name}: residuals")
        left.set_xlabel("expected")
        left.set_ylabel("predicted")
        right.set_xlabel("predicted")
        right.set_ylabel("predicted minus expected")

    return _drawn(
        f"Numbers of {name}", f"predicted against expected numbers of {len(points)} rows, and residuals", draw
    )
