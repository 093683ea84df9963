"""Put what a benchmark measured between a page's marks, `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def block(mark: str) -> re.Pattern[str]:
    """Return the pattern of a marked block; its first group is the text between the marks."""
    return re.compile(f"<!-- {mark}:begin -->\n(.*?)\n<!-- {mark}:end -->", re.DOTALL)


def update(page: Path, texts: dict[str, str]) -> None:
    """Replace the text of each mark that the page has; exit where it has none of them."""
    before = text = page.read_text(encoding="utf-8")
    marks = [mark for mark in texts if block(mark).search(text)]
    if not marks:
        raise SystemExit(f"{page} has no block to update: <!-- {' or '.join(texts)}:begin -->")
    for mark in marks:
        fresh = f"<!-- {mark}:begin -->\n{texts[mark]}\n<!-- {mark}:end -->"
        text = block(mark).sub(lambda _, fresh=fresh: fresh, text)  # type: ignore[misc]
    if text != before:
        page.write_text(text, encoding="utf-8")


def table(titles: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in [titles, *rows]]
    return "\n".join([lines[0], "|---" * len(titles) + "|", *lines[1:]])


def rendered(figures: dict[str, Any]) -> str:
    """Return a table of titles, rows and a note, as the JSON files of docs/figures hold it, in Markdown."""
    return f"{table(figures['titles'], figures['rows'])}\n\n{figures['note']}"


def cpu_name() -> str:
    """Return the name of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
