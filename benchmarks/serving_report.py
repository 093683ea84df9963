"""The tables of `benchmarks/serving.py` and `benchmarks/serving_adapters.py`, in Markdown."""

from __future__ import annotations

from typing import Any

import pages

_TITLES = ["requests a second", "p50, ms", "p99, ms", "CPU a request, ms", "memory, MB"]
_KEYS = ["requests_per_second", "p50_ms", "p99_ms", "cpu_ms_per_request", "memory_mb"]


def sides(figures: dict[str, Any]) -> str:
    """Return a table for each number of clients, and the times of 400 questions."""
    lines = []
    for load in ("1 clients", "32 clients"):
        rows = [[side, *_cells(measured)] for side, measured in figures[load].items()]
        lines += [pages.table([load.replace("1 clients", "1 client"), *_TITLES], rows), ""]
    title = "400 head-only questions on one text"
    times = ", ".join(f"{side} {ms:.0f} ms" for side, ms in figures[f"{title}, ms"].items())
    return "\n".join([*lines, f"{title}: {times}. {_machine(figures)}"])


def adapters(figures: dict[str, Any]) -> str:
    """Return a row for each load."""
    rows = [[load, *_cells(measured)] for load, measured in figures.items() if isinstance(measured, dict)]
    return pages.table(["adapters", *_TITLES], rows) + f"\n\n{figures['clients']} clients. {_machine(figures)}"


def _cells(measured: dict[str, float]) -> list[str]:
    return [f"{measured[key]:,.0f}" if measured[key] >= 100 else f"{measured[key]:.1f}" for key in _KEYS]


def _machine(figures: dict[str, Any]) -> str:
    load = figures.get("load")
    busy = "" if load is None else f"; load average of the machine when it began {load:.1f}"
    return f"{figures['cpu']}, {figures['cores']} cores{busy}."
