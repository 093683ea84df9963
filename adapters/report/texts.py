"""Results as a table: for the terminal, and as csv."""

from __future__ import annotations

import csv
import io
from typing import Any

from ..display import size
from .results import Candidate, Results

COLUMNS = (
    *("name", "kind", "error", "registered", "seeds", "seconds", "memory", "bytes", "parameters", "rate"),
    *("rate_beside", "command"),
)

_SHORT = 32
"""The most characters of an error in the table."""


def result_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of the candidates, the best on the validation rows first, for reading."""
    splits = list(dict.fromkeys(("validation", results.split)))
    measured = [split for split in splits if any(split in c.metrics for c in results.candidates)]
    heads = [f"{results.metric} ({split})" for split in measured]
    columns = ["", *heads, "to the best", "train s", "memory", "adapter", "learned", "rows/s", "beside 31"]
    return columns, [_row(results, candidate, measured) for candidate in results.candidates]


def _row(results: Results, candidate: Candidate, splits: list[str]) -> list[str]:
    if candidate.error:
        short = candidate.error if len(candidate.error) <= _SHORT else f"{candidate.error[: _SHORT - 1]}…"
        return [candidate.name, f"failed: {short}", *[""] * (len(splits) + 6)]  # the sentences below have all of it
    costs = candidate.costs
    return [
        candidate.name,
        *(metric_text(candidate, split, results.metric) for split in splits),
        difference_text(results, candidate),
        _number(costs.seconds, ",.1f"),
        _bytes(costs.memory),
        _bytes(costs.bytes),
        _number(costs.parameters, ",.0f"),
        _number(costs.rate, ",.0f"),
        _number(costs.rate_beside, ",.0f"),
    ]


def metric_text(candidate: Candidate, split: str, metric: str) -> str:
    """Return a candidate's metric on a split with its interval."""
    measured = candidate.metrics.get(split)
    value = None if measured is None else measured.values.get(metric)
    if measured is None or value is None:
        return "-"
    low, high = measured.intervals.get(metric, (None, None))
    return f"{value:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def difference_text(results: Results, candidate: Candidate) -> str:
    """Return the paired difference to the best strategy in words: best, not distinguished, or its interval."""
    if candidate.name == results.best:
        return "best"
    gap = candidate.differences.get(results.split)
    if gap is None or gap.value is None:
        return "-"
    ends = "" if gap.low is None or gap.high is None else f" [{gap.low:+.3f}, {gap.high:+.3f}]"
    better = gap.value < 0 if results.lower_is_better else gap.value > 0
    word = "alike" if gap.same else "better" if better else "worse"
    return f"{gap.value:+.3f}{ends} {word}"


def csv_text(results: Results) -> str:
    """Return the table of candidates as csv, with every metric of every split and the ends of its interval."""
    measured = {(split, name): None for c in results.candidates for split, m in c.metrics.items() for name in m.values}
    heads = [f"{split} {name}{end}" for split, name in measured for end in ("", " low", " high")]
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*COLUMNS, *heads])
    for candidate in results.candidates:
        values: list[Any] = [_cell(candidate, name) for name in COLUMNS]
        for split, name in measured:
            of = candidate.metrics.get(split)
            values += ["", "", ""] if of is None else [of.values.get(name), *of.intervals.get(name, ("", ""))]
        table.writerow(values)
    return out.getvalue()


def _cell(candidate: Candidate, name: str) -> Any:
    if name == "seeds":
        return " ".join(map(str, candidate.seeds))
    return getattr(candidate, name, None) if hasattr(candidate, name) else getattr(candidate.costs, name)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _bytes(value: float | None) -> str:
    return "-" if value is None else size(int(value))
